"""Turns batches into one optimizer step: hide, predict, compute the loss, backpropagate, clip, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from bertwright.device import Arithmetic, autocast
from bertwright.errors import NotFiniteError
from bertwright.log import note
from bertwright.objectives.base import Objective
from bertwright.rng import key_of
from bertwright.train.host_copies import Arrival, host_copy
from bertwright.train.loader import Work
from bertwright.train.micro_batches import MicroBatches
from bertwright.train.optim.optimizers import set_rates
from bertwright.train.parallel.group import ALONE, BatchSlice, Group, full_tensor
from bertwright.train.state import TrainState
from bertwright.types import Loss, TokenRows, flat_sums

ForwardLoss = Callable[[Any], Loss]
"""Runs model and loss on what an objective has hidden."""
NORM = "gradient_norm"
"""The name of the norm of the gradient, before it is clipped, among the figures of a step."""


class Gradient:
    """What there is to know of a step whose gradients lie with the parameters; the host's copy of it comes later."""

    def __init__(self, step: int, fraction: float, names: Sequence[str], values: Tensor) -> None:
        """Order a copy of the figures `values` [N], summed over all processes, of step number `step`."""
        self.step, self.fraction, self.names = step, fraction, names
        self._values, self._copy = values, host_copy(values)
        self._arrival = Arrival.mark(values.device)

    def found_inf(self) -> Tensor:
        """Return a scalar on the device: 1 where the loss or the norm of the gradient is not finite, else 0."""
        decisive = self._values[self.names.index("loss")] + self._values[self.names.index(NORM)]
        return (~decisive.isfinite()).float()

    @cached_property
    def figures(self) -> dict[str, float]:
        """The sums of the loss parts and the norm of the gradient; waits until they are there."""
        self._arrival.wait()
        return dict(zip(self.names, self._copy.tolist(), strict=True))

    @cached_property
    def error(self) -> NotFiniteError | None:
        """What is wrong with the step: its loss or its gradient is not finite; waits until that is known."""
        loss, norm = self.figures["loss"], self.figures[NORM]
        if math.isfinite(loss) and math.isfinite(norm):
            return None
        return NotFiniteError(f"at step {self.step} the loss is {loss} and the gradient norm {norm}")


