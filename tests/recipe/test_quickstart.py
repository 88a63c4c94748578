"""The whole walk of `quickstart` on a small corpus: its figures explain themselves, and it says what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bertwright.result import Result
from bertwright.verbs import quickstart as recipe
from bertwright.verbs.prepare import prepare
from bertwright.verbs.pretrain import pretrain


def test_it_ends_with_figures_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a minute is replaced by four steps."""
    lines = [f"Town {n} has {n % 7} rivers. It rains there in month {n % 12}." for n in range(400)]
    (tmp_path / "text.txt").write_text("\n\n".join("\n".join(lines[n : n + 8]) for n in range(0, 400, 8)))
    given: dict[str, Any] = {}

    def prepare_small(_: list[str], out: Path, **__: Any) -> Result:
        return prepare([tmp_path / "text.txt"], out, vocab_size=512, valid_fraction=0.1)

    def pretrain_briefly(data: Path, out: Path, *, recipe: str, settings: dict[str, Any]) -> Result:
        given.update(settings)
        schedule = {"steps": 4, "phases": [{"length": 32, "rows": 4, "share": 1.0}]}
        engine = {"compile": False, "precision": "fp32", "evaluations": 1, "evaluation_rows": 32, "log_every": 2}
        return pretrain(data, out, recipe=recipe, settings={**settings, "schedule": schedule, "engine": engine})

    monkeypatch.setattr(recipe, "VOCAB_SIZE", 512)
    monkeypatch.setattr(recipe, "prepare", prepare_small)
    monkeypatch.setattr(recipe, "pretrain", pretrain_briefly)
    figures = recipe.quickstart(tmp_path / "out", minutes=0.5)
    predicted = str(figures)
    assert given["schedule"]["minutes"] == 0.5
    assert "without learning" in predicted
    assert "constant answer" in predicted
    assert "4 steps" in predicted
    assert "too few" in predicted
    assert f"{figures['valid']['mlm_accuracy']:.1%}" in predicted
    assert "predict --model" in predicted
