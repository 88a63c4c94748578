"""Turns data and settings into what a pre-training run is made of: its state, batches, objective and engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from bertwright.batch_layout import UNKNOWN_ROWS, RowLayout
from bertwright.compiler import compiled_where_trained, run_alike, try_compiled, why_not
from bertwright.data.pretraining.dataset import Dataset
from bertwright.device import matmul_rate, pick_device, product_dtype, resolve_precision
from bertwright.errors import ConfigError
from bertwright.hub.mappings.known import mapping_of
from bertwright.log import note
from bertwright.model.build import build_encoder
from bertwright.model.encoder import Encoder
from bertwright.model.init.begin import initialise
from bertwright.model.layers.dropout import begin_at_row
from bertwright.objectives.base import Objective
from bertwright.objectives.word_loss import leaves_scores
from bertwright.rng import key_of
from bertwright.train.auxiliary import (
    ModelWithAuxiliary,
    ModelWithHead,
    ObjectiveWithAuxiliary,
    auxiliary_of,
    encoder_of,
    head_of,
)
from bertwright.train.ema import EMA
from bertwright.train.optim.muon import MakeMuon, Muon
from bertwright.train.optim.optimizers import build_optimizers
from bertwright.train.parallel.group import ALONE, Group
from bertwright.train.setup.cuda_graphs import GraphedStep, why_no_graph
from bertwright.train.setup.init_from import Start, go_on_from
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.train.setup.pretrain_loader import PretrainLoader, objective_of
from bertwright.train.setup.step_parts import compute_in_parts, ends_of
from bertwright.train.state import Progress, TrainState
from bertwright.train.step import Engine, ForwardLoss, forward_loss_of
from bertwright.types import Loss

UNCOMPILED = "running uncompiled, slower: the compiler did not work here"
FIRST_BATCHES = 4
"""Batches of a phase that say whether its rows are full."""


def build(
    dataset: Dataset,
    config: PretrainConfig,
    *,
    start: Start | None = None,
    fresh: bool = True,
    group: Group = ALONE,
) -> tuple[TrainState, PretrainLoader, Objective, Engine]:
    """Return a run at its beginning; raises DataError or ConfigError with the reason where its parts do not fit.

    It begins with the weights of the model of `start`, if any, and is evaluated before its first step then. Weights
    that will be loaded, or only timed, need no start: not `fresh`, the corpus is not read for one. `group` is the
    processes of the run.
    """
    require_rows(config, group)
    special, device = dataset.tokenizer.special, pick_device()
    shape = config.shape(vocab_size=dataset.vocab_size, pad_token_id=special.pad)
    mapping_of(shape)  # a model that cannot be written is refused before it is trained
    objective = objective_of(
        config,
        vocab_size=dataset.vocab_size,
        mask_id=special.mask,
        similar=lambda: group.same_tensor(dataset.similar_words.to(device)),
    )
    loader = PretrainLoader(dataset, config, objective, shape, group=group)
    engine = Engine(
        device=device,
        seed=config.seed,
        clip_norm=config.optimizer.clip_norm,
        precision=resolve_precision(config.engine.precision, device),
        group=group,
        sharded=group.size > 1 and config.engine.parallel == "fsdp",
        begin_at_row=begin_at_row if group.size > 1 else None,
    )
    torch.manual_seed(key_of("initialise", config.seed))
    model = build_encoder(shape, drawn=fresh).to(device)
    if objective.rows != "single" and not model.has_nsp_head:
        raise ConfigError(
            f"objective: {config.model.architecture} has no head for pairs of segments; give "
            "--objective.next-sentence false, or objectives about tokens as --objective.names"
        )
    if start is not None and fresh and group.is_main:
        go_on_from(
            start, model, dataset, pairs=objective.rows != "single", examples=loader.first_examples,
            neighbours=config.model.new_vectors == "neighbours",
        )  # fmt: skip
    elif fresh and group.is_main:
        initialise(
            model, config.model, dataset.neighbour_counts, special=special,
            next_sentence=objective.rows == "pairs", examples=loader.first_examples,
        )  # fmt: skip
    auxiliary = auxiliary_of(objective, model, seed=config.seed, device=device)
    head = head_of(objective, shape, seed=config.seed, device=device)
    trained: nn.Module = model if auxiliary is None else ModelWithAuxiliary(model, auxiliary)
    trained = trained if head is None else ModelWithHead(model, head)
    if group.size == 1:
        for one in (model, auxiliary):
            if one is not None:
                one.leaves_scores = leaves_scores(device, slots=_most_slots(loader), vocab_size=dataset.vocab_size)
    group.same_weights(trained)
    compute_in_parts(1 if config.engine.parts == "auto" else config.engine.parts, trained, loader, engine)
    state = TrainState(
        trained,
        optimizers_of(trained, config, group, dtype=product_dtype(engine.precision)),
        Progress(drawn=[0] * len(config.schedule.phases)),
        average=None if config.average.name == "none" else EMA(trained, config.average),
        callbacks_done=start is None or not fresh,
    )
    scorer = model if objective.asks_model else auxiliary
    if scorer is None:
        return state, loader, objective, engine
    return state, loader, ObjectiveWithAuxiliary(objective, scorer, engine.cast), engine


def _most_slots(loader: PretrainLoader) -> int:
    """Return the most slots of a micro-batch that are scored, in any phase of a run."""
    return max(
        phase.rows // loader.accumulation * loader.objective.masked_slots(phase.length, fraction)
        for number, phase in enumerate(loader.schedule.phases)
        for fraction in ends_of(loader, number)
    )


def require_rows(config: PretrainConfig, group: Group) -> None:
    """Raise ConfigError where a process of `group` would have no rows of a step, or another number of slices."""
    count, size = config.engine.accumulation, group.size
    fewest = min(phase.rows // count for phase in config.schedule.phases)
    if count % size and fewest < size:
        raise ConfigError(
            f"schedule.phases: micro-batches of {fewest} rows cannot be shared out among {size} processes; start fewer "
            "processes, or give a phase more rows"
        )
    parts = 1 if config.engine.parts == "auto" else config.engine.parts
    pieces = parts if count % size == 0 else parts * size
    if parts > 1 and fewest < pieces:
        raise ConfigError(
            f"engine.parts: micro-batches of {fewest} rows cannot be cut into {pieces} parts; give fewer parts, or a "
            "larger --batch-size"
        )
    if config.engine.parallel == "fsdp" and count % size and size % count:
        raise ConfigError(
            f"engine.parallel fsdp: {size} processes must have as many pieces of a step each, and it has {count} "
            f"micro-batches; give --accumulation 1, or a number that divides {size} or that {size} divides"
        )


def optimizers_of(
    model: nn.Module, config: PretrainConfig, group: Group, *, dtype: torch.dtype
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a run, which share their moments out among the processes of `group` as settings say."""
    muon = muon_of(model, config, group, dtype=dtype)
    optimizers = build_optimizers(model, config.optimizer, dtype=dtype, muon=muon)
    if group.size > 1 and config.engine.parallel == "zero1":
        from bertwright.train.optim.shared_moments import share_moments

        for optimizer in optimizers:
            if not isinstance(optimizer, Muon):  # which shares its matrices out by itself
                share_moments(optimizer, group)
    return optimizers


