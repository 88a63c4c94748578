"""Reading labelled tables: separators, headers, formats and columns told apart, and one clear sentence where not."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertwright.corpus.readers.table import Table, read_table
from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.columns import KNOWN, LABELS, SCORES, Columns, ColumnsConfig, find_columns

ROWS = [("a good film", "1"), ("a bad, long film", "0"), ("fine", "1"), ("poor", "0"), ("great", "1")]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path) -> dict[str, list[str]]:
    return read_table(path, names=KNOWN).columns


def test_a_quotation_mark_is_itself_between_tabs_and_encloses_between_commas(tmp_path: Path) -> None:
    tabs = written(tmp_path / "a.tsv", 'sentence\tlabel\n"so\t1\nhe said "no" twice\t0\n')
    assert read(tabs) == {"sentence": ['"so', 'he said "no" twice'], "label": ["1", "0"]}
    commas = written(tmp_path / "a.csv", 'text,label\n"one, two\nthree",1\n"he said ""no""",0\n')
    assert read(commas) == {"text": ["one, two\nthree", 'he said "no"'], "label": ["1", "0"]}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.tsv", "\ufeffsentence\tlabel\r\na\t1\r\nb\t0\r\n", {"sentence": ["a", "b"], "label": ["1", "0"]}),
        ("a.tsv", "\n\nsentence\tlabel\na\t1\n\nb\t0\n\n\n", {"sentence": ["a", "b"], "label": ["1", "0"]}),
        ("a.tsv", "sentence\tlabel\ra\t1\rb\t0\r", {"sentence": ["a", "b"], "label": ["1", "0"]}),
        ("a.csv", '"the\ntext",label\n"a\n\nb",1\nc,0', {"the\ntext": ["a\n\nb", "c"], "label": ["1", "0"]}),
        ("a.csv", "a\u2028b,1\nc\x0cd,0\ne,0\n", {"1": ["a\u2028b", "c\x0cd", "e"], "2": ["1", "0", "0"]}),
        ("a.csv", f'text,label\n"{"x" * 2_000_000}",1\nb,0\n', {"text": ["x" * 2_000_000, "b"], "label": ["1", "0"]}),
        ("a.tsv", f"text\tlabel\n{'x' * 2_000_000}\t1\nb\t0\n", {"text": ["x" * 2_000_000, "b"], "label": ["1", "0"]}),
        ("a.jsonl", '{"text": "2020-01-01", "label": true}\n\n', {"text": ["2020-01-01"], "label": ["true"]}),
        ("a.jsonl", '{"text": "a", "label": ["x", "é"]}\n{"text": "b", "label": []}\n', None),
    ],
    ids=["mark and crlf", "blank lines", "cr", "quoted header", "strange lines", "long", "long tsv", "date", "list"],
)
def test_odd_files_are_read_whole(tmp_path: Path, name: str, text: str, expected: dict[str, list[str]] | None) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read(tmp_path / name) == (expected or {"text": ["a", "b"], "label": ['["x", "é"]', ""]})


def test_columns_told_by_number_are_no_header(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "a.tsv", "one text\t1\nanother\t0\nthird\t2\n"), names={"1", "2", *KNOWN})
    assert table.columns == {"1": ["one text", "another", "third"], "2": ["1", "0", "2"]}


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
def test_the_separator_is_told_whatever_the_suffix(tmp_path: Path, separator: str) -> None:
    lines = "".join(f"{text}{separator}{label}\n" for text, label in [("sentence", "label"), *ROWS])
    assert read(written(tmp_path / "a.csv", lines))["label"] == ["1", "0", "1", "0", "1"]


@pytest.mark.parametrize(
    ("first", "header"),
    [("sentence\tlabel", True), ("whatever\tgood or bad", True), ("a film again\t1", False), ("satz\t2", False)],
)
def test_the_header_is_told_by_names_or_by_what_stands_below(tmp_path: Path, first: str, header: bool) -> None:
    lines = first + "\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS)
    columns = read(written(tmp_path / "a.tsv", lines))
    assert len(columns) == 2
    assert list(columns) == (first.split("\t") if header else ["1", "2"])


