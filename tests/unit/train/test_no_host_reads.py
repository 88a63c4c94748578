"""No step asks the device for a number: every recipe, objective, optimizer and task, under a mode that refuses it.

On a GPU such a question waits until all that was ordered is done. The mode knows them by their names, since here all
tensors lie on the CPU: reads (`item`, `tolist`, `bool` ...), results whose size depends on values (`nonzero`, boolean
indexing), and tensors made on the host and sent over at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bertwright.batch_layout import Places
from bertwright.configs.names import RECIPES
from bertwright.distillation.config import DistillConfig
from bertwright.distillation.task_objective import TaskDistillation
from bertwright.distillation.taught_rows import TaughtBatch
from bertwright.model.build import build_encoder, named_size
from bertwright.model.decoder import Decoder
from bertwright.model.encoder_decoder import EncoderDecoder, decoder_config
from bertwright.model.layers.dropout import begin_at_row, follow_rows
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.objectives.combine import OBJECTIVES
from bertwright.tasks.by_name import TASKS, task_named
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.embedding.task import Embed
from bertwright.tasks.tagging.task import Tag
from bertwright.tasks.translation.task import Translate
from bertwright.train.auxiliary import ModelWithAuxiliary, ModelWithHead, ObjectiveWithAuxiliary, auxiliary_of, head_of
from bertwright.train.held_out import held_out_figures
from bertwright.train.micro_batches import MicroBatches, endless_room
from bertwright.train.optim.config import OptimizerConfig
from bertwright.train.optim.optimizers import OPTIMIZERS, build_optimizers
from bertwright.train.parallel.group import Group
from bertwright.train.setup.pretrain_config import PretrainConfig, resolve
from bertwright.train.setup.pretrain_loader import objective_of
from bertwright.train.state import Progress, TrainState
from bertwright.train.step import Engine, Gradient
from bertwright.train.task_setup.r_drop import RDrop
from bertwright.types import UNASKED, Batch, LabelledBatch, PairBatch, SentenceBatch, TokenRows

CPU = torch.device("cpu")
VOCABULARY, ROWS, LENGTH = 100, 4, 24
READS = {
    "item", "tolist", "numpy", "__array__", "cpu", "__bool__", "__int__", "__float__", "__index__", "__contains__",
    "nonzero", "argwhere", "masked_select", "equal", "allclose", "is_nonzero", "unique", "unique_consecutive",
    "bincount", "tensor", "new_tensor", "as_tensor", "from_numpy", "synchronize",
}  # fmt: skip
SIZED_BY_VALUES = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim", "bincount",
    "unique_consecutive", "item",
}  # fmt: skip
MADE = {"zeros", "ones", "empty", "full", "arange", "rand", "randn", "randint", "linspace", "eye"}


class HostReadError(AssertionError):
    """Something that on a GPU waits for the device."""


def refused(*given: Any) -> None:
    raise HostReadError


class NoReads(TorchFunctionMode):
    """Refuses reads where Python asks for them, tensors made on the host, and moves of those in `hosts` that wait."""

    def __init__(self, hosts: list[Tensor]) -> None:
        super().__init__()
        self.hosts = {id(tensor) for tensor in hosts}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, given = getattr(func, "__name__", ""), kwargs or {}
        moved = name == "to" and ("cpu" in args[1:] or "cpu" in given.values() or id(args[0]) in self.hosts)
        made = name in MADE and "device" not in given and not isinstance(args[0] if args else None, Tensor)
        by_values = name == "repeat_interleave" and given.get("output_size") is None
        if name in READS or (moved and not given.get("non_blocking")) or made or by_values:
            raise HostReadError(name)
        return func(*args, **given)


class NoReadsInside(TorchDispatchMode):
    """Refuses the same inside torch's own functions and in backward passes."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        chosen = [one for one in args[1] if one is not None] if name in ("index", "index_put", "index_put_") else []
        if name in SIZED_BY_VALUES or any(one.dtype in (torch.bool, torch.uint8) for one in chosen):
            raise HostReadError(name)
        return func(*args, **(kwargs or {}))