def muon_of(model: nn.Module, config: PretrainConfig, group: Group, *, dtype: torch.dtype) -> MakeMuon:
    """Return what makes Muon for the processes of `group`; cuts the weights up among them first, if they are to be.

    `dtype` is what matrix products run in, and what weights that are cut up are gathered as.
    """
    if group.size == 1:
        return Muon
    # Imported here: sharded tensors take a second, which a run of one process need not wait for.
    from bertwright.train.optim.muon_distributed import ShardedMuon, SharedMuon
    from bertwright.train.parallel.wrap import shard

    if config.engine.parallel != "fsdp":
        return partial(SharedMuon, group=group)
    for module in modules_of(model):
        shard(module, dtype=dtype)
    return partial(ShardedMuon, group=group)


def modules_of(model: nn.Module) -> list[nn.Module]:
    """Return the model that is trained, and the auxiliary one beside it, if any."""
    return [model.model, model.auxiliary] if isinstance(model, ModelWithAuxiliary) else [model]


def compiled_loss(
    state: TrainState, loader: PretrainLoader, objective: Objective, engine: Engine, *, autotune: bool = False
) -> ForwardLoss | None:
    """Return model and loss compiled for the shapes of every phase; None where that does not work, with a note."""
    plain, shape = forward_loss_of(state.model, objective, engine.cast), loader.shape
    no_graph = why_no_graph(graphed_step(loader, objective, engine))
    for graphs in (True, False) if no_graph is None else (False,):
        try:
            loss, reason = try_compiled(
                plain,
                lambda compiled: _run_each_phase(compiled, plain, state.model, loader, objective, engine),
                drops=shape.dropout > 0 or shape.attention_dropout > 0,
                autotune=autotune,
                graphs=graphs,
            )
        except (RuntimeError, MemoryError):  # as it is raised where memory runs out
            if not graphs:
                raise
            reason = "they take more memory than there is"
        if reason is None:
            return steady(loss, loader, engine)
        note(f"no CUDA graphs: {reason}" if graphs else f"{UNCOMPILED} ({reason})")
    return None


def graphed_step(loader: PretrainLoader, objective: Objective, engine: Engine) -> GraphedStep:
    """Return what decides whether the step of a run is replayed as a CUDA graph."""
    schedule = loader.schedule
    flops = max(loader.step_flops(phase, schedule.start_of(phase)) for phase in range(len(schedule.phases)))
    pieces = loader.accumulation * loader.parts
    return GraphedStep(
        engine.device.type,
        flops / pieces / loader.shape.layers,
        accumulation=pieces,
        processes=engine.group.size,
        dynamic=objective.has_dynamic_slots,
        auxiliary=isinstance(objective, ObjectiveWithAuxiliary),
    )


