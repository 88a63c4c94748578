"""`evaluate --errors`: slices, reliability and the worst errors of a task, and which kinds have none."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertwright.cli.main import main
from bertwright.errors import UsageError
from bertwright.verbs.evaluate import evaluate


def test_where_a_classifier_is_wrong(fine_tuned: dict[str, Path], tmp_path: Path) -> None:
    words = ["a fine film", "the list is empty", "it rains", "anna lives in graz and they go home"]
    rows = [f"{words[n % 4]}{' films' * (n % 5)}\t{('bad', 'fair', 'good')[n % 3]}" for n in range(120)]
    file = tmp_path / "test.tsv"
    file.write_text("text\tlabel\n" + "\n".join(rows))
    plain = evaluate("classify", fine_tuned["classify"], file)
    found = evaluate("classify", fine_tuned["classify"], file, errors=True)
    assert {name: found[name] for name in plain} == plain
    by_label = {one["slice"]: one for one in found["slices"] if one["by"] == "label"}
    assert {name: one["examples"] for name, one in by_label.items()} == {"bad": 40, "fair": 40, "good": 40}
    assert sum(one["accuracy"] for one in by_label.values()) / 3 == pytest.approx(found["accuracy"])
    assert {one["by"] for one in found["slices"]} == {"length", "label", "words in pieces or unknown"}
    assert sum(one["examples"] for one in found["reliability"]) == 120
    mean = sum(one["examples"] * one["accuracy"] for one in found["reliability"]) / 120
    assert mean == pytest.approx(found["accuracy"])
    assert 0 < len(found["errors"]) <= 20
    assert all(one["label"] not in one["prediction"].split() for one in found["errors"])
    shown = str(found)
    assert "slices" in shown
    assert "worst" in shown


def test_slices_of_a_ranking_are_of_its_queries(fine_tuned: dict[str, Path], tmp_path: Path) -> None:
    """A query without a relevant passage counts nowhere."""
    words = ["a fine film", "the list is empty", "it rains"]
    rows = [
        f"it rains{' films' * (8 * (query % 2))} {query}\t{word}\t{int(query % 3 == place and query > 0)}"
        for query in range(81)
        for place, word in enumerate(words)
    ]
    file = tmp_path / "test.tsv"
    file.write_text("query\tpassage\trelevance\n" + "\n".join(rows))
    found = evaluate("rank", fine_tuned["rank"], file, errors=True)
    by_length = [one for one in found["slices"] if one["by"] == "length"]
    assert sum(one["examples"] for one in by_length) == 80
    mean = sum(one["examples"] * one["ndcg_at_10"] for one in by_length) / 80
    assert mean == pytest.approx(found["ndcg_at_10"])
    assert found["errors"]


def test_other_kinds_have_no_slices(
    fine_tuned: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="--against"):
        evaluate("classify", fine_tuned["classify"], "x.tsv", errors=True, against=fine_tuned["classify"])
    words = ["evaluate", "mlm", "--model", str(fine_tuned["classify"]), "--data", str(tmp_path), "--errors"]
    assert main(words) == 2
    assert "--errors" in capsys.readouterr().err
