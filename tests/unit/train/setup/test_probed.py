"""Of a run with a generator beside its model, probes are asked of the model, and chosen weights are its best."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from bertwright.inference.probes import Probe
from bertwright.train.checkpoint.resume import lower_loss
from bertwright.train.setup.evaluator import Evaluator


class _Asked(Probe):
    kind = "nothing"

    def measure(self, model: Any, **_: Any) -> float:
        assert not model.training
        return float(model.number)


def _model(number: int) -> nn.Module:
    model = nn.Identity()
    model.number = number  # type: ignore[assignment]
    return model


def test_probes_are_asked_of_the_model_that_is_exported_in_evaluation_mode() -> None:
    evaluator = Evaluator.__new__(Evaluator)
    evaluator.model, evaluator.masked_model = _model(1), _model(2)  # type: ignore[assignment]
    evaluator.probes = [_Asked("one", 0.5, 1), _Asked("other", 0.5, 1)]

    class Engine:
        sharded, cast = False, None

    evaluator.engine = Engine()  # type: ignore[assignment]
    assert evaluator.probed() == {"one": 1.0, "other": 1.0}
    assert evaluator.model.training


@pytest.mark.parametrize(
    ("valid", "lowest"),
    [
        ({"mlm_loss": 3.0, "mlm_accuracy": 0.1}, 3.0),
        ({"mlm_loss": 3.0, "average_mlm_loss": 2.5}, 2.5),
        ({"mlm_loss": 3.0, "rtd_loss": 0.4, "average_mlm_loss": 2.0, "average_rtd_loss": 0.5}, 0.4),
    ],
)
def test_the_best_weights_are_those_of_the_model_that_is_exported(valid: dict[str, float], lowest: float) -> None:
    assert lower_loss(valid) == lowest
