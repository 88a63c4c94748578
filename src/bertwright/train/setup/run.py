"""Turns resolved settings and a DATA folder into the parts of a run: model, objective, batches, optimizers, step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from bertwright.corpus.shards import Shards, check_tokenizer, read_manifest
from bertwright.data.prefetch import Prefetcher
from bertwright.data.pretraining.batches import BatchSource
from bertwright.data.pretraining.pairs import why_no_pairs
from bertwright.device import (
    autocast,
    matmul_rate,
    pick_device,
    product_dtype,
    resolve_precision,
    try_compiled,
)
from bertwright.errors import ConfigError, DataError
from bertwright.hub.mappings.known import mapping_of
from bertwright.log import note
from bertwright.model.build import build_encoder
from bertwright.model.config import ModelConfig, training_flops
from bertwright.model.encoder import Encoder
from bertwright.model.init.begin import MEASURED_ROWS, begin_weights, no_op
from bertwright.model.layers.dropout import begin_at_row
from bertwright.objectives.base import Objective, PretrainingObjective
from bertwright.objectives.combine import build_objective, needs_pairs
from bertwright.rng import key_of
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.train.auxiliary import ModelWithAuxiliary, ObjectiveWithAuxiliary, auxiliary_of
from bertwright.train.ema import EMA
from bertwright.train.held_out import hold_out
from bertwright.train.loop import PhaseSource
from bertwright.train.optim.muon import MakeMuon, Muon
from bertwright.train.optim.optimizers import build_optimizers
from bertwright.train.parallel.group import ALONE, Group
from bertwright.train.schedule import Phase
from bertwright.train.setup.mixture_of_folders import mix, mixed_manifest, neighbours_of, open_train, shares_of
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.train.step import TrainStep, forward_loss_of
from bertwright.types import Batch, MaskedBatch, TokenRows

EVALUATION_SEED = 2018
"""Held-out rows never depend on the seed of a run, so that runs can be compared."""
EVALUATION_ROWS = 32
"""Rows of a held-out batch; part of which rows are drawn."""


@dataclass(frozen=True)
class Parts:
    """What a run is built from, on its device, not yet compiled."""

    config: PretrainConfig
    manifest: dict[str, Any]
    tokenizer: Tokenizer
    shape: ModelConfig
    model: Encoder
    optimizers: list[torch.optim.Optimizer]
    average: EMA | None
    objective: PretrainingObjective
    trained: nn.Module
    """What is trained: the model, with the auxiliary module of the objective beside it, where there is one."""
    auxiliary: nn.Module | None
    sources: list[PhaseSource]
    device: torch.device
    precision: Literal["bf16", "fp32"]
    group: Group = ALONE
    start: Callable[[], None] = no_op
    """Puts first weights in place that are still being made; called once, after the step is compiled."""

    @property
    def sharded(self) -> bool:
        """Whether each process holds a share of the weights alone."""
        return self.group.size > 1 and self.config.engine.parallel == "fsdp"

    @property
    def trained_on(self) -> Objective:
        """The objective as the training step asks it."""
        if self.auxiliary is None:
            return self.objective
        return ObjectiveWithAuxiliary(self.objective, self.auxiliary, self.cast)

    def cast(self) -> AbstractContextManager[Any]:
        """Return the context forward passes run in."""
        return autocast(self.precision, self.device)


def build(data: Path, config: PretrainConfig, *, fresh: bool = True, group: Group = ALONE) -> Parts:
    """Build every part of a run; raises DataError or ConfigError with the reason where they do not fit together.

    Weights that will be loaded, or only timed, need no start: not `fresh`, the corpus is not read for one. Otherwise
    they are whole after `Parts.start`. `group` is the processes of the run.
    """
    require_rows(config, group)
    manifest, tokenizer = mixed_manifest(data, config), open_data(data)[1]
    shape = config.model.shape(
        config.size,
        vocab_size=manifest["tokenizer"]["vocab_size"],
        pad_token_id=tokenizer.special.pad,
        next_sentence=needs_pairs(config.objective),
    )
    mapping_of(shape)  # a model that cannot be written is refused before it is trained
    objective = build_objective(config.objective, vocab_size=shape.vocab_size, mask_id=tokenizer.special.mask)
    splits, shares = open_train(data, config), shares_of(data, config)
    sources = [
        phase_source(splits, shares, phase, tokenizer, objective, shape, config, group=group)
        for phase in config.schedule.phases
    ]
    device = pick_device()
    precision = resolve_precision(config.engine.precision, device)
    torch.manual_seed(key_of("initialise", config.seed))
    model = build_encoder(shape, drawn=fresh).to(device)
    if objective.rows != "single" and not model.has_nsp_head:
        raise ConfigError(
            f"objective: {config.model.architecture} has no head for pairs of segments; give "
            "--objective.next-sentence false, or objectives about tokens as --objective.names"
        )
    counts = partial(neighbours_of, data, config, splits)
    start = no_op
    if fresh and group.first:
        start = begin_weights(
            model, config.model, counts, special=tokenizer.special, next_sentence=objective.rows == "pairs",
            examples=partial(measured_examples, sources[0], objective, config),
        )  # fmt: skip
    if group.size > 1 or config.average.name != "none":  # what takes copies of the weights cannot wait for them
        start()
        start = no_op
    auxiliary = auxiliary_of(objective, shape, seed=config.seed, device=device)
    trained = model if auxiliary is None else ModelWithAuxiliary(model, auxiliary)
    group.same_weights(trained)
    muon = muon_of(trained, config, group)
    return Parts(
        config=config,
        manifest=manifest,
        tokenizer=tokenizer,
        shape=shape,
        model=model,
        optimizers=build_optimizers(trained, config.optimizer, dtype=product_dtype(precision), muon=muon),
        average=None if config.average.name == "none" else EMA(trained, config.average),
        objective=objective,
        trained=trained,
        auxiliary=auxiliary,
        sources=sources,
        device=device,
        precision=precision,
        group=group,
        start=start,
    )


def require_rows(config: PretrainConfig, group: Group) -> None:
    """Raise ConfigError where a process of `group` would have no rows of a step, or another number of pieces."""
    pieces, size = config.engine.accumulation, group.size
    fewest = min(phase.rows // pieces for phase in config.schedule.phases)
    if pieces % size and fewest < size:
        raise ConfigError(
            f"schedule.phases: micro-batches of {fewest} rows cannot be shared out among {size} processes; start fewer "
            "processes, or give a phase more rows"
        )
    if config.engine.parallel == "fsdp" and pieces % size and size % pieces:
        raise ConfigError(
            f"engine.parallel fsdp: {size} processes must have as many pieces of a step each, and it has {pieces} "
            f"micro-batches; give --accumulation 1, or a number that divides {size} or that {size} divides"
        )


def muon_of(model: nn.Module, config: PretrainConfig, group: Group) -> MakeMuon:
    """Return what makes Muon for the processes of `group`; cuts the weights up among them first, if they are to be."""
    if group.size == 1:
        return Muon
    # Imported here: sharded tensors take a second, which a run of one process need not wait for.
    from bertwright.train.optim.muon_distributed import ShardedMuon, SharedMuon
    from bertwright.train.parallel.wrap import shard

    if config.engine.parallel == "ddp":
        return partial(SharedMuon, group=group)
    for part in (model.model, model.auxiliary) if isinstance(model, ModelWithAuxiliary) else (model,):
        shard(part)
    return partial(ShardedMuon, group=group)


def open_data(data: Path) -> tuple[dict[str, Any], Tokenizer]:
    """Return the manifest and tokenizer of a DATA folder; raises DataError where they are not those of each other."""
    manifest, tokenizer = read_manifest(data), load_tokenizer(check_tokenizer(data))
    told = manifest["tokenizer"]["vocab_size"]
    if told != tokenizer.vocab_size:
        raise DataError(
            f"{data / 'manifest.json'} tells of {told:,} tokens and its tokenizer has {tokenizer.vocab_size:,}; "
            "prepare the data again"
        )
    return manifest, tokenizer


def phase_source(
    splits: list[Shards],
    shares: list[float],
    phase: Phase,
    tokenizer: Tokenizer,
    objective: PretrainingObjective,
    shape: ModelConfig,
    config: PretrainConfig,
    *,
    group: Group,
) -> PhaseSource:
    """Return the batches of one phase, in micro-batches; on a GPU, the next one of this process is made ahead."""
    rows = phase.rows // config.engine.accumulation
    of_each = [
        BatchSource(
            shards,
            special=tokenizer.special,
            length=phase.length,
            rows=rows,
            pairs=objective.rows != "single",
            ordered=objective.rows == "ordered_pairs",
            fill=config.data.fill_rows,
            pack=config.data.pack,
            seed=config.seed,
        )
        for shards in splits
    ]
    source = mix(of_each, shares, rows=rows, seed=config.seed)

    def flops(_: TokenRows, progress: float) -> int:
        masked = objective.masked_slots(phase.length, progress)
        return training_flops(shape, rows=rows, length=phase.length, masked=masked)

    mine = [piece.index for piece in group.pieces(config.engine.accumulation)]

    def after(t: int) -> int:
        if t % config.engine.accumulation not in mine:  # asked for out of turn, to measure something
            return t + 1
        place = mine.index(t % config.engine.accumulation) + 1
        return t + 1 if place < len(mine) else t - mine[-1] + config.engine.accumulation + mine[0]

    draw = Prefetcher(lambda t: source.draw(t).pinned(), after) if pick_device().type == "cuda" else source.draw
    return PhaseSource(draw=draw, rows_per_epoch=source.rows_per_epoch, flops=flops)


def measured_examples(
    source: PhaseSource, objective: PretrainingObjective, config: PretrainConfig
) -> list[MaskedBatch]:
    """Return the masked rows on which a start from the corpus measures what depends on the text: its first ones."""
    rows = config.schedule.phases[0].rows // config.engine.accumulation
    examples = []
    for t in range(-(-MEASURED_ROWS // rows)):
        batch = source.draw(t)
        assert isinstance(batch, Batch)
        generator = torch.Generator().manual_seed(key_of("start mask", config.seed, t))
        examples.append(objective.corrupt(batch, generator))
    return examples


def held_out_examples(
    data: Path, tokenizer: Tokenizer, objective: PretrainingObjective, *, length: int, rows: int
) -> list[MaskedBatch]:
    """Return the fixed held-out set: up to `rows` rows (at most one pass), with fixed masks; empty if there is none.

    A split too poor for pairs (one document, single sentences) gives none, and says so.
    """
    manifest = read_manifest(data)
    if not manifest["splits"].get("valid", {}).get("documents"):
        note("no held-out split in the data, so nothing is evaluated (prepare --valid-fraction 0.01 makes one)")
        return []
    shards = Shards.open(data, "valid")
    ordered = objective.rows == "ordered_pairs"
    if objective.rows != "single" and (reason := why_no_pairs(shards, ordered=ordered)):
        note(f"the held-out split is not evaluated: {reason}")
        return []
    return fixed_examples(shards, tokenizer, objective, length=length, rows=rows)


def fixed_examples(
    shards: Shards, tokenizer: Tokenizer, objective: PretrainingObjective, *, length: int, rows: int
) -> list[MaskedBatch]:
    """Return up to `rows` rows of a split (at most one pass), in batches of 32: always the same rows and masks."""
    shards.check(tokenizer.vocab_size)
    source = BatchSource(
        shards,
        special=tokenizer.special,
        length=length,
        rows=EVALUATION_ROWS,
        pairs=objective.rows != "single",
        ordered=objective.rows == "ordered_pairs",
        seed=EVALUATION_SEED,
    )
    count = max(1, min(rows, source.rows_per_epoch) // EVALUATION_ROWS)
    return hold_out((source.draw(t) for t in range(count)), objective)


def compiled_step(parts: Parts) -> TrainStep:
    """Return the training step, compiled unless the settings forbid it or it does not work, which is said."""
    wanted = parts.config.engine.compile and not parts.sharded
    return plain_step(parts, forward_loss=compiled_loss(parts) if wanted else None)


def compiled_loss(parts: Parts) -> Callable[[MaskedBatch], Any] | None:
    """Return model and loss compiled for the shapes of every phase; None where that does not work, which is said."""
    loss, reason = try_compiled(
        forward_loss_of(parts.model, parts.trained_on, parts.cast),
        lambda compiled: _run_each_phase(parts, _step(parts, compiled)),
        drops=parts.shape.dropout > 0 or parts.shape.attention_dropout > 0,
        autotune=parts.config.engine.autotune,
    )
    if reason:
        note(f"running uncompiled, slower: the compiler did not work here ({reason})")
    return None if reason else loss


def plain_step(parts: Parts, forward_loss: Callable[[MaskedBatch], Any] | None = None) -> TrainStep:
    """Return the training step with `forward_loss` (model and loss in one), or uncompiled where none is given."""
    step = _step(parts, forward_loss or forward_loss_of(parts.model, parts.trained_on, parts.cast))
    return step if parts.group.size == 1 else _parallel_step(parts, step)


def _step(parts: Parts, forward_loss: Callable[[MaskedBatch], Any]) -> TrainStep:
    return TrainStep(
        model=parts.trained,
        objective=parts.trained_on,
        optimizers=parts.optimizers,
        forward_loss=forward_loss,
        average=parts.average,
        clip_norm=parts.config.optimizer.clip_norm,
        seed=parts.config.seed,
        device=parts.device,
        group=parts.group,
        begin_at_row=begin_at_row if parts.group.size > 1 else None,
    )


def _parallel_step(parts: Parts, step: TrainStep) -> TrainStep:
    """Return the step whose gradients are those of all processes."""
    from bertwright.train.parallel.wrap import no_sync, replicated

    if parts.sharded:
        modules = [parts.model] if parts.auxiliary is None else [parts.model, parts.auxiliary]
        return replace(step, no_sync=partial(no_sync, modules))
    chosen = parts.config.objective.chosen
    all_used = chosen == ("mlm", "nsp") or (chosen == ("mlm",) and not parts.model.has_nsp_head)
    forward_loss, alone = replicated(parts.trained, step.forward_loss, all_used=all_used)
    return replace(step, forward_loss=forward_loss, no_sync=alone)


def _run_each_phase(parts: Parts, step: TrainStep) -> None:
    """Run forward and backward once for each shape of each phase, changing nothing but gradients, which are dropped."""
    for source in parts.sources:
        count = parts.config.engine.accumulation
        work = [(piece, source.draw(piece.index)) for piece in parts.group.pieces(count)]
        examples = step.examples(0, work, micro_batches=count, progress=0.0)
        for (piece, batch), example in zip(work, examples, strict=True):
            step.begin_dropout(0, piece, rows=len(batch.input_ids))
            step.forward_loss(example).total.backward()  # type: ignore[no-untyped-call]
            if piece.whole:
                break
    parts.trained.zero_grad(set_to_none=True)


def peak_flops(parts: Parts, *, stretches: int = 6) -> float:
    """Return the measured rate of this machine on the model's own largest block product, the yardstick of MFU."""
    phase = parts.config.schedule.phases[0]
    rows = phase.rows // parts.config.engine.accumulation * phase.length
    return matmul_rate(
        rows,
        parts.shape.hidden_size,
        parts.shape.widest_product,
        precision=parts.precision,
        device=parts.device,
        rounds=stretches,
    )
