"""Training in float16: losses are scaled, gradients that do not fit have the step made again, and nothing is lost."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bertwright.device import autocast, resolve_precision
from bertwright.errors import NotFiniteError
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.loader import TaskLoader
from bertwright.train.loop import train
from bertwright.train.micro_batches import MicroBatches, endless_room
from bertwright.train.optim.config import OptimizerConfig
from bertwright.train.optim.muon import Muon
from bertwright.train.optim.optimizers import OPTIMIZERS, build_optimizers
from bertwright.train.parallel.group import BatchSlice
from bertwright.train.schedule import Phase, ScheduleConfig
from bertwright.train.state import FIRST_SCALE, LossScale, Progress, TrainState
from bertwright.train.step import Engine
from bertwright.types import Loss, PartSums, TokenRows

WORDS, UNITS, STEPS = 40, 16, 8
CPU = torch.device("cpu")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embeddings = nn.Embedding(WORDS, UNITS)
        self.blocks = nn.ModuleList([nn.Linear(UNITS, UNITS)])
        self.head = nn.Linear(UNITS, WORDS)

    def forward(self, batch: TokenRows) -> Tensor:
        scores: Tensor = self.head(torch.tanh(self.blocks[0](self.embeddings(batch.input_ids))))
        return scores


class Drawn:
    def draw(self, t: int) -> TokenRows:
        rows = torch.randint(0, WORDS, (4, 8), generator=torch.Generator().manual_seed(t))
        return TokenRows(rows, rows, rows >= 0)


class Next:
    """The loss of the next word, times `factor`; a row of sums, so that batches can be split."""

    has_dynamic_slots, sums_over_rows = False, True

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def corrupt(self, batch: TokenRows, generator: torch.Generator, progress: float) -> TokenRows:
        return batch

    def loss(self, scores: Tensor, batch: TokenRows) -> Loss:
        losses = functional.cross_entropy(
            scores[:, :-1].float().flatten(0, 1), batch.input_ids[:, 1:].flatten(), reduction="none"
        )
        count = losses.new_full((), len(losses))
        return Loss(losses.mean() * self.factor, {"next": PartSums(losses.detach().sum(), count)}, count)


def state_of(optimizer: str = "adamw", **scale: Any) -> TrainState:
    model = Net()
    config = OptimizerConfig(name=optimizer, learning_rate=0.01)
    return TrainState(model, build_optimizers(model, config), Progress(drawn=[0]), scale=LossScale(**scale))


def trained(state: TrainState, *, precision: Any = "fp16", ahead: bool = False, factor: float = 1.0) -> list[float]:
    """Train `state` for some steps; return the losses."""
    losses: list[float] = []

    class Losses(Callback):
        def on_step(self, report: StepReport) -> None:
            losses.append(report.sums["loss"])

    schedule = ScheduleConfig(steps=STEPS, phases=(Phase(length=8, rows=4, share=1.0),))
    loader = TaskLoader(Drawn(), schedule, rows_per_epoch=40, flops=lambda batch: 1)  # type: ignore[arg-type]
    engine = Engine(CPU, seed=3, clip_norm=1.0, precision=precision, ahead=ahead)
    train(state, loader, Next(factor), [Losses()], engine=engine)
    return losses


def bits(state: TrainState) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in state.model.parameters()]


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_a_run_in_float16_learns_what_one_in_float32_learns(optimizer: str) -> None:
    half, full = state_of(optimizer), state_of(optimizer)
    losses = trained(half)
    assert losses == pytest.approx(trained(full, precision="fp32"), rel=2e-3)
    assert len({*losses}) == STEPS
    assert half.scale == LossScale(FIRST_SCALE, STEPS, 0)
    assert full.scale.overflows == 0
    assert all(parameter.dtype == torch.float32 for parameter in half.model.parameters())


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_gradients_that_do_not_fit_have_the_step_made_again(
    optimizer: str, ahead: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a scale far too large the run ends as one that had the right one from the start, bit for bit."""
    fitting = state_of(optimizer)
    trained(fitting)
    falling = state_of(optimizer, value=2.0**30)
    trained(falling, ahead=ahead)
    assert falling.scale.overflows >= 5
    found = 2.0 ** (30 - falling.scale.overflows)
    assert falling.scale == LossScale(found, STEPS, falling.scale.overflows)
    right = state_of(optimizer, value=found)
    trained(right)
    assert bits(falling) == bits(right)
    assert falling.progress.drawn == right.progress.drawn == [STEPS]
    assert capsys.readouterr().err.count("fp16") == falling.scale.overflows


