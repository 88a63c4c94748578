"""Turns the model of a pre-training run into held-out figures and sample predictions, as often as a run can afford."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from bertwright.corpus.shards import bytes_per_token
from bertwright.data.pretraining.dataset import Dataset
from bertwright.inference.samples import COUNT as SAMPLES
from bertwright.inference.samples import choose_samples, predict_samples
from bertwright.model.config import ModelConfig, training_flops
from bertwright.objectives.base import PretrainingObjective
from bertwright.objectives.combine import build_objective, for_evaluation
from bertwright.train.auxiliary import encoder_of
from bertwright.train.ema import AVERAGE
from bertwright.train.held_out import held_out_examples, held_out_figures, mixed_figures, with_nats_per_byte
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.train.state import TrainState
from bertwright.train.step import Engine
from bertwright.types import MaskedBatch

WORK = 0.05
"""Of the operations of a run, the most its held-out evaluations may take together, but for the one at its end."""
MOST = 20
"""Evaluations of a run that can afford more; curves need no more points."""


class Evaluator:
    """Evaluates the model of a run on the held-out rows of each of its folders: the same rows and masks each time."""

    def __init__(
        self,
        dataset: Dataset,
        config: PretrainConfig,
        state: TrainState,
        engine: Engine,
        *,
        until: Callable[[Iterable[MaskedBatch]], Iterator[MaskedBatch]] = iter,
    ) -> None:
        """Draw the rows; `until(examples)` yields the examples, or ends an evaluation by an exception."""
        tokenizer, self.length = dataset.tokenizer, config.schedule.phases[0].length
        self.dataset, self.state, self.engine, self.until = dataset, state, engine, until
        self.model = encoder_of(state.model)
        self.objective = build_objective(
            for_evaluation(config.objective), vocab_size=dataset.vocab_size, mask_id=tokenizer.special.mask
        )
        self.examples = [
            held_out_examples(shards, tokenizer, self.objective, length=self.length, rows=config.engine.evaluation_rows)
            for shards in dataset.valid
        ]
        first = dataset.valid[0]
        self.sentences = choose_samples(first, tokenizer) if self.examples[0] and first is not None else []

    def times(self, work: float) -> int:
        """Return how many evaluations a run of so many operations can afford."""
        rows = sum(len(example.input_ids) for of_one in self.examples for example in of_one)
        passes = 1 if self.state.average is None else 2
        shape = self.model.config
        return evaluation_count(shape, self.objective, rows=rows, length=self.length, passes=passes, work=work)

    def figures(self) -> dict[str, float]:
        """Return figures such as {"mlm_loss": 6.1}; those of averaged weights, if any, have names of their own."""
        raw = self._figures()
        if self.state.average is None:
            return raw
        with self.state.average.in_place():
            return raw | {f"{AVERAGE}{name}": value for name, value in self._figures().items()}

    def _figures(self) -> dict[str, float]:
        """Return the figures of the weights as they are, of each folder and of the mixture."""
        engine, figures = self.engine, {}
        each = zip(self.dataset.names, self.dataset.manifests, self.examples, strict=True)
        for name, manifest, examples in each:
            # Several processes stop after the step: one that left half-way would leave the others waiting.
            rows = self.until(examples) if engine.group.size == 1 else examples
            found = held_out_figures(
                self.model, self.objective, rows, device=engine.device, cast=engine.cast, group=engine.group
            )
            figures[name] = with_nats_per_byte(found, bytes_per_token(manifest, "valid"))
        return mixed_figures(figures, self.dataset.weights)

    def samples(self) -> list[dict[str, Any]]:
        """Return what the model predicts for fixed sentences with a masked word."""
        context: AbstractContextManager[None] = nullcontext()
        if self.engine.sharded:  # its methods need the weights outside blocks
            from bertwright.train.parallel.wrap import outside_blocks_whole

            context = outside_blocks_whole(self.model)
        with context:
            return predict_samples(self.model, self.dataset.tokenizer, self.sentences)


def evaluation_count(
    shape: ModelConfig, objective: PretrainingObjective, *, rows: int, length: int, passes: int, work: float
) -> int:
    """Return how many evaluations of `rows` held-out rows fit into their fraction of `work`: 1 to 20.

    An evaluation is a forward pass, a third of the operations of a training step, over these rows and the sentences
    whose predictions are shown; over all of them again for averaged weights (2 `passes`).
    """
    masked = objective.masked_slots(length)
    one = passes * training_flops(shape, rows=rows + SAMPLES, length=length, masked=masked) / 3
    return max(1, min(MOST, int(WORK * work / one)))