def made(model: nn.Module, objective: Any, batches: list[TokenRows], **settings: Any) -> TrainState:
    """Make two steps as on a GPU, the second with nothing read; then read its figures, which are finite."""
    optimizer = settings.pop("optimizer", "adamw")
    state = TrainState(model, build_optimizers(model, OptimizerConfig(name=optimizer)), Progress(drawn=[0]))
    engine = Engine(CPU, seed=1, clip_norm=1.0, ahead=True, **settings)
    if engine.micro_batches is not None:
        engine.begin_at_row = begin_at_row
        follow_rows(model)
    work = list(zip(Group().slices(len(batches)), batches, strict=True))
    hosts = [one for batch in batches for one in batch.tensors().values() if isinstance(one, Tensor)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertwright.objectives.masking._is_done", lambda open_: False)  # as on a GPU
        _step(state, engine, objective, work)  # what is sent to the device once is sent now
        for name in ("from_numpy", "frombuffer"):  # which no mode sees
            patch.setattr(torch, name, refused)
        with NoReads(hosts), NoReadsInside():
            gradient = _step(state, engine, objective, work)
    assert gradient.error is None
    return state


def _step(state: TrainState, engine: Engine, objective: Any, work: Any) -> Gradient:
    gradient = engine.gradient(state, objective, work, of=len(work), fraction=0.3)
    engine.update(state, gradient, rate_factor=0.5)
    state.progress.step += 1
    return gradient


def text(*, pairs: bool = False, packed: bool = False) -> Batch:
    """Rows of words of one to three tokens, with some padding."""
    here = torch.arange(LENGTH) < torch.tensor([[LENGTH], [LENGTH], [LENGTH - 3], [9]])
    maskable = here & (torch.arange(LENGTH) > 0)
    return Batch(
        input_ids=torch.randint(5, VOCABULARY, (ROWS, LENGTH)) * here,
        token_type_ids=torch.zeros(ROWS, LENGTH, dtype=torch.int64),
        attention_mask=here,
        maskable=maskable,
        word_starts=maskable & (torch.rand(ROWS, LENGTH) < 0.6),
        next_label=torch.tensor([0, 1, 0, 1]) if pairs else None,
        documents=(here * (1 + torch.arange(LENGTH) // 12)) if packed else None,
    )


def pretrained(config: PretrainConfig, **settings: Any) -> None:
    """Make steps of a recipe, put together as a run puts them together."""
    torch.manual_seed(0)
    similar = torch.randint(-1, VOCABULARY, (VOCABULARY, 4))
    objective = objective_of(config, vocab_size=VOCABULARY, mask_id=4, similar=lambda: similar)
    shape = config.shape(vocab_size=VOCABULARY, pad_token_id=0)
    encoder = build_encoder(shape)
    auxiliary = auxiliary_of(objective, encoder, seed=1, device=CPU)
    head = head_of(objective, shape, seed=1, device=CPU)
    model: nn.Module = encoder if auxiliary is None else ModelWithAuxiliary(encoder, auxiliary)
    model = model if head is None else ModelWithHead(model, head)
    scorer = encoder if objective.asks_model else auxiliary
    engine = Engine(CPU, seed=1, clip_norm=1.0)
    asked: Any = objective if scorer is None else ObjectiveWithAuxiliary(objective, scorer, engine.cast)
    rows = text(pairs=objective.rows != "single", packed=config.data.pack)
    made(model, asked, [rows] * config.engine.accumulation, optimizer=config.optimizer.name, **settings)


def config_of(recipe: str, *, causal: bool = False, **settings: Any) -> PretrainConfig:
    phases = [{"length": LENGTH, "rows": ROWS, "share": 0.5, "causal": first} for first in (causal, False)]
    return resolve(recipe, {"size": "tiny", "schedule": {"steps": 9, "phases": phases}, **settings})


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "adapt"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_recipes(recipe: str, accumulation: int) -> None:
    pretrained(config_of(recipe, engine={"accumulation": accumulation}))


@pytest.mark.parametrize("name", [name for name, kind in OBJECTIVES.items() if kind.hides])
def test_objectives(name: str) -> None:
    model = {"architecture": "electra", "init": "noise"} if name == "rtd" else {}
    pretrained(config_of("fast", model=model, objective={"names": [name], "whole_word": True}))


@pytest.mark.parametrize("name", [name for name, kind in OBJECTIVES.items() if not kind.hides])
def test_objectives_about_pairs(name: str) -> None:
    pretrained(config_of("classic", objective={"names": ["mlm", name]}))


def test_what_an_objective_may_be_asked_for() -> None:
    options = {"span": {"boundary": True}}
    pretrained(config_of("classic", objective={"names": ["span", "nsp"], "options": options}))
    pretrained(config_of("fast", causal=True, objective={"next_sentence": False}))
    pretrained(config_of("classic", objective={"final_mask_rate": 0.3, "whole_word": True}))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_optimizers(name: str) -> None:
    pretrained(config_of("classic", optimizer={"name": name}))


def encoder(architecture: str = "bert") -> Any:
    torch.manual_seed(0)
    return build_encoder(named_size("tiny", architecture=architecture, vocab_size=VOCABULARY))


def labelled(head_type: str, outputs: int) -> LabelledBatch:
    """Rows with what a head of such a type is asked."""
    rows, (kinds, places) = text(), (torch.randint(outputs, (ROWS, 1)), torch.zeros(ROWS, 1, dtype=torch.int64))
    asked: Tensor | None = places
    if head_type == "token":
        asked = torch.arange(1, 5).expand(ROWS, 4).contiguous()
        kinds = torch.randint(outputs, (ROWS, 4))
        kinds[1, 2:] = UNASKED
    if head_type == "span":
        asked, kinds = None, torch.randint(8, (ROWS, 2))
    if head_type == "choice":
        kinds = torch.tensor([[3], [0], [2], [1]])
    return LabelledBatch(rows.input_ids, rows.token_type_ids, rows.attention_mask, asked, kinds)


def task_batch(task: Any) -> LabelledBatch:
    batch = labelled(task.head_type, len(task.outputs))
    if isinstance(task, MultiLabel):
        return LabelledBatch(*list(batch.tensors().values())[:4], torch.rand(ROWS, 1, len(task.labels)).round())
    if task.problem == "regression" or task.name == "rank":
        return LabelledBatch(*list(batch.tensors().values())[:4], torch.rand(ROWS, 1))
    return batch


def tasks() -> dict[str, Any]:
    """Every task with a head, and the ways its loss may be weighed."""
    labels = {"classify": ["a", "b", "c"], "tag": ["O", "B-X", "I-X"], "answer": ["start", "end"]}
    found = {name: kind.from_labels(labels.get(name, [name])) for name, kind in TASKS.items()}
    found["multi-label"] = MultiLabel.from_labels(["a", "b"])
    weights = np.array([1.0, 2.0, 0.5], dtype=np.float32)
    found["weighed"] = task_named("classify")(("a", "b", "c"), weights=weights)  # type: ignore[call-arg]
    found["weighed tags"] = Tag(("O", "B-X", "I-X"), weights=weights)
    found["crf"] = Tag(("O", "B-X", "I-X"), wants_crf=True)
    found["weighed crf"] = Tag(("O", "B-X", "I-X"), weights=weights, wants_crf=True)
    return found


def model_of(task: Any, architecture: str = "bert") -> FineTuned:
    return FineTuned(
        encoder(architecture), head_type=task.head_type, outputs=len(task.outputs), dropout=0.1, crf=task.new_crf()
    )


@pytest.mark.parametrize("architecture", ["bert", "modern"])
@pytest.mark.parametrize("name", list(tasks()))
def test_tasks(name: str, architecture: str) -> None:
    task = tasks()[name]
    model = model_of(task, architecture)
    made(model, task.with_crf(model.crf), [task_batch(task)])


@pytest.mark.parametrize("name", [name for name, task in tasks().items() if task.sums_over_rows])
def test_tasks_some_rows_at_a_time(name: str) -> None:
    task = tasks()[name]
    model = model_of(task)
    objective = task.with_crf(model.crf)
    parts = MicroBatches(model, objective, torch.enable_grad, lambda length: 1, endless_room, fewest=2)
    made(model, objective, [task_batch(task)], micro_batches=parts)


def test_a_task_read_twice() -> None:
    task = tasks()["classify"]
    made(model_of(task), RDrop(task, alpha=1.0), [task_batch(task)])


@pytest.mark.parametrize("kind", ["pairs", "scores"])
@pytest.mark.parametrize("apart", [False, True])
def test_embed(kind: Any, apart: bool) -> None:
    task = Embed(kind=kind, metrics=("loss",), dimensions=(16,), temperature=0.05, symmetric=True)
    rows, numbers = text(), torch.tensor([[0, 1], [2, 3]])
    scores = torch.tensor([0.2, 0.9]) if kind == "scores" else None
    batch = SentenceBatch(rows.input_ids, rows.token_type_ids, rows.attention_mask, numbers, scores)
    model = SentenceEncoder(encoder(), pooling="mean", normalize=True)
    parts = MicroBatches(model, task, torch.enable_grad, lambda length: 1, endless_room, fewest=2) if apart else None
    made(model, task, [batch], micro_batches=parts)


@pytest.mark.parametrize("apart", [False, True])
def test_translate(apart: bool) -> None:
    reader = encoder()
    model = EncoderDecoder(reader, Decoder(decoder_config(reader.config, layers=1)))
    task = Translate(tokenizer=None, sides=None)  # type: ignore[arg-type]
    rows, labels = text(), torch.randint(5, VOCABULARY, (ROWS, 10))
    labels[2, 4:] = UNASKED
    batch = PairBatch(
        rows.input_ids,
        rows.token_type_ids,
        rows.attention_mask,
        rows.input_ids[:, :10].contiguous(),
        labels,
        Places.of(labels != UNASKED),
    )
    parts = MicroBatches(model, task, torch.enable_grad, lambda length: 1, endless_room, fewest=2) if apart else None
    made(model, task, [batch], micro_batches=parts)


@pytest.mark.parametrize("name", ["classify", "answer", "choose", "regress", "tag"])
def test_a_student(name: str) -> None:
    task = tasks()[name]
    batch, model = task_batch(task), model_of(task)
    with torch.no_grad():
        taught = torch.randn_like(model(batch))
    held = {**batch.tensors(), "asked": batch.asked}
    rows = TaughtBatch(**held, taught=taught, labelled=Places.of(torch.tensor([[True], [False], [True], [True]])))
    made(model, TaskDistillation(task, DistillConfig()), [rows])


class Counts(TorchFunctionMode):
    """Counts what `NoReads` refuses."""

    reads = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.reads += getattr(func, "__name__", "") in READS
        return func(*args, **(kwargs or {}))


def test_an_evaluation_reads_its_figures_once() -> None:
    config = config_of("classic")
    objective = objective_of(config, vocab_size=VOCABULARY, mask_id=4)
    model = build_encoder(config.shape(vocab_size=VOCABULARY, pad_token_id=0))
    examples = [objective.corrupt(text(pairs=True), torch.Generator().manual_seed(seed)) for seed in range(3)]
    with Counts() as counted:
        figures = held_out_figures(model, objective, examples, device=CPU)
    assert {"mlm_loss", "nsp_loss"} <= figures.keys()
    assert counted.reads == 1


class Asks:
    """An objective that reads what it is given."""

    has_dynamic_slots = False

    def __init__(self, read: Callable[[Tensor], object]) -> None:
        self.read, self.task = read, tasks()["classify"]

    def corrupt(self, batch: LabelledBatch, generator: torch.Generator, progress: float) -> LabelledBatch:
        self.read(batch.input_ids)
        return batch

    def loss(self, scores: Tensor, example: LabelledBatch) -> Any:
        return self.task.loss(scores, example)


@pytest.mark.parametrize(
    "read",
    [
        lambda ids: ids.max().item(),
        lambda ids: ids.tolist(),
        lambda ids: bool((ids > 3).any()),
        lambda ids: int(ids[0, 0]),
        lambda ids: ids.cpu(),
        lambda ids: ids.to("cpu"),
        lambda ids: ids.numpy(),
        lambda ids: ids[ids > 3],
        lambda ids: torch.where(ids > 3),
        lambda ids: (ids > 3).nonzero(),
        lambda ids: torch.masked_select(ids, ids > 3),
        lambda ids: torch.equal(ids, ids),
        lambda ids: torch.unique(ids),
        lambda ids: torch.repeat_interleave(ids[0], ids[0]),
        lambda ids: torch.tensor([1.0, 2.0]),
        lambda ids: torch.from_numpy(np.ones(3)).to(ids.device),
        lambda ids: torch.zeros(3),
    ],
)
def test_the_mode_refuses_what_waits(read: Callable[[Tensor], object]) -> None:
    task = tasks()["classify"]
    with pytest.raises(HostReadError):
        made(model_of(task), Asks(read), [task_batch(task)])
