"""Turns batches into one optimizer step: hide, predict, compute the loss, backpropagate, clip, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bertwright.device import autocast
from bertwright.errors import NotFiniteError
from bertwright.objectives.base import Objective
from bertwright.rng import key_of
from bertwright.train.loader import Work
from bertwright.train.micro_batches import MicroBatches
from bertwright.train.optim.optimizers import set_rates
from bertwright.train.parallel.group import ALONE, BatchSlice, Group, full_tensor
from bertwright.train.state import TrainState
from bertwright.types import Loss, TokenRows, flat_sums

ForwardLoss = Callable[[Any], Loss]
"""Runs model and loss on what an objective has hidden."""


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
    precision: Literal["bf16", "fp32"] = "fp32"
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
    fewer_threads_before: int = 0
    """Steps before this one run on one thread fewer: they leave a core to a compiler in another process."""

    def cast(self) -> AbstractContextManager[Any]:
        """Return the context forward passes run in."""
        return autocast(self.precision, self.device)

    def step(
        self, state: TrainState, objective: Objective, work: Work, *, of: int, fraction: float, rate_factor: float
    ) -> dict[str, float]:
        """Make the next step, at a `fraction` of the run; return the sums of the loss parts over all processes.

        `work` is what this process does of the micro-batches of the step, `of` of them in all. Raises NotFiniteError,
        with the parameters as they were, where the loss or the gradient is not finite.
        """
        step = state.progress.step
        with one_thread_fewer() if step < self.fewer_threads_before else nullcontext():
            totals = self.backward(state.model, objective, work, step=step, of=of, fraction=fraction)
            norm = full_tensor(nn.utils.clip_grad_norm_(state.model.parameters(), self.clip_norm or math.inf))
            mine = torch.stack([*totals.values(), norm / self.group.size]).float()
            figures = dict(zip([*totals, "gradient_norm"], self.group.all_reduce(mine).tolist(), strict=True))
            finite = math.isfinite(figures["loss"]) and math.isfinite(figures["gradient_norm"])
            if finite:
                set_rates(state.optimizers, factor=rate_factor, progress=fraction)
                for optimizer in state.optimizers:
                    optimizer.step()
            for optimizer in state.optimizers:
                optimizer.zero_grad(set_to_none=True)
        if not finite:
            raise NotFiniteError(
                f"at step {step} the loss is {figures['loss']} and the gradient norm {figures['gradient_norm']}"
            )
        return figures

    def backward(
        self, model: nn.Module, objective: Objective, work: Work, *, step: int, of: int, fraction: float
    ) -> dict[str, Tensor]:
        """Add up the gradients of a step; return the sums of the loss parts of this process."""
        totals: dict[str, Tensor] = {}
        forward_loss = self.forward_loss_at(step, model, objective)
        examples = self.examples(objective, work, step=step, of=of, fraction=fraction)
        for done, ((batch_slice, batch), example) in enumerate(zip(work, examples, strict=True), 1):
            self.begin_dropout(model, step, batch_slice, row=batch_slice.rows(len(batch.input_ids)).start)
            with self.no_sync() if done < len(work) else nullcontext():
                loss = self._split(model, step, batch_slice, example, forward_loss)
                if loss is None:
                    loss = forward_loss(example)
                    torch.autograd.backward(loss.total / (of / self.group.size))
            for name, value in {"loss": loss.total.detach() / of, **flat_sums(loss.parts)}.items():
                totals[name] = totals[name] + value if name in totals else value
        return totals

    def _split(
        self, model: nn.Module, step: int, batch_slice: BatchSlice, example: Any, forward_loss: ForwardLoss
    ) -> Loss | None:
        """Do the work of a batch some rows at a time, where it must be split; return None where it need not."""
        slices = self.micro_batches.slices(example) if self.micro_batches is not None else []
        if self.micro_batches is None or len(slices) < 2:
            return None

        def begin(row: int) -> None:
            self.begin_dropout(model, step, batch_slice, row=row)

        return self.micro_batches.backward(example, slices, forward_loss, begin)

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
            found.append(example if batch_slice.whole else example.cut(batch_slice.rows(len(example.input_ids))))
        if of > 1:
            counts = self.group.all_reduce(torch.stack([example.counts() for example in found]).sum(0)) / of
            found = [replace(example, normalizer=counts.to(self.device, torch.float32)) for example in found]
        return found

    def example(self, objective: Objective, batch: TokenRows, *, step: int, index: int, fraction: float) -> Any:
        """Return micro-batch `index` of `step` corrupted.

        Where the number of slots changes along the run, they are marked for the compiler: one graph serves all.
        """
        generator = torch.Generator(self.device).manual_seed(key_of("mask", self.seed, step, index))
        example = objective.corrupt(batch.to(self.device), generator, fraction)
        if objective.has_dynamic_slots:
            for slots in example.dynamic_slots:
                torch._dynamo.mark_dynamic(slots, 1)
            if example.boundaries is not None:
                torch._dynamo.mark_dynamic(example.boundaries, 2)
        return example

    def begin_dropout(self, model: nn.Module, step: int, batch_slice: BatchSlice, *, row: int) -> None:
        """Set torch's random state for a slice of a micro-batch, and the row of it at which dropout begins."""
        torch.manual_seed(key_of("dropout", self.seed, step, batch_slice.index))
        if self.begin_at_row is not None:
            self.begin_at_row(model, row)


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