@pytest.mark.parametrize(
    "first", ["what a film this was, and how long .\trare", f"{'long ' * 9}\trare", "is it a film?\trare", "label\t1"]
)
def test_an_example_is_not_eaten_as_a_header(tmp_path: Path, first: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its label is the only one of its kind in the file, or its text is what a column may be called and comes again."""
    lines = first + "\n" + "".join(f"{text}\t{label}\n" for text, label in [*ROWS, ("label", "0")])
    assert list(read(written(tmp_path / "a.tsv", lines))) == ["1", "2"]
    assert capsys.readouterr().err == ""


def test_a_header_nobody_knows_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(written(tmp_path / "a.tsv", "satz\turteil\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS)))
    output = " ".join(capsys.readouterr().err.split())
    assert "first row (satz, urteil)" in output


def test_every_format_gives_the_same_columns(tmp_path: Path) -> None:
    expected = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    lines = "".join(f'{{"text": "{text}", "label": {label}}}\n' for text, label in ROWS)
    assert read(written(tmp_path / "a.jsonl", lines)) == expected
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert read(tmp_path / "b.jsonl.gz") == expected
    pa.parquet.write_table(pa.table({"text": expected["text"], "label": [1, 0, 1, 0, 1]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "sentence\tlabel\na\t1\nb\t0\tc\n", r"line 3.*3 cells.*2.*tab"),
        ("a.tsv", "\nsentence\tlabel\n\na\t1\nb\n", r"line 5.*1 cells.*2"),
        ("a.csv", 'text,label\n"a\nb",1\nc\n', r"line 4.*1 cells.*2.*comma"),
        ("a.csv", "text,label\na,1,x\na,1\nb,1\n", r"line 2.*3 cells.*2"),
        ("a.tsv", "text\tlabel\na b\t1\nb\t0\nb\n", r"line 4.*1 cells.*2"),
        ("a.tsv", "text\tlabel\ra\t1\rb\r", r"line 3.*1 cells.*2"),
        ("a.csv", "label,label,text\n1,0,a\n", "'label'"),
        ("a.csv", "text,label", "no rows"),
        ("a.tsv", "sentence\nonly texts\n", "one column"),
        ("a.tsv", "", "is empty"),
        ("a.tsv", "sentence\tlabel\n", "no rows"),
        ("a.jsonl", '{"text": "a"\n', r"line 1.*JSON"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"\n', r"line 2.*JSON"),
        ("a.parquet", "no", r"Parquet.*'no'"),
        ("a.docx", "no", "format"),
    ],
)
def test_what_is_no_table_is_said(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read(written(tmp_path / name, text))
    with pytest.raises(CorpusError, match="no file"):
        read(tmp_path / "nowhere.tsv")


def table(*names: str, rows: int = 6) -> Table:
    return Table(
        Path("t.tsv"), {name: [f"{name} {row % 2 if 'l' in name else row}" for row in range(rows)] for name in names}
    )


@pytest.mark.parametrize(
    ("names", "columns", "targets", "expected"),
    [
        (("sentence", "label"), {}, LABELS, ("sentence", None, "label")),
        (("id", "premise", "hypothesis", "label", "task"), {}, LABELS, ("premise", "hypothesis", "label")),
        (("label", "title", "text"), {}, LABELS, ("text", None, "label")),
        (("question", "label", "fine_label"), {}, LABELS, ("question", None, "label")),
        (("question", "label", "fine_label"), {"label": "fine_label"}, LABELS, ("question", None, "fine_label")),
        (("label", "title", "text"), {"text": "title", "pair": "text"}, LABELS, ("title", "text", "label")),
        (("text", "other", "label"), {"pair": "other"}, LABELS, ("text", "other", "label")),
        (("Sentence1", "Sentence2", "Score"), {}, SCORES, ("Sentence1", "Sentence2", "Score")),
        (("what was written", "el"), {}, LABELS, ("what was written", None, "el")),
    ],
)
def test_columns_are_found(
    names: tuple[str, ...], columns: dict[str, str], targets: tuple[str, ...], expected: tuple[str, str | None, str]
) -> None:
    assert find_columns(table(*names), ColumnsConfig(**columns), targets=targets) == Columns(*expected)


def test_columns_that_are_not_there_or_the_same_are_refused() -> None:
    with pytest.raises(UsageError, match=r"'review'.*sentence, label"):
        find_columns(table("sentence", "label"), ColumnsConfig(text="review"), targets=LABELS)
    with pytest.raises(UsageError, match="different"):
        find_columns(table("sentence", "label"), ColumnsConfig(text="label", label="label"), targets=LABELS)
    with pytest.raises(CorpusError, match="which column"):
        find_columns(table("one", "two"), ColumnsConfig(), targets=LABELS)
