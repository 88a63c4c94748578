"""Turns the model of a pre-training run into held-out figures and sample predictions, as often as a run can afford."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bertwright.corpus.manifest import bytes_per_token
from bertwright.data.pretraining.dataset import Dataset, open_dataset
from bertwright.errors import DataError
from bertwright.inference.probes import Probe, open_probes
from bertwright.inference.samples import COUNT as SAMPLES
from bertwright.inference.samples import choose_samples, predict_samples
from bertwright.model.config import ModelConfig, training_flops
from bertwright.objectives.base import PretrainingObjective
from bertwright.objectives.combine import build_objective, finds_replaced, for_evaluation
from bertwright.train.auxiliary import ObjectiveWithAuxiliary, encoder_of, generator_of, scaled
from bertwright.train.ema import AVERAGE
from bertwright.train.held_out import held_out_examples, held_out_figures, mixed_figures, with_nats_per_byte
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.train.state import TrainState
from bertwright.train.step import Engine
from bertwright.types import Loss, MaskedBatch

WORK = 0.05
"""Of the operations of a run, the most its held-out evaluations may take together, but for the one at its end."""
MOST = 20
"""Evaluations of a run that can afford more; curves need no more points."""


@dataclass(frozen=True)
class Beside:
    """What a run is measured by beside the held-out rows of its data: general text, and probes.

    `own` are figures of the model it goes on from, with the vocabulary of that: see `own_vocabulary_figures`.
    """

    general: Dataset | None = None
    probes: Sequence[Probe] = ()
    own: Mapping[str, float] = field(default_factory=dict)


def open_beside(config: PretrainConfig, dataset: Dataset) -> Beside:
    """Return what the settings of a run name; raises DataError or CorpusError where it cannot be read or used."""
    general, probes = None, [Path(file) for file in config.engine.probes]
    if config.engine.general is not None:
        general = open_dataset([Path(config.engine.general)])
        if general.manifests[0]["tokenizer"]["sha256"] != dataset.manifests[0]["tokenizer"]["sha256"]:
            raise DataError(
                f"--general {config.engine.general} was prepared with another tokenizer than {dataset.folders[0]}; "
                f"prepare it again with --tokenizer {dataset.folders[0] / 'tokenizer'}"
            )
    return Beside(general, open_probes(probes, dataset.tokenizer, longest=config.model.max_positions))


class Evaluator:
    """Evaluates the model of a run on the held-out rows of each of its folders: the same rows and masks each time.

    Also on those of a folder of general text that it is not trained on, and by probes, where the run has any.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: PretrainConfig,
        state: TrainState,
        engine: Engine,
        *,
        beside: Beside | None = None,
        until: Callable[[Iterable[MaskedBatch]], Iterator[MaskedBatch]] = iter,
    ) -> None:
        """Draw the rows; `until(examples)` yields the examples, or ends an evaluation by an exception."""
        tokenizer, self.length = dataset.tokenizer, config.schedule.phases[0].length
        beside = beside or Beside()
        general, self.probes, self.own = beside.general, beside.probes, beside.own
        self.dataset, self.state, self.engine, self.until = dataset, state, engine, until
        self.model = self.masked_model = encoder_of(state.model)
        self.objective = build_objective(
            for_evaluation(config.objective), vocab_size=dataset.vocab_size, mask_id=tokenizer.special.mask
        )
        self.loss_of: Callable[[nn.Module, MaskedBatch], Loss] | None = None
        generator = generator_of(state.model)
        if finds_replaced(config.objective) and generator is not None:
            self.masked_model = generator
            self.loss_of = ObjectiveWithAuxiliary(self.objective, generator, engine.cast).held_out_loss
        self.examples = [
            held_out_examples(shards, tokenizer, self.objective, length=self.length, rows=config.engine.evaluation_rows)
            for shards in (*dataset.valid, *(general.valid if general is not None else ()))
        ]
        self.names = [*dataset.names, *([name_of_general(general, dataset)] if general is not None else [])]
        manifests = [*dataset.manifests, *(general.manifests if general is not None else ())]
        self.bytes_per_token = [bytes_per_token(manifest, "valid") for manifest in manifests]
        first = dataset.valid[0]
        self.sentences = choose_samples(first, tokenizer) if self.examples[0] and first is not None else []

    def times(self, work: float) -> int:
        """Return how many evaluations a run of so many operations can afford."""
        rows = sum(len(example.input_ids) for of_one in self.examples for example in of_one)
        passes = 1 if self.state.average is None else 2
        shape, probed = self.model.config, -(-sum(probe.tokens for probe in self.probes) // self.length)
        return evaluation_count(
            shape, self.objective, rows=rows, length=self.length, passes=passes, probed=probed, work=work
        )

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
        for name, size, examples in zip(self.names, self.bytes_per_token, self.examples, strict=True):
            # Several processes stop after the step: one that left half-way would leave the others waiting.
            rows = self.until(examples) if engine.group.size == 1 else examples
            found = held_out_figures(
                self.model, self.objective, rows, device=engine.device, cast=engine.cast, group=engine.group,
                loss_of=self.loss_of,
            )  # fmt: skip
            figures[name] = with_nats_per_byte(found, size)
        trained = {name: figures.pop(name) for name in self.dataset.names}
        beside = {f"{name}/{kind}": value for name, values in figures.items() for kind, value in values.items()}
        return mixed_figures(trained, self.dataset.weights) | beside

    def samples(self) -> list[dict[str, Any]]:
        """Return what the model, or the generator beside it, predicts for fixed sentences with a masked word."""
        with self._whole():
            return predict_samples(self.masked_model, self.dataset.tokenizer, self.sentences)

    def probed(self) -> dict[str, float]:
        """Return the accuracy of each probe, by its name."""
        training = self.model.training
        self.model.eval()
        with self._whole(), torch.compiler.set_stance("force_eager"):
            figures = {probe.name: round(probe.measure(self.model, cast=self.engine.cast), 6) for probe in self.probes}
        self.model.train(training)
        return figures

    def _whole(self) -> AbstractContextManager[None]:
        """Return the context in which methods of the model can be called: they need the weights outside blocks."""
        if not self.engine.sharded:
            return nullcontext()
        from bertwright.train.parallel.wrap import outside_blocks_whole

        return outside_blocks_whole(self.model)


def name_of_general(general: Dataset, dataset: Dataset) -> str:
    """Return the name by which the figures of general text go beside those of the data of a run."""
    (name,) = general.names
    return f"{name}-general" if name in dataset.names else name


def evaluation_count(
    shape: ModelConfig,
    objective: PretrainingObjective,
    *,
    rows: int,
    length: int,
    passes: int,
    work: float,
    probed: int = 0,
) -> int:
    """Return how many evaluations of `rows` held-out rows fit into their fraction of `work`: 1 to 20.

    An evaluation is a forward pass, a third of the operations of a training step, over these rows and the sentences
    whose predictions are shown; over all of them again for averaged weights (2 `passes`); and over as many tokens as
    `probed` rows have, for probes.
    """

    def flops_of(*, masked: int, outputs: int | None = None, **fields: Any) -> int:
        return training_flops(
            scaled(shape, **fields), rows=rows + SAMPLES, length=length, masked=masked, outputs=outputs
        )

    one = passes * objective.flops(flops_of, length=length, progress=1.0) / 3
    one += training_flops(shape, rows=probed, length=length, masked=objective.masked_slots(length)) / 3
    return max(1, min(MOST, int(WORK * work / one)))
