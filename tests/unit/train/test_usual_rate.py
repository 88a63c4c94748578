"""The default learning rate: as published at 768 units, larger for small models and where few weights learn."""

from __future__ import annotations

from typing import Any

import pytest

from bertwright.model.config import BertConfig
from bertwright.train.task_setup.finetune_config import resolve_finetune


def _rate(width: int, task: str = "classify", **transfer: Any) -> float:
    shape = BertConfig(vocab_size=512, layers=2, hidden_size=width, heads=2, intermediate_size=4 * width)
    return resolve_finetune(task, {"transfer": transfer}).fitted(shape, positions=128).optimizer.learning_rate


def test_small_models_have_larger_rates_and_large_ones_the_published_one_by_width() -> None:
    assert _rate(768) == pytest.approx(3e-5)
    assert _rate(384) == pytest.approx(1.2e-4)
    assert _rate(256, "embed") == pytest.approx(2.7e-4)
    assert _rate(1024) == pytest.approx(2.25e-5)
    assert _rate(256, "translate") == pytest.approx(9e-4)


def test_few_weights_and_few_examples_go_by_the_width_itself() -> None:
    assert _rate(384, few_shot=True) == pytest.approx(6e-5)
    assert _rate(384, lora_rank=8) == pytest.approx(6e-4)
    assert _rate(384, freeze="all") == pytest.approx(1.8e-3)
    assert _rate(384, freeze=1) == pytest.approx(1.2e-4)


def test_a_rate_that_is_given_is_kept() -> None:
    shape = BertConfig(vocab_size=512, layers=2, hidden_size=128, heads=2, intermediate_size=512)
    config = resolve_finetune("classify", {"optimizer": {"learning_rate": 1e-3}}).fitted(shape, positions=64)
    assert config.optimizer.learning_rate == 1e-3
