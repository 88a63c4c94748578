"""Sets up fine-tuning of a head over the encoder: of texts, words, spans or choices."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from bertwright.hub.cards.model_cards import task_card
from bertwright.hub.encoder_folder import read_model
from bertwright.hub.task_folder import save_fine_tuned
from bertwright.inference.scoring import score_rows
from bertwright.log import note
from bertwright.model.config import ModelConfig, training_flops
from bertwright.model.crf import Crf
from bertwright.model.encoder import SEQUENCE_HEADS
from bertwright.model.task_model import FineTuned
from bertwright.rng import key_of
from bertwright.tasks.base import Task
from bertwright.tasks.by_name import config_to_keep, task_named
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.metrics import figure_names
from bertwright.train.callbacks.base import Callback
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.few_shot import start_from_pairs
from bertwright.train.task_setup.finetune_config import FinetuneConfig
from bertwright.train.task_setup.r_drop import RDrop
from bertwright.train.task_setup.transfer import check_transfer, learning_rates, treat, unfreezing


@dataclass(frozen=True)
class HeadSetup(TaskSetup):
    """What seeds have in common that train a head over the encoder."""

    task: Task[Any]

    @classmethod
    def fitted(cls, config: FinetuneConfig, encoder_config: ModelConfig, folder: Path) -> tuple[FinetuneConfig, str]:
        """Return the settings fitted to a model."""
        task_named(config.task)
        check_transfer(config, layers=encoder_config.layers, folder=folder)
        return config.fitted(encoder_config, positions=encoder_config.max_positions), ""

    def new_model(self, seed: int) -> FineTuned:
        """Return the pre-trained encoder with a new head drawn from `seed`, frozen and adapted as the settings say."""
        torch.manual_seed(key_of("head", seed))
        encoder, report = read_model(self.folder)
        model = FineTuned(
            encoder,
            head_type=self.task.head_type,
            outputs=len(self.task.outputs),
            dropout=self.config.transfer.head_dropout,
            crf=self.task.new_crf(),
        )
        self.task.init_head(model.classifier)
        drawn = sorted({name.split(".")[0] for name in report.initialised if name in encoder.state_dict()})
        if drawn:
            note(f"{self.folder} has no weights for {', '.join(drawn)}: drawn at random, and trained with the head")
        treat(model, self.config.transfer)
        model.to(self.device)
        if self.config.transfer.few_shot:
            start_from_pairs(
                model,
                self.splits["train"].rows,
                rate=self.config.optimizer.learning_rate,
                tokens=self.config.batches.tokens,
                seed=seed,
                device=self.device,
                cast=self.cast,
            )
        return model

    def objective(self, model: FineTuned) -> Task[Any] | RDrop:
        """Return the task with the CRF of a model, if it has one; under R-Drop, twice."""
        task, alpha = self.task.with_crf(model.crf), self.config.transfer.r_drop
        return RDrop(task, alpha=alpha) if alpha else task

    def rate_factors(self, model: FineTuned) -> dict[str, float] | None:
        """Return factors that fall from the head down."""
        top = self.encoder_config.layers + 1
        return learning_rates(model, self.config.transfer.layer_decay, top=top)

    def callbacks(self, model: FineTuned) -> list[Callback]:
        """Return the callback that unfreezes the model, if blocks are to be unfrozen."""
        thaw = unfreezing(model, self.config.transfer)
        return [] if thaw is None else [thaw]

    @property
    def rows_per_example(self) -> int:
        """Rows an example has in a batch, at most: twice as many under R-Drop."""
        return super().rows_per_example * (2 if self.config.transfer.r_drop else 1)

    def row_flops(self, rows: int, length: int) -> int:
        """Return the operations of a step over rows of similar length that have as many targets as rows of train do."""
        train, shape = self.splits["train"].rows, self.encoder_config
        masked = length if train.positions is None else train.usual_targets
        averaged = self.task.head_type in SEQUENCE_HEADS and shape.averages_rows
        outputs = len(self.task.labels)
        return training_flops(shape, rows=rows, length=length, masked=masked, outputs=outputs, averaged=averaged)

    def evaluate(self, model: FineTuned, split: str, *, training: bool = False) -> EvalResult:
        """Return the figures of a model on a split.

        Scores are always float32: between 2 and 4 bfloat16 knows steps of 0.016 alone, and what is equal has no order.
        """
        cast = self.cast if training and self.task.problem != "regression" else nullcontext
        logits = score_rows(model, self.splits[split].rows, device=self.device, cast=cast)
        mistakes = 0 if training else self.config.watch.mistakes
        return self.task.with_crf(model.crf).evaluate(logits, self.splits[split].examples, mistakes=mistakes)

    def tuned(self, model: FineTuned) -> tuple[Self, EvalResult]:
        """Return the setup with its task tuned on dev, and how good it is there."""
        return self.tuned_by(self.logits(model, "dev"), model.crf)

    def tuned_by(self, logits: np.ndarray, crf: Crf | None = None) -> tuple[Self, EvalResult]:
        """Return the same for logits [Q, outputs] of dev."""
        dev = self.splits["dev"].examples
        task = self.task.with_crf(crf).tuned(logits, dev)
        result = task.evaluate(logits, dev, mistakes=self.config.watch.mistakes)
        return replace(self, task=task.with_crf(None)), result

    def logits(self, model: FineTuned, split: str) -> np.ndarray:
        """Return the logits [Q, outputs] of a model for a split, in float32."""
        return score_rows(model, self.splits[split].rows, device=self.device)

    def extra_facts(self) -> dict[str, Any]:
        """Return what was set on dev."""
        return self.task.tuned_settings

    def save(self, model: FineTuned, out: Path, *, name: str, figures: Mapping[str, Any]) -> None:
        """Write the folder of the class Hugging Face has for such a head."""
        save_fine_tuned(
            model,
            self.tokenizer.path.parent,
            out,
            labels=self.task.outputs,
            problem=self.task.problem,
            extra_config=config_to_keep(self.task),
            max_length=self.config.batches.max_length,
            divisors=self.task.divisors,
            card=task_card(name, figures, names=figure_names(figures["dev"], positive=self.task.positive)),
        )
