"""Tables of choices: SWAG's columns, lists, letters, counts that differ; right choices by number, letter or text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from bertwright.data.labelled.rows_of_labels import LabelledRows, LabelledSource
from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.multiple_choice.reader import choices_of_questions, read_choices
from bertwright.tasks.multiple_choice.task import FIRST, RIGHT, Choose
from bertwright.types import LabelledBatch

NOTHING = ColumnsConfig()


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_swag(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "video-id,sent1,sent2,ending0,ending1,ending2,ending3,label\n"
        '7,A man sits.,He,runs,"stands, slowly",flies,swims,1\n'
    )
    found = read_choices(tmp_path / "a.csv", NOTHING)
    firsts, seconds = found.pairs()
    assert firsts == ["A man sits."] * 4
    assert seconds == ["He runs", "He stands, slowly", "He flies", "He swims"]
    assert found.right.tolist() == [1]


def test_lists_of_different_lengths(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "a.jsonl",
        {"article": "Long ago.", "question": "Who?", "options": ["x", "y", "z"], "answer": "C"},
        {"article": "Today.", "question": "What?", "options": ["u", "v"], "answer": "A"},
    )
    found = read_choices(file, NOTHING)
    assert found.counts.tolist() == [3, 2]
    assert found.right.tolist() == [2, 0]
    assert found.pairs()[1] == ["Who? x", "Who? y", "Who? z", "What? u", "What? v"]
    assert found.of(1) == ["u", "v"]
    assert found.questions()[1] == ("Today.", "What? u", "What? v")


@pytest.mark.parametrize(
    ("labels", "right"),
    [(["1", "2"], [0, 1]), (["0", "1"], [0, 1]), (["second one", "1"], [1, 1]), (["b", "A"], [1, 0])],
)
def test_right_choices(tmp_path: Path, labels: list[str], right: list[int]) -> None:
    """Numbers are those of the columns where all are, and count from 0 otherwise."""
    rows = [{"premise": "p", "choice1": "first one", "choice2": "second one", "label": label} for label in labels]
    assert read_choices(lines(tmp_path / "a.jsonl", *rows), NOTHING).right.tolist() == right


def test_a_place_is_no_text_where_choices_are_numbers(tmp_path: Path) -> None:
    rows = [{"context": "x", "choices": choices, "answer": 1} for choices in (["0", "2", "1"], ["1", "3", "2"])]
    assert read_choices(lines(tmp_path / "a.jsonl", *rows), NOTHING).right.tolist() == [1, 1]


def test_empty_last_columns_are_no_choices(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("context\tending0\tending1\tending2\tlabel\nx\ta\tb\tc\t2\ny\ta\tb\t\t1\n")
    assert read_choices(tmp_path / "a.tsv", NOTHING).counts.tolist() == [3, 2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"context": "x", "choices": ["a", "b"], "label": 2}, r"row 1.*'2'.*2"),
        ({"context": " ", "choices": ["a", "b"], "label": 0}, r"1 rows.*context.*row 1"),
        ({"context": "x", "choices": ["a"], "label": 0}, r"row 1.*choices"),
        ({"context": "x", "body": "a", "label": 0}, "ending0"),
        ({"context": "x", "choices": ["a", "b"]}, "which column"),
    ],
)
def test_bad_tables_are_one_sentence(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_choices(lines(tmp_path / "a.jsonl", row), NOTHING)


def test_told_columns(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", {"before": "x", "choices": ["a", "b"], "best": 1})
    assert read_choices(file, ColumnsConfig(text="before", label="best")).right.tolist() == [1]
    assert read_choices(file, ColumnsConfig(text="before"), labelled=False).right.tolist() == [-1]
    with pytest.raises(UsageError, match="'nowhere'"):
        read_choices(file, ColumnsConfig(text="nowhere"))
    with pytest.raises(UsageError, match="endings"):
        choices_of_questions([("context", "one ending")])


COUNTS = [3, 2, 4]
RIGHTS = [2, 0, 1]


def test_the_loss_is_that_of_each_question() -> None:
    targets = torch.zeros(9, 1, dtype=torch.int64)
    expected = torch.zeros(())
    logits = torch.randn(9, 1, 1, requires_grad=True)
    begin = 0
    for count, right in zip(COUNTS, RIGHTS, strict=True):
        targets[begin] += FIRST
        targets[begin + right] += RIGHT
        expected = expected + functional.cross_entropy(logits[begin : begin + count, 0, 0], torch.tensor(right)) / 3
        begin += count
    rows = torch.zeros(9, 4, dtype=torch.int64)
    batch = LabelledBatch(rows, rows, rows.bool(), asked=torch.zeros(9, 1, dtype=torch.int64), targets=targets)
    loss = Choose().loss(logits, batch)
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss.total, logits)[0], torch.autograd.grad(expected, logits)[0], atol=1e-6, rtol=1e-5
    )
    assert int(loss.parts["choose"].count) == 3


def test_rows_of_a_question_stay_together() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(2, 6, size=200)
    lengths = random.integers(5, 30, size=int(counts.sum()))
    question = np.repeat(np.arange(200), counts)
    rows = LabelledRows(
        ids=np.repeat(question, lengths).astype(np.uint32),
        lengths=lengths,
        first_lengths=lengths,
        positions=np.zeros(len(lengths), dtype=np.int64),
        num_targets=np.ones(len(lengths), dtype=np.int64),
        targets=np.zeros(len(lengths), dtype=np.int64),
        pad=0,
        together=counts,
    )
    source = LabelledSource(rows.drawn(), batch_rows=8, tokens=1500, seed=0)
    seen: list[int] = []
    for t in range(source.steps(1)):
        batch = source.draw(t)
        owner = batch.input_ids[:, 0].numpy()
        here, sizes = np.unique(owner, return_counts=True)
        assert (sizes == counts[here]).all()
        assert np.count_nonzero(np.diff(owner)) == len(here) - 1 < 8
        assert batch.input_ids.numel() <= 1500
        seen += here.tolist()
    assert sorted(seen) == list(range(200))
