"""Several labels a text: lists and marked cells say the same, a text may have none, and what is odd is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bertwright.errors import CorpusError
from bertwright.tasks.base import TrainFile
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.columns import ColumnsConfig

ROWS = [("a song", ["music"]), ("a meal", []), ("both", ["food", "music"]), ("three", ["10", "food", "9"])]


def test_lists_and_marked_cells_are_the_same(tmp_path: Path) -> None:
    lines = {
        "a.jsonl": [json.dumps({"text": text, "labels": labels}) for text, labels in ROWS],
        "b.tsv": ["text\tlabels", *(f"{text}\t{' ; '.join(labels)}" for text, labels in ROWS)],
        "c.tsv": ["text\tlabels", *(f"{text}\t{json.dumps(labels)}" for text, labels in ROWS)],
    }
    for name, written in lines.items():
        (tmp_path / name).write_text("\n".join(written) + "\n")
        task, splits = MultiLabel.from_train_file(TrainFile(tmp_path / name, ColumnsConfig(label_separator=";")))
        examples = splits["train"]
        assert task.labels == ("9", "10", "food", "music")
        assert examples.targets.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 0]]
        assert task.read(tmp_path / name).targets.tolist() == examples.targets.tolist()


def test_answers_are_the_labels_above_one_half() -> None:
    task = MultiLabel.from_labels(["a", "b"])
    answers = task.predictions(np.array([[0.1, 2.0], [-0.1, -3.0]]), task.from_questions([("x",), ("y",)]))
    assert [answer["labels"] for answer in answers] == [["a", "b"], []]
    assert answers[0]["probabilities"]["b"] == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_the_worst_errors_come_first() -> None:
    task = MultiLabel.from_labels(["a", "b"])
    examples = task.from_questions([("right",), ("bad",), ("worst",)])
    marked = type(examples)(examples.path, examples.first, None, np.array([[1, 0], [1, 0], [1, 0]], dtype=np.float32))
    evaluated = task.evaluate(np.array([[3.0, -3.0], [-1.0, -3.0], [-4.0, 4.0]]), marked, mistakes=5)
    assert [(mistake.text, mistake.label, mistake.prediction) for mistake in evaluated.mistakes] == [
        ("worst", "a", "b"),
        ("bad", "a", "nothing"),
    ]
    assert evaluated.table is not None
    assert evaluated.table.rows[0] == ["a", "1.0000", "0.3333", "0.5000", "3", "1"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a song\t", "a meal\t"], r"labels.*no label"),
        (["a song\tmusic", "a meal\t"], "'music'"),
        (['a song\t["music"', "a meal\tfood"], r"row 1.*list"),
    ],
)
def test_what_is_odd_is_said(tmp_path: Path, lines: list[str], message: str) -> None:
    (tmp_path / "a.tsv").write_text("\n".join(["text\tlabels", *lines]) + "\n")
    with pytest.raises(CorpusError, match=message):
        MultiLabel.from_train_file(TrainFile(tmp_path / "a.tsv", ColumnsConfig()))
