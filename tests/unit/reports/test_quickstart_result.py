"""The closing words of a quickstart: figures beside what needs no learning, and an outlook that follows the loss."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bertwright.reports.quickstart_result import README_SPEED, learned_rows, machine_sentence, outlook

FIGURES: dict[str, Any] = {
    "steps": 700,
    "tokens_per_second": README_SPEED / 2,
    "unigram_entropy": 6.0,
    "valid": {
        "mlm_loss": 4.0,
        "mlm_accuracy": 0.3,
        "nsp_accuracy": 0.8,
        "nsp_balanced_accuracy": 0.79,
        "nsp_majority": 0.55,
    },
}


def course(losses: list[float]) -> list[dict[str, Any]]:
    return [{"step": 100 * (place + 1), "valid": {"mlm_loss": loss}} for place, loss in enumerate(losses)]


def test_figures_stand_beside_what_needs_no_learning() -> None:
    rows = learned_rows(FIGURES, commonest=0.04)
    cells = [(ours, without.split(" (")[0]) for _, ours, without in rows]
    assert cells == [
        ("4.00 nats, 55", "6.00 nats, 403"),
        ("30.0%", "4.0%"),
        ("79.0%", "50.0%"),
        ("80.0%", "55.0%"),
    ]
    assert learned_rows({**FIGURES, "valid": {}}, commonest=0.04) == []
    assert len(learned_rows({**FIGURES, "valid": {"mlm_loss": 9.0, "mlm_accuracy": 0.0}}, commonest=0.04)) == 2


def test_the_machine_is_put_beside_that_of_the_readme() -> None:
    assert "700 steps" in machine_sentence(FIGURES)
    assert "50% of" in machine_sentence(FIGURES)


def test_the_outlook_follows_the_last_quarter() -> None:
    """Eight evaluations: three quarters of the steps are the sixth, whose loss is 4.5."""
    assert "0.30 nats" in outlook(course([7, 6, 5.5, 5, 4.8, 4.5, 4.3, 4.2]))
    assert "hardly" in outlook(course([7, 6, 5.5, 5, 4.8, 4.5, 4.5, 4.495]))
    assert "0.00 nats" in outlook(course([7, 6, 5.5, 5, 4.8, 4.5, 4.6, 4.7]))


def test_the_outlook_lies_between_evaluations() -> None:
    """Five evaluations: three quarters of the steps lie between the third, 5.0, and the fourth, 4.0: at 4.25."""
    assert "0.75 nats" in outlook(course([7, 6, 5, 4, 3.5]))


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_a_few_steps_promise_nothing(count: int) -> None:
    assert "too few" in outlook([{"step": place + 1, "mlm_loss": 7.0, "valid": None} for place in range(count)])


def test_without_evaluations_the_training_loss_is_told() -> None:
    lines = [{"step": place + 1, "mlm_loss": 8.0 - 0.1 * place} for place in range(20)]
    assert re.search(r"training loss.*0\.50 nats", outlook(lines))