def test_small_gradients_are_not_lost() -> None:
    """Gradients of 1e-9 a word lie below what float16 knows; scaled, they are those of float32."""
    norms = {}
    for name, precision, value in (("plain", "fp16", 1.0), ("scaled", "fp16", 2.0**16), ("full", "fp32", 1.0)):
        state = state_of(value=value)
        engine = Engine(CPU, seed=3, clip_norm=0.0, precision=precision)  # type: ignore[arg-type]
        work = [(BatchSlice(0), Drawn().draw(0))]
        gradient = engine.gradient(state, Next(1e-7), work, of=1, fraction=0.0)
        norms[name] = gradient.figures["gradient_norm"]
    assert norms["scaled"] == pytest.approx(norms["full"], rel=2e-3)
    assert norms["plain"] < 0.9 * norms["full"]


def test_a_loss_that_is_no_number_is_no_matter_of_the_scale() -> None:
    state = state_of()
    with pytest.raises(NotFiniteError):
        trained(state, factor=math.nan)
    assert state.scale.overflows == 0
    least = state_of(value=1.0)
    with pytest.raises(NotFiniteError):  # a gradient that never fits: the scale cannot fall further
        trained(least, factor=1e38)


def test_the_scale_grows_again_and_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertwright.train.state.SCALE_LASTS", 3)
    state = state_of(value=256.0)
    trained(state)
    assert (state.scale.value, state.scale.steps) == (1024.0, STEPS - 6)
    position = state.position()
    assert (position["loss_scale"], position["scale_steps"], position["overflows"]) == (1024.0, STEPS - 6, 0)
    other = state_of()
    other.restore_position(position)
    assert other.scale == state.scale
    for odd in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(TypeError, match="scale"):
            other.restore_position({"loss_scale": odd})


def test_the_scale_stands_still_in_other_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertwright.train.state.SCALE_LASTS", 3)
    state = state_of(value=256.0)
    trained(state, precision="fp32")
    assert (state.scale.value, state.scale.steps) == (256.0, 0)


def test_ahead_or_not_is_the_same_while_the_scale_grows_and_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertwright.train.state.SCALE_LASTS", 2)
    states = {ahead: state_of(value=2.0**24) for ahead in (False, True)}
    losses = {ahead: trained(state, ahead=ahead) for ahead, state in states.items()}
    assert losses[True] == losses[False]
    assert bits(states[True]) == bits(states[False])
    assert states[True].scale == states[False].scale
    assert states[True].scale.overflows > 2


def test_a_batch_in_parts_has_the_gradient_of_the_whole() -> None:
    found = []
    for fewest in (1, 2):
        state = state_of(value=2.0**10)
        engine = Engine(CPU, seed=3, clip_norm=0.0, precision="fp16")
        engine.micro_batches = MicroBatches(
            state.model, Next(), engine.cast, lambda length: 1, endless_room, fewest=fewest
        )
        engine.gradient(state, Next(), [(BatchSlice(0), Drawn().draw(0))], of=1, fraction=0.0)
        found.append([parameter.grad for parameter in state.model.parameters()])
    for whole, parts in zip(*found, strict=True):
        assert float((parts - whole).norm() / whole.norm()) < 2e-2


def test_auto_is_float16_on_gpus_that_multiply_that_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, capability = torch.device("cuda"), [(7, 5)]
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability[0])
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: capability[0] >= (8, 0))
    assert resolve_precision("auto", gpu) == "fp16"
    capability[0] = (8, 0)
    assert resolve_precision("auto", gpu) == "bf16"
    capability[0] = (6, 1)
    assert resolve_precision("auto", gpu) == "fp32"
    assert resolve_precision("auto", CPU) != "fp16"
    assert resolve_precision("fp16", CPU) == "fp16"
    with autocast("fp16", CPU):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float16


def test_muon_orthogonalises_in_float32() -> None:
    optimizers = build_optimizers(Net(), OptimizerConfig(name="muon"), dtype=torch.float16)
    assert [one.dtype for one in optimizers if isinstance(one, Muon)] == [torch.float32]
