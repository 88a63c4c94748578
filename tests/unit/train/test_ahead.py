"""Steps whose figures are read one step late, as on a GPU, end as those whose figures are read at once, bit for bit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from bertwright.train import step
from bertwright.train.callbacks import best
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.callbacks.divergence import DivergenceCallback
from bertwright.train.callbacks.metrics_file import MetricsWindow
from bertwright.train.callbacks.save import CheckpointCallback
from bertwright.train.callbacks.unfreeze import UnfreezeCallback
from bertwright.train.checkpoint import snapshot
from bertwright.train.checkpoint.folder import Retention
from bertwright.train.checkpoint.saver import Saver
from bertwright.train.ema import EMA, AverageConfig
from bertwright.train.host_copies import Arrival
from bertwright.train.loader import TaskLoader
from bertwright.train.loop import train
from bertwright.train.loss_guard import GuardConfig, LossSpikeGuard
from bertwright.train.optim.config import OptimizerConfig
from bertwright.train.optim.optimizers import OPTIMIZERS, build_optimizers
from bertwright.train.schedule import Phase, ScheduleConfig
from bertwright.train.state import Progress, TrainState
from bertwright.train.step import Engine
from bertwright.types import Loss, LossParts, TokenRows

WORDS, UNITS, STEPS = 40, 16, 14
CPU = torch.device("cpu")


class Net(nn.Module):
    """Scores words from words; its blocks are what Muon trains."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embeddings = nn.Embedding(WORDS, UNITS)
        self.blocks = nn.ModuleList(nn.Linear(UNITS, UNITS) for _ in range(2))
        self.head = nn.Linear(UNITS, WORDS)

    def forward(self, batch: TokenRows) -> Tensor:
        hidden = self.embeddings(batch.input_ids)
        for block in self.blocks:
            hidden = functional.dropout(torch.tanh(block(hidden)), 0.1)
        scores: Tensor = self.head(hidden)
        return scores


class Drawn:
    """Rows by their number; the first word of each row of a batch is 1 where its loss is to be no number."""

    def __init__(self, bad: tuple[int, ...]) -> None:
        self.bad = bad

    def draw(self, t: int) -> TokenRows:
        rows = torch.randint(2, WORDS, (3, 8), generator=torch.Generator().manual_seed(t))
        rows[:, 0] = 1 if t in self.bad else 0
        return TokenRows(rows, rows, rows >= 0)


class Next:
    """The loss of the next word; one that overflows has a finite loss and a gradient that is not."""

    has_dynamic_slots = False

    def __init__(self, *, overflow: bool) -> None:
        self.overflow = overflow

    def corrupt(self, batch: TokenRows, generator: torch.Generator, progress: float) -> TokenRows:
        return batch

    def loss(self, scores: Tensor, batch: TokenRows) -> Loss:
        total = functional.cross_entropy(scores[:, :-1].flatten(0, 1), batch.input_ids[:, 1:].flatten())
        bad = batch.input_ids[0, 0] == 1
        factor = torch.where(bad, math.inf if self.overflow else math.nan, 1.0)
        return Loss(torch.where(bad, total.detach(), total) + 0.0 * total * factor, LossParts())


