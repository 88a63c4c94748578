"""Turns batches into one optimizer step: hide, predict, mark, backpropagate, clip, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bertwright.errors import NotFiniteError
from bertwright.objectives.base import Objective
from bertwright.rng import key_of
from bertwright.train.ema import EMA
from bertwright.train.micro_batches import MicroBatches
from bertwright.train.optim.optimizers import set_rates
from bertwright.train.parallel.group import ALONE, BatchSlice, Group, whole
from bertwright.types import Loss, TokenRows, flat_sums


@dataclass
class TrainStep:
    """One optimizer step over the micro-batches of a step.

    `forward_loss(example)` runs model and loss (compiled where that works) and returns the Loss.
    """

    model: nn.Module
    objective: Objective
    optimizers: list[torch.optim.Optimizer]
    forward_loss: Callable[[Any], Loss]
    average: EMA | None
    clip_norm: float
    seed: int
    device: torch.device
    group: Group = ALONE
    """The processes that share the rows of a step; `forward_loss` means their gradients, but for what is ..."""
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext
    """... done in this context: gradients are sent once a step."""
    begin_at_row: Callable[[nn.Module, int], None] | None = None
    """Tells the model at which row of a micro-batch its dropout begins, where processes share one."""
    micro_batches: MicroBatches | None = None
    """How batches are split that memory has no room for; None where there is none such."""
    compiled_loss: Callable[[Any], Loss] | None = None
    """`forward_loss` compiled, for steps from `compiled_from` on; None where it is not (yet) compiled."""
    compiled_from: int = 0
    fewer_threads_before: int = 0
    """Steps before this one run on one thread fewer: they leave a core to a compiler in another process."""

    def __call__(
        self,
        step: int,
        work: Sequence[tuple[BatchSlice, TokenRows]],
        *,
        micro_batches: int,
        rate_factor: float,
        progress: float,
    ) -> dict[str, float]:
        """Train on `step`, at `progress` in [0, 1] of the run; return the sums of the loss parts over all processes.

        `work` is what this process does of the `micro_batches` of the step, with the whole micro-batch of each piece.
        Raises NotFiniteError, with the parameters as they were, where the loss or the gradient is not finite.
        """
        with one_thread_fewer() if step < self.fewer_threads_before else nullcontext():
            totals = self.backward(step, work, micro_batches=micro_batches, progress=progress)
            norm = whole(nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm or math.inf))
            mine = torch.stack([*totals.values(), norm / self.group.size]).float()
            figures = dict(zip([*totals, "gradient_norm"], self.group.all_reduce(mine).tolist(), strict=True))
            if not (math.isfinite(figures["loss"]) and math.isfinite(figures["gradient_norm"])):
                self._clear()
                raise NotFiniteError(
                    f"at step {step} the loss is {figures['loss']} and the gradient norm {figures['gradient_norm']}"
                )
            set_rates(self.optimizers, factor=rate_factor, progress=progress)
            for optimizer in self.optimizers:
                optimizer.step()
            self._clear()
        return figures

    def backward(
        self, step: int, work: Sequence[tuple[BatchSlice, TokenRows]], *, micro_batches: int, progress: float
    ) -> dict[str, Tensor]:
        """Add up the gradients of a step; return the sums of the loss parts of this process."""
        totals: dict[str, Tensor] = {}
        forward_loss = self.forward_loss_at(step)
        examples = self.examples(step, work, micro_batches=micro_batches, progress=progress)
        for done, ((piece, batch), example) in enumerate(zip(work, examples, strict=True), 1):
            self.begin_dropout(step, piece, rows=len(batch.input_ids))
            with self.no_sync() if done < len(work) else nullcontext():
                loss = self._split(step, piece, example, forward_loss)
                if loss is None:
                    loss = forward_loss(example)
                    torch.autograd.backward(loss.total / (micro_batches / self.group.size))
            for name, value in {"loss": loss.total.detach() / micro_batches, **flat_sums(loss.parts)}.items():
                totals[name] = totals[name] + value if name in totals else value
        return totals

    def _split(self, step: int, piece: BatchSlice, example: Any, forward_loss: Callable[[Any], Loss]) -> Loss | None:
        """Do the work of a batch some rows at a time, where it must be split; return None where it need not."""
        slices = self.micro_batches.slices(example) if self.micro_batches is not None else []
        if self.micro_batches is None or len(slices) < 2:
            return None

        def begin(row: int) -> None:
            torch.manual_seed(key_of("dropout", self.seed, step, piece.index))
            if self.begin_at_row is not None:
                self.begin_at_row(self.model, row)

        return self.micro_batches.backward(example, slices, forward_loss, begin)

    def forward_loss_at(self, step: int) -> Callable[[Any], Loss]:
        """Return what runs model and loss at `step`: by its number alone, so that a step done again is the same."""
        if self.compiled_loss is None or step < self.compiled_from:
            return self.forward_loss
        return self.compiled_loss

    def examples(
        self, step: int, work: Sequence[tuple[BatchSlice, TokenRows]], *, micro_batches: int, progress: float
    ) -> list[Any]:
        """Return what this process does of a step, corrupted.

        Of several micro-batches, the losses of each are divided by the counts of all of them, which differ a little.
        """
        found = []
        for piece, batch in work:
            example = self.example(step, piece.index, batch, progress)
            found.append(example if piece.whole else example.cut(piece.rows(len(example.input_ids))))
        if micro_batches > 1:
            counts = self.group.all_reduce(torch.stack([example.counts() for example in found]).sum(0)) / micro_batches
            found = [replace(example, normalizer=counts.to(self.device, torch.float32)) for example in found]
        return found

    def example(self, step: int, index: int, batch: TokenRows, progress: float) -> Any:
        """Return micro-batch `index` of `step` corrupted.

        Where the number of slots changes along the run, the compiler is told so: one graph serves all of them.
        """
        generator = torch.Generator(self.device).manual_seed(key_of("mask", self.seed, step, index))
        example = self.objective.corrupt(batch.to(self.device), generator, progress)
        if self.objective.has_dynamic_slots:
            for slots in (example.masked_positions, example.masked_labels, example.masked_weights):
                torch._dynamo.mark_dynamic(slots, 1)
        return example

    def begin_dropout(self, step: int, piece: BatchSlice, *, rows: int) -> None:
        """Set torch's random state for a piece of a micro-batch of `rows` rows, and the row at which it begins."""
        torch.manual_seed(key_of("dropout", self.seed, step, piece.index))
        if self.begin_at_row is not None:
            self.begin_at_row(self.model, piece.rows(rows).start)

    def _clear(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)


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


def forward_loss_of(model: nn.Module, objective: Objective, cast: Callable[[], Any]) -> Callable[[Any], Loss]:
    """Return the function to compile: model and loss in one, the forward pass inside `cast()`."""

    def forward_loss(example: Any) -> Loss:
        with cast():
            scores = model(example)
        return objective.loss(scores, example)

    return forward_loss
