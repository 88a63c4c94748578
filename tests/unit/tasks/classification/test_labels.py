"""Labels as people write them: in lists of any kind, between separators, a column each; blanks around are nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.base import TrainFile
from bertwright.tasks.classification.labels import labels_in
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.classification.task import Classify, classes_of
from bertwright.tasks.columns import ColumnsConfig

ROWS = [("a song", ["music"]), ("a meal", []), ("both", ["food", "music"]), ("all", ["film", "food", "music"])]
EXPECTED = [[0, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 1]]
COLUMN = {
    "bars": "|".join,
    "semicolons": "; ".join,
    "Chinese commas": "、".join,
    "Python": lambda labels: str(list(labels)),
    "a tuple": lambda labels: str(tuple(labels)),
    "a set": lambda labels: str(set(labels)),
    "numpy": lambda labels: "[" + " ".join(map(repr, labels)) + "]",
    "JSON": lambda labels: "[" + ", ".join(f'"{label}"' for label in labels) + "]",
    "blanks": lambda labels: "|".join(f"\u00a0{label} " for label in labels),
}


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("how", COLUMN)
def test_labels_in_one_column(tmp_path: Path, how: str) -> None:
    path = write(tmp_path / "a.tsv", ["text\tlabels", *(f"{text}\t{COLUMN[how](labels)}" for text, labels in ROWS)])
    task, splits = MultiLabel.from_train_file(TrainFile(path, ColumnsConfig()))
    examples = splits["train"]
    assert task.labels == ("film", "food", "music")
    assert examples.targets.tolist() == EXPECTED
    assert task.read(path).targets.tolist() == EXPECTED
    again = MultiLabel.from_labels(task.labels).with_columns(path, ColumnsConfig())
    assert again.read(path).targets.tolist() == EXPECTED


@pytest.mark.parametrize("flags", [("0", "1"), ("0.0", "1.0"), ("False", "True")])
@pytest.mark.parametrize("given", [None, "film,food,music"])
def test_a_column_for_each_label(tmp_path: Path, flags: tuple[str, str], given: str | None) -> None:
    lines = [f"{i},{ROWS[i][0]},{','.join(flags[flag] for flag in EXPECTED[i])}" for i in range(4)]
    path = write(tmp_path / "a.csv", ["id,text,film,food,music", *lines])
    task, splits = MultiLabel.from_train_file(TrainFile(path, ColumnsConfig(label=given)))
    examples = splits["train"]
    assert task.labels == ("film", "food", "music")
    assert examples.first == [text for text, _ in ROWS]
    assert examples.targets.tolist() == EXPECTED
    other = write(tmp_path / "b.csv", ["text,music,film,food", f"new,{flags[1]},{flags[0]},{flags[1]}"])
    assert task.read(other).targets.tolist() == [[0, 1, 1]]
    again = MultiLabel.from_labels(task.labels).with_columns(other, ColumnsConfig())
    assert again.read(other).targets.tolist() == [[0, 1, 1]]


def test_lists_of_zeros_and_ones_say_it_of_each_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pa.table({"text": [text for text, _ in ROWS], "labels": pa.array(EXPECTED, pa.list_(pa.float32()))})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    task, splits = MultiLabel.from_train_file(TrainFile(tmp_path / "a.parquet", ColumnsConfig()))
    examples = splits["train"]
    assert task.labels == ("0", "1", "2")
    assert examples.targets.tolist() == EXPECTED
    assert re.search("0 or 1.*3 labels.*0 to 2", capsys.readouterr().err)


def test_numbers_in_a_list_are_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", ["text\tlabels", "one\t[1, 20]", "two\t[3.0]", "three\t[]"])
    task, splits = MultiLabel.from_train_file(TrainFile(path, ColumnsConfig()))
    examples = splits["train"]
    assert task.labels == ("1", "3", "20")
    assert examples.targets.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["text\tlabels", "one\ta;b", "two\tc"], "between labels"),
        (["text\tlabels", "one\ta;b", "two\ta,b"], "hold ';' and ','"),
        (["text\tlabels", "one\tjoy anger", "two\tjoy", "three\tanger"], "labels of other"),
        (["text\tx\ty\tz", "one\t0\t1\t1", "two\t1\t0\t", "three\t1\t1\t0"], r"column z.*0"),
        (["text\tx\ty", "one\t0\t1", "two\t1\t0", "three\t1\t2"], "column x"),
    ],
)
def test_what_is_not_clear_is_asked(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        MultiLabel.from_train_file(TrainFile(write(tmp_path / "a.tsv", lines), ColumnsConfig()))


def test_columns_of_labels_are_never_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ["text,x,y", "one,0,1", "two,1,0", "three,1,1"])
    with pytest.raises(CorpusError, match=r"x, y.*--multi-label"):
        Classify.from_train_file(TrainFile(path, ColumnsConfig()))
    assert Classify.from_train_file(TrainFile(path, ColumnsConfig(label="x")))[0].labels == ("0", "1")
    with pytest.raises(UsageError, match="--label-column x,y"):
        MultiLabel.from_train_file(TrainFile(path, ColumnsConfig(label="x")))
    task, _ = MultiLabel.from_train_file(TrainFile(path, ColumnsConfig()))
    for lines, message in (
        (["text,x", "one,0"], "no column 'y'"),
        (["text,x,y", "one,0,-1"], "has '-1' for the label y"),
    ):
        with pytest.raises(CorpusError, match=message):
            task.read(write(tmp_path / "b.csv", lines))


def test_blanks_around_a_label_are_nothing_and_case_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.tsv", ["text\tlabel", "one\tgood", "two\tgood ", "three\t\u00a0Good", "four\tbad"])
    task, splits = Classify.from_train_file(TrainFile(path, ColumnsConfig()))
    examples = splits["train"]
    assert task.labels == ("Good", "bad", "good")
    assert examples.targets.tolist() == [2, 2, 0, 1]
    assert "'Good' and 'good'" in capsys.readouterr().err
    assert task.read(path).targets.tolist() == [2, 2, 0, 1]
    earlier = Classify.from_labels([" good", "bad"]).with_columns(path, ColumnsConfig())
    assert classes_of(path, ["good", "bad"], earlier.labels).tolist() == [0, 1]


def test_several_labels_in_a_cell_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, labels, several in (
        ("a", ["x;y", "y", "x", "x; y"], True),
        ("b", ["arts, music", "sport", "food"], False),
    ):
        lines = ["text\tlabel", *(f"text {n}\t{labels[n % len(labels)]}" for n in range(9))]
        Classify.from_train_file(TrainFile(write(tmp_path / f"{name}.tsv", lines), ColumnsConfig()))
        assert ("--multi-label" in capsys.readouterr().err) is several


def test_lists_want_a_flag_even_if_some_are_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ['{"text": "one", "labels": ["a"]}', '{"text": "two", "labels": []}'])
    with pytest.raises(CorpusError, match=r"lists.*--multi-label"):
        Classify.from_train_file(TrainFile(path, ColumnsConfig()))


def test_a_quotation_mark_in_a_list_is_read() -> None:
    assert labels_in("""['it\\'s', "a, b"]""", "|") == ["it's", "a, b"]
    assert labels_in("[[1]]", "|") is None
    assert labels_in("{'a', 'b'}", "|") == labels_in("('a', 'b',)", "|") == ["a", "b"]
    assert labels_in("set()", "|") == labels_in("()", "|") == []
    assert labels_in("(none)", "|") == ["(none)"]


def test_a_long_cell_takes_no_time() -> None:
    blanks = " " * 200_000
    for cell in (f"['a'{blanks}x]", f"('a'{blanks}x)", f"['a'{blanks}", "['" + "a" * 200_000, "['a'" * 50_000 + "]"):
        labels_in(cell, "|")


def test_a_file_whose_first_value_is_null_is_refused(tmp_path: Path) -> None:
    """pyarrow ends the process there."""
    with pytest.raises(CorpusError, match=r"line 1.*JSON"):
        Classify.from_train_file(
            TrainFile(write(tmp_path / "a.jsonl", ['null{"text": "one", "label": "a"}']), ColumnsConfig())
        )


def test_items_of_lists_that_python_and_numpy_print_are_labels() -> None:
    assert labels_in("['a', None]", "|") == ["a"]
    assert labels_in("[1. 2.5]", "|") == labels_in("[1.0, 2.5]", "|") == ["1", "2.5"]
    assert labels_in("[[1], [2]]", "|") is None


@pytest.mark.parametrize(
    "rows", [("[1. 0. 1.]", "[0. 1. 0.]"), ("[True False True]", "[False True False]"), ("[1, 0, 1]", "[0, 1, 0]"),
             ("[True, False, True]", "[False, True, False]")],
)  # fmt: skip
def test_a_list_of_flags_says_which_labels_a_text_has(tmp_path: Path, rows: tuple[str, str]) -> None:
    path = write(tmp_path / "a.tsv", ["text\tlabels", *(f"text {row}\t{row}" for row in rows)])
    task, splits = MultiLabel.from_train_file(TrainFile(path, ColumnsConfig()))
    examples = splits["train"]
    assert task.labels == ("0", "1", "2")
    assert examples.targets.tolist() == [[1, 0, 1], [0, 1, 0]]
    write(path, ["text\tlabels", "a\t[1, None, 0, 0]", "b\t[None, 1, 0, 0]"])
    with pytest.raises(CorpusError, match=r"row 1.*0 or 1"):
        MultiLabel.from_train_file(TrainFile(path, ColumnsConfig()))