class Told(Callback):
    """Notes what is reported, and the weights as they are then."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.lines = model, list[Any]()

    def on_step(self, report: StepReport) -> None:
        figures = {name: value for name, value in report.sums.items() if name not in ("seconds", "waiting")}
        position = {name: value for name, value in report.progress.state().items() if name != "seconds"}
        norms = [float(parameter.detach().double().norm()) for parameter in self.model.parameters()]
        self.lines.append(json.dumps([figures, position, report.last, norms]))


def trained(optimizer: str, *, ahead: bool, bad: tuple[int, ...], overflow: bool, out: Path | None = None) -> Any:
    """Return what a run told, and all that it holds at its end."""
    model = Net()
    # "muon" trains blocks from the start, so that those are not what is unfrozen
    thaw = UnfreezeCallback([[*model.embeddings.parameters()], [*model.head.parameters()][:1]], share=0.6)
    state = TrainState(
        model,
        build_optimizers(model, OptimizerConfig(name=optimizer, learning_rate=0.01)),
        Progress(drawn=[0]),
        average=EMA(model, AverageConfig(name="ema", share=0.3)),
    )
    schedule = ScheduleConfig(steps=STEPS, phases=(Phase(length=8, rows=3, share=1.0),))
    loader = TaskLoader(Drawn(bad), schedule, rows_per_epoch=30, flops=lambda batch: 1)  # type: ignore[arg-type]
    settings = GuardConfig(every=4, failures=3)
    guard = LossSpikeGuard(settings, state, schedule, DivergenceCallback(model, MetricsWindow()))
    told = Told(model)
    callbacks: list[Callback] = [told, guard, thaw]
    saver = None if out is None else Saver(out, state, identity={}, retention=Retention(9), guard=guard)
    if saver is not None:
        callbacks.append(CheckpointCallback(saver, minutes=1e9, steps=9, at_end=False))
    engine = Engine(CPU, seed=3, clip_norm=1.0, ahead=ahead)
    train(state, loader, Next(overflow=overflow), callbacks, engine=engine, guard=guard)
    if saver is not None:
        saver.wait()
        saver.close()
    held = {name: tensor.detach() for name, tensor in model.named_parameters()}
    assert state.average is not None
    held |= {f"average/{name}": tensor for name, tensor in state.average.weights.items()}
    for number, one in enumerate(state.optimizers):
        for place, moments in enumerate(one.state.values()):
            held |= {f"{number}/{place}/{name}": moment for name, moment in moments.items()}
    position = {name: value for name, value in state.position().items() if name not in ("seconds", "stalled")}
    return told.lines, {name: tensor.numpy().tobytes() for name, tensor in held.items()}, position


@pytest.mark.parametrize("overflow", [False, True], ids=["loss", "gradient"])
@pytest.mark.parametrize("bad", [(), (0,), (3, 7, 8), (5, 6, 7, 16)], ids=["none", "first", "some", "three in a row"])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_ahead_or_not_is_the_same(optimizer: str, bad: tuple[int, ...], overflow: bool) -> None:
    """With dropout, an averaged model, parameters that thaw, batches left out, and a run that goes back."""
    at_once = trained(optimizer, ahead=False, bad=bad, overflow=overflow)
    late = trained(optimizer, ahead=True, bad=bad, overflow=overflow)
    assert late[0] == at_once[0]
    assert late[2] == at_once[2]
    different = [name for name in at_once[1] if at_once[1][name] != late[1][name]]
    assert not different
    assert at_once[2]["skipped"] == {0: 0, 1: 1, 3: 3, 4: 3 + 1 + 1}[len(bad)]


class Foreign(torch.optim.SGD):
    """An optimizer that knows nothing of steps to be left out."""


def test_an_optimizer_that_leaves_out_no_steps_is_waited_for() -> None:
    engine, model = Engine(CPU, seed=1, clip_norm=0.0, ahead=True), Net()
    known = build_optimizers(model, OptimizerConfig(name="muon"))
    assert engine.runs_ahead(known)
    assert not engine.runs_ahead([*known, Foreign(model.parameters())])
    assert not Engine(CPU, seed=1, clip_norm=0.0).runs_ahead(known)
    assert Engine(torch.device("cuda"), seed=1, clip_norm=0.0).runs_ahead(known)


def test_a_callback_that_ends_the_run_ends_it_after_its_step() -> None:
    model = Net()
    state = TrainState(model, build_optimizers(model, OptimizerConfig()), Progress(drawn=[0]))
    schedule = ScheduleConfig(steps=STEPS, phases=(Phase(length=8, rows=3, share=1.0),))
    loader = TaskLoader(Drawn(()), schedule, rows_per_epoch=30, flops=lambda batch: 1)  # type: ignore[arg-type]

    class Stop(Callback):
        def on_step(self, report: StepReport) -> None:
            report.stop = report.progress.step == 5

    engine = Engine(CPU, seed=3, clip_norm=1.0, ahead=True)
    train(state, loader, Next(overflow=False), [Stop()], engine=engine)
    assert state.progress.step == 5
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("bad", [(), (4,)], ids=["made", "failed"])
def test_a_step_that_cannot_be_begun_leaves_the_one_before_settled(ahead: bool, bad: tuple[int, ...]) -> None:
    """As where its memory runs out: the state that is saved then is that of the last step that stands."""
    model = Net()
    state = TrainState(model, build_optimizers(model, OptimizerConfig()), Progress(drawn=[0]))
    schedule = ScheduleConfig(steps=STEPS, phases=(Phase(length=8, rows=3, share=1.0),))

    class Ends(Drawn):
        def draw(self, t: int) -> TokenRows:
            if t == 5:
                raise MemoryError
            return super().draw(t)

    loader = TaskLoader(Ends(bad), schedule, rows_per_epoch=30, flops=lambda batch: 1)  # type: ignore[arg-type]
    settings = GuardConfig(every=4, failures=3)
    guard = LossSpikeGuard(settings, state, schedule, DivergenceCallback(model, MetricsWindow()))
    told = Told(model)
    engine = Engine(CPU, seed=3, clip_norm=1.0, ahead=ahead)
    with pytest.raises(MemoryError):
        train(state, loader, Next(overflow=False), [told, guard], engine=engine, guard=guard)
    assert len(told.lines) == state.progress.step == 5 - len(bad)
    assert (state.progress.drawn, guard.skipped) == ([5], len(bad))


def copies_come_late(patch: pytest.MonkeyPatch) -> None:
    """Have copies be garbage until somebody waits for them, as those from a GPU are."""
    ordered: list[tuple[Tensor, Tensor]] = []

    class Event:
        def synchronize(self) -> None:
            for target, source in ordered:
                target.copy_(source)
            ordered.clear()

    @torch.no_grad()
    def order(tensor: Tensor) -> Tensor:
        target = torch.full_like(tensor, -7)
        ordered.append((target, tensor.detach().clone()))
        return target

    patch.setattr(Arrival, "mark", lambda device: Arrival(Event()))  # type: ignore[arg-type]
    for user in (step, snapshot, best):
        patch.setattr(user, "host_copy", order)


def test_whoever_reads_a_copy_has_waited_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures, the state that a run goes back to, checkpoints that are written beside the run, and the best weights."""
    expected = trained("muon", ahead=False, bad=(5, 6, 7), overflow=False, out=tmp_path / "expected")
    copies_come_late(monkeypatch)
    assert trained("muon", ahead=True, bad=(5, 6, 7), overflow=False, out=tmp_path / "late") == expected
    for name in ("weights", "optimizer", "average", "good/weights"):
        first, second = (
            load_file(tmp_path / run / "checkpoints" / "step-9" / f"{name}.safetensors") for run in ("expected", "late")
        )
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    model = Net()
    callback, weights = best.BestCallback(model, "f1"), model.head.weight.detach().clone()
    notes = {"valid": {"f1": 0.5}}
    callback.on_step(StepReport(Progress(step=1), 0.5, 0, 1.0, last=False, notes=notes))
    nn.init.zeros_(model.head.weight)
    callback.load_best()
    assert torch.equal(model.head.weight, weights)