@dataclass
class Engine:
    """How the steps of a run are computed: on which device, in which precision, in how many processes, compiled or not.

    What is learned does not depend on it, but for rounding.
    """

    device: torch.device
    seed: int
    """Of the run: masks and dropout are drawn from it."""
    clip_norm: float
    """Largest norm of a gradient; 0 for any."""
    precision: Arithmetic = "fp32"
    group: Group = ALONE
    """The processes that share the rows of a step; `forward_loss` means their gradients, but for what is ..."""
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext
    """... done in this context: gradients are sent once a step."""
    sharded: bool = False
    """Whether each process holds a share of the weights alone."""
    begin_at_row: Callable[[nn.Module, int], None] | None = None
    """Sets in the model the row of a micro-batch at which its dropout begins, where processes share one."""
    micro_batches: MicroBatches | None = None
    """How batches are split that memory has no room for; None where there is none such."""
    forward_loss: ForwardLoss | None = None
    """Model and loss as one, such as that of several processes; None: as they are."""
    compiled_loss: ForwardLoss | None = None
    """The same compiled, for steps from `compiled_from` on; None where it is not (yet) compiled."""
    compiled_from: int = 0
    ahead: bool | None = None
    """Whether the engine runs ahead of the figures; None: on a GPU, which would stand idle while they are read."""
    fewer_threads_before: int = 0
    """Steps before this one run on one thread fewer: they leave a core to a compiler in another process."""

    def cast(self) -> AbstractContextManager[Any]:
        """Return the context forward passes run in."""
        return autocast(self.precision, self.device)

    def runs_ahead(self, optimizers: Sequence[torch.optim.Optimizer]) -> bool:
        """Say whether a step begins before the figures of the one before it are read: nothing waits for the device.

        For that the optimizers must leave out a step that is not to be made by themselves, on the device.
        """
        wanted = self.device.type == "cuda" if self.ahead is None else self.ahead
        return wanted and all(leaves_out_steps(optimizer) for optimizer in optimizers)

    def step(
        self, state: TrainState, objective: Objective, work: Work, *, of: int, fraction: float, rate_factor: float
    ) -> dict[str, float]:
        """Make the next step, at a `fraction` of the run; return the sums of the loss parts over all processes.

        `work` is what this process does of the micro-batches of the step, `of` of them in all. Raises NotFiniteError,
        with the parameters as they were, where the loss or the gradient is not finite.
        """
        while True:
            gradient = self.gradient(state, objective, work, of=of, fraction=fraction)
            self.update(state, gradient, rate_factor=rate_factor)
            if gradient.error is None:
                return gradient.figures
            if not self.lowers_scale(state, gradient):
                raise gradient.error

    def gradient(self, state: TrainState, objective: Objective, work: Work, *, of: int, fraction: float) -> Gradient:
        """Compute the clipped gradients of the next step, which stay with the parameters, and order its figures."""
        step = state.progress.step
        with self._threads(step):
            scale = state.scale.value if self.precision == "fp16" else 1.0
            totals = self.backward(state.model, objective, work, step=step, of=of, fraction=fraction, scale=scale)
            if scale != 1.0:
                gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
                torch._foreach_mul_(gradients, 1 / scale)
            norm = full_tensor(nn.utils.clip_grad_norm_(state.model.parameters(), self.clip_norm or math.inf))
            mine = torch.stack([*totals.values(), norm / self.group.size]).float()
            return Gradient(step, fraction, (*totals, NORM), self.group.all_reduce(mine))

    def update(self, state: TrainState, gradient: Gradient, *, rate_factor: float) -> None:
        """Move the parameters by their gradients, which are dropped, unless the loss or the gradient is not finite.

        Where the engine runs ahead, that is decided on the device: optimizers are given a flag, their `found_inf`.
        """
        with self._threads(gradient.step):
            ahead = self.runs_ahead(state.optimizers)
            if ahead or gradient.error is None:
                found_inf = gradient.found_inf() if ahead else None
                set_rates(state.optimizers, factor=rate_factor, progress=gradient.fraction)
                for optimizer in state.optimizers:
                    optimizer.found_inf = found_inf  # type: ignore[attr-defined]
                    optimizer.step()
            self.drop(state)

    def lowers_scale(self, state: TrainState, gradient: Gradient) -> bool:
        """Say whether a step that failed is to be made again with a smaller loss scale, and lower it.

        So it is where its loss is finite, but its gradients, scaled, do not fit into float16.
        """
        if self.precision != "fp16" or not math.isfinite(gradient.figures["loss"]) or not state.scale.can_fall:
            return False
        state.scale.fall()
        note(f"at step {gradient.step} gradients do not fit into fp16: once more with a loss scale of {state.scale}")
        return True

    def drop(self, state: TrainState) -> None:
        """Drop the gradients of a step."""
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _threads(self, step: int) -> AbstractContextManager[None]:
        return one_thread_fewer() if step < self.fewer_threads_before else nullcontext()

    def backward(
        self,
        model: nn.Module,
        objective: Objective,
        work: Work,
        *,
        step: int,
        of: int,
        fraction: float,
        scale: float = 1.0,
    ) -> dict[str, Tensor]:
        """Add up the gradients of `scale` times the loss of a step; return the sums of its parts of this process."""
        totals: dict[str, Tensor] = {}
        forward_loss = self.forward_loss_at(step, model, objective)
        examples = self.examples(objective, work, step=step, of=of, fraction=fraction)
        for done, ((batch_slice, batch), example) in enumerate(zip(work, examples, strict=True), 1):
            self.begin_dropout(model, step, batch_slice, row=batch_slice.rows(len(batch.input_ids)).start)
            with self.no_sync() if done < len(work) else nullcontext():
                loss = self._split(model, step, batch_slice, example, forward_loss, scale)
                if loss is None:
                    loss = forward_loss(example)
                    torch.autograd.backward(loss.total / (of / self.group.size / scale))
            for name, value in {"loss": loss.total.detach() / of, **flat_sums(loss.parts)}.items():
                totals[name] = totals[name] + value if name in totals else value
        return totals

    def _split(
        self,
        model: nn.Module,
        step: int,
        batch_slice: BatchSlice,
        example: Any,
        forward_loss: ForwardLoss,
        scale: float,
    ) -> Loss | None:
        """Do the work of a batch some rows at a time, where it must be split; return None where it need not."""
        slices = self.micro_batches.slices(example) if self.micro_batches is not None else []
        if self.micro_batches is None or len(slices) < 2:
            return None

        def begin(row: int) -> None:
            self.begin_dropout(model, step, batch_slice, row=row)

        return self.micro_batches.backward(example, slices, forward_loss, begin, scale=scale)

    def forward_loss_at(self, step: int, model: nn.Module, objective: Objective) -> ForwardLoss:
        """Return what runs model and loss at `step`: by its number alone, so that a step done again is the same."""
        if self.compiled_loss is not None and step >= self.compiled_from:
            return self.compiled_loss
        return self.forward_loss or forward_loss_of(model, objective, self.cast)

    def examples(self, objective: Objective, work: Work, *, step: int, of: int, fraction: float) -> list[Any]:
        """Return what this process does of a step, corrupted.

        Of several micro-batches, the losses of each are divided by the counts of all of them, which differ a little.
        """
        found: list[Any] = []
        example, index = None, -1
        for batch_slice, batch in work:
            if batch_slice.index != index:  # parts of a micro-batch have its masks
                index = batch_slice.index
                example = self.example(objective, batch, step=step, index=index, fraction=fraction)
            assert example is not None
            part = example if batch_slice.whole else example.cut(batch_slice.rows(len(example.input_ids)))
            found.append(marked(part) if objective.has_dynamic_slots else part)
        if of > 1:
            counts = self.group.all_reduce(torch.stack([example.counts() for example in found]).sum(0)) / of
            found = [replace(example, normalizer=counts.float()) for example in found]
        return found

    def example(self, objective: Objective, batch: TokenRows, *, step: int, index: int, fraction: float) -> Any:
        """Return micro-batch `index` of `step` corrupted."""
        generator = torch.Generator(self.device).manual_seed(key_of("mask", self.seed, step, index))
        return objective.corrupt(batch.to(self.device), generator, fraction)

    def begin_dropout(self, model: nn.Module, step: int, batch_slice: BatchSlice, *, row: int) -> None:
        """Set torch's random state for a slice of a micro-batch, and the row of it at which dropout begins."""
        torch.manual_seed(key_of("dropout", self.seed, step, batch_slice.index))
        if self.begin_at_row is not None:
            self.begin_at_row(model, row)