def steady(forward_loss: ForwardLoss, loader: PretrainLoader, engine: Engine) -> ForwardLoss:
    """Return a compiled function that is not compiled again for a batch whose rows happen to be full.

    On a GPU rows count as full where those of the first batches of a phase all are.
    """
    gpu, phases = engine.device.type == "cuda", range(len(loader.schedule.phases))
    full = gpu and any(all(loader.draw(phase, t).layout.full for t in range(FIRST_BATCHES)) for phase in phases)

    def of_steady_rows(example: Any) -> Loss:
        layout = RowLayout(full and example.layout.full, example.layout.sequences) if gpu else UNKNOWN_ROWS
        return forward_loss(replace(example, layout=layout))

    return of_steady_rows


def compiled_parts(
    state: TrainState, loader: PretrainLoader, objective: Objective, engine: Engine
) -> ForwardLoss | None:
    """Return model and loss with each block, the head and the loss compiled for itself; None where that does not work.

    For several processes: the gradients of a block are sent while those of others are computed, and sharded weights
    gathered by block. A model compiled whole is compiled again inside DDP, and cut where buckets end, not blocks.
    """
    moving = objective.has_dynamic_slots
    parts = [
        (owner, name)
        for encoder in state.model.modules()
        if isinstance(encoder, Encoder)
        for owner, name in [
            (encoder, "block_inputs"),
            *((part, "forward") for part in (*encoder.blocks, encoder.mlm_head)),
        ]
    ]
    for owner, name in parts:
        setattr(owner, name, compiled_where_trained(getattr(owner, name), dynamic=None if moving else False))
    loss_of: Callable[[Any, Any], Loss] = objective.loss
    if not isinstance(objective, ObjectiveWithAuxiliary):  # which runs a model there, that has parts of its own
        loss_of = compiled_where_trained(loss_of, dynamic=moving)

    def loss(example: Any) -> Loss:
        with engine.cast():
            scores = state.model(example)
        return loss_of(scores, example)

    shape = loader.shape
    reason = why_not(
        lambda: _run_each_phase(loss, None, state.model, loader, objective, engine),
        drops=shape.dropout > 0 or shape.attention_dropout > 0,
    )
    if engine.group.any(reason is not None):  # all go the same way, or their last bits would differ
        for owner, name in parts:
            delattr(owner, name)
        note(f"running uncompiled, slower: the compiler did not work in each process ({reason or 'but in this one'})")
        return None
    return steady(loss, loader, engine)


def _run_each_phase(
    compiled: ForwardLoss,
    plain: ForwardLoss | None,
    model: nn.Module,
    loader: PretrainLoader,
    objective: Objective,
    engine: Engine,
) -> None:
    """Run forward and backward for each shape of each phase, and compare with uncompiled code, where it is given.

    Changes nothing but gradients, which are dropped.
    """
    for phase in range(len(loader.schedule.phases)):
        work = loader.work(phase, 0)
        start = loader.schedule.start_of(phase)
        examples = engine.examples(objective, work, step=0, of=loader.accumulation, fraction=start)

        def run(forward_loss: ForwardLoss, work: Any = work, examples: Any = examples) -> None:
            for (batch_slice, batch), example in zip(work, examples, strict=True):
                engine.begin_dropout(model, 0, batch_slice, row=batch_slice.rows(len(batch.input_ids)).start)
                forward_loss(example).total.backward()  # type: ignore[no-untyped-call]
                if batch_slice.whole:
                    break

        run_alike(partial(run, compiled), None if plain is None else partial(run, plain), model)


def join_processes(
    state: TrainState, objective: Objective, engine: Engine, config: PretrainConfig, loss: ForwardLoss | None = None
) -> None:
    """Have the engine compute the gradients of all processes of the run, with `loss` as model and loss, where given."""
    if engine.group.size == 1:
        engine.forward_loss = loss
        return
    from bertwright.train.parallel.wrap import no_sync, replicated

    encoder = encoder_of(state.model)
    loss = loss or forward_loss_of(state.model, objective, engine.cast)
    if engine.sharded:
        engine.forward_loss, engine.no_sync = loss, partial(no_sync, modules_of(state.model))
        return
    chosen, causal = config.objective.chosen, any(phase.causal for phase in config.schedule.phases)
    all_used = chosen == ("mlm", "nsp") or (chosen == ("mlm",) and not encoder.has_nsp_head)
    engine.forward_loss, engine.no_sync = replicated(
        state.model, loss, all_used=all_used and not (causal and encoder.has_nsp_head)
    )


def peak_flops(loader: PretrainLoader, engine: Engine, *, rounds: int = 6) -> float:
    """Return the measured rate of this machine on the model's own largest block product, to which MFU is relative."""
    phase, shape = loader.schedule.phases[0], loader.shape
    rows = phase.rows // loader.accumulation * phase.length
    width, widest = shape.hidden_size, shape.widest_product
    return matmul_rate(rows, width, widest, precision=engine.precision, device=engine.device, rounds=rounds)
