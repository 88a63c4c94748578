"""Sentence order: loss and balanced accuracy by their definitions, and which rows it wants."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch.nn import functional

from bertwright.errors import ConfigError, DataError
from bertwright.objectives.base import unhidden
from bertwright.objectives.combine import build_objective, needs_pairs
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.sop import SentenceOrderPrediction
from bertwright.types import Batch, Scores, flat_sums, part_figures

LABELS = torch.tensor([0, 1, 1, 0, 1, 1, 1, 0])


def example_of(labels: torch.Tensor | None) -> object:
    ids = torch.ones((8, 6), dtype=torch.int64)
    return unhidden(Batch(ids, ids * 0, ids > 0, ids > 0, ids > 0, labels))


def test_loss_and_figures_are_those_of_the_definitions() -> None:
    logits = torch.randn((8, 2), generator=torch.Generator().manual_seed(0))
    objective = SentenceOrderPrediction()
    found = objective.loss(Scores(torch.zeros((8, 0, 9)), logits), example_of(LABELS))  # type: ignore[arg-type]
    assert found.total.item() == pytest.approx(functional.cross_entropy(logits, LABELS).item())
    sums = {name: float(value) for name, value in flat_sums(found.parts).items()}
    figures = objective.figures(sums) | part_figures(sums)
    balanced = balanced_accuracy_score(LABELS.numpy(), logits.argmax(1).numpy())
    assert figures["sop_balanced_accuracy"] == pytest.approx(balanced, abs=1e-6)
    assert figures["sop_majority"] == 0.625
    assert figures["sop_accuracy"] == pytest.approx((logits.argmax(1) == LABELS).float().mean().item())
    assert set(figures) == {"sop_balanced_accuracy", "sop_majority", "sop_loss", "sop_accuracy"}


def test_it_goes_with_masking_on_ordered_pairs_and_not_beside_next_sentences() -> None:
    config = ObjectiveConfig(names=("mlm", "sop"))
    assert needs_pairs(config)
    assert build_objective(config, vocab_size=9, mask_id=4).rows == "ordered_pairs"
    with pytest.raises(ConfigError, match="nsp and sop"):
        build_objective(ObjectiveConfig(names=("mlm", "nsp", "sop")), vocab_size=9, mask_id=4)
    with pytest.raises(DataError):
        SentenceOrderPrediction().loss(Scores(torch.zeros(8, 0, 9), torch.zeros(8, 2)), example_of(None))  # type: ignore[arg-type]