def marked(example: Any) -> Any:
    """Return an example whose slots change in number along the run, marked for the compiler: one graph serves all."""
    for slots in example.dynamic_slots:
        torch._dynamo.mark_dynamic(slots, 1)
    if example.boundaries is not None:
        torch._dynamo.mark_dynamic(example.boundaries, 2)
    return example


def leaves_out_steps(optimizer: torch.optim.Optimizer) -> bool:
    """Say whether a step of an optimizer changes nothing where its `found_inf`, a tensor on the device, is 1."""
    return hasattr(optimizer, "found_inf") or getattr(optimizer, "_step_supports_amp_scaling", False)


@contextmanager
def one_thread_fewer() -> Iterator[None]:
    """Have torch compute on one thread fewer than before.

    Two threads that wait for each other on less than two cores make half the steps of one alone: 2,766 tokens/s beside
    a compiler, and 6,096 on one thread (`fast`, mini, two cores with AVX512-bf16).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def forward_loss_of(model: nn.Module, objective: Objective, cast: Callable[[], Any]) -> ForwardLoss:
    """Return the function to compile: model and loss in one, the forward pass inside `cast()`."""

    def forward_loss(example: Any) -> Loss:
        with cast():
            scores = model(example)
        return objective.loss(scores, example)

    return forward_loss
