"""Files of texts: what they hold is told from their columns, equal texts are known, and unfit ones are refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.reader import Kind, Sentences, read_sentences, scaled
from bertwright.tasks.examples import split_dev


def read(
    path: Path, text: str, chosen: ColumnsConfig | None = None, *, negative: str | None = None, kind: Kind | None = None
) -> Sentences:
    path.write_text(text, encoding="utf-8")
    return read_sentences(path, chosen or ColumnsConfig(), negative=negative, kind=kind)


def columns(found: Sentences) -> list[list[str]]:
    return [[found.texts[text] for text in column] for column in found.members.T.tolist()]


@pytest.mark.parametrize(
    ("name", "text", "kind", "expected"),
    [
        ("a.txt", "one\n\ntwo, three\r\none\n", "texts", [["one", "two, three", "one"]]),
        ("a.tsv", "anchor\tpositive\nx\ty\n", "pairs", [["x"], ["y"]]),
        ("a.csv", "query,positive,negative\nx,y,z\n", "pairs", [["x"], ["y"], ["z"]]),
        ("a.tsv", "id\tsentence1\tsentence2\n1\tx\ty\n2\tv\tw\n", "pairs", [["x", "v"], ["y", "w"]]),
        ("a.tsv", "sentence1\tsentence2\tscore\nx\ty\t0.5\nv\tw\t4\n", "scores", [["x", "v"], ["y", "w"]]),
        ("a.tsv", "one text\tits other\t0.5\nv v\tw w\t4\n", "scores", [["one text", "v v"], ["its other", "w w"]]),
        ("a.tsv", "a dog\tein Hund\na cat\teine Katze\n", "pairs", [["a dog", "a cat"], ["ein Hund", "eine Katze"]]),
        ("a.jsonl", '{"en": "x", "de": "y"}\n{"en": "v", "de": "w"}\n', "pairs", [["x", "v"], ["y", "w"]]),
        ("a.csv", 'text\nx\n"y, z"\n', "texts", [["x", "y, z"]]),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text": "y", "label": 0}\n', "texts", [["x", "y"]]),
    ],
)
def test_what_a_file_holds(tmp_path: Path, name: str, text: str, kind: str, expected: list[list[str]]) -> None:
    found = read(tmp_path / name, text)
    assert found.kind == kind
    assert columns(found) == expected


def test_columns_and_kind_may_be_told(tmp_path: Path) -> None:
    table = "q\ta\tbad\tsim\nx\ty\tz\t1\nv\tw\tu\t2\n"
    chosen = ColumnsConfig(text="q", pair="a")
    assert columns(read(tmp_path / "a.tsv", table, chosen, negative="bad")) == [["x", "v"], ["y", "w"], ["z", "u"]]
    chosen = ColumnsConfig(text="q", pair="a", label="sim")
    found = read(tmp_path / "a.tsv", table, chosen)
    assert found.scores is not None
    assert found.scores.tolist() == [1, 2]
    labelled = "sentence1\tsentence2\tlabel\nx\ty\tno\nv\tw\tyes\n"
    assert read(tmp_path / "b.tsv", labelled, kind="pairs").kind == "pairs"
    assert columns(read(tmp_path / "b.tsv", labelled, kind="texts")) == [["x", "v"]]
    table = pa.table({"question": ["x"], "answer": ["y"]})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    assert read_sentences(tmp_path / "a.parquet", ColumnsConfig(), kind=None).kind == "pairs"


@pytest.mark.parametrize(
    ("header", "chosen", "negative", "expected"),
    [
        ("question\tother", {"pair": "other"}, None, ["question", "other"]),
        ("text\tother", {"pair": "other"}, None, ["text", "other"]),
        ("a\tb", {"pair": "a"}, None, ["b", "a"]),
        ("question\tanswer\tother", {"pair": "other"}, None, ["question", "other"]),
        ("question\tanswer\tbad", {}, "bad", ["question", "answer", "bad"]),
        ("a\tb\tc", {}, "a", ["b", "c", "a"]),
        ("text\tb\tc", {}, "c", ["text", "b", "c"]),
        ("a\tb\tnegative", {"text": "a", "pair": "b"}, None, ["a", "b", "negative"]),
    ],
)
def test_one_of_the_columns_may_be_told(
    tmp_path: Path, header: str, chosen: dict[str, str], negative: str | None, expected: list[str]
) -> None:
    names = header.split("\t")
    row = "\t".join(f"in {name}" for name in names)
    found = read(tmp_path / "a.tsv", f"{header}\n{row}\n{row} too\n", ColumnsConfig(**chosen), negative=negative)
    assert [column[0] for column in columns(found)] == [f"in {name}" for name in expected]


def test_equal_texts_have_one_number(tmp_path: Path) -> None:
    found = read(tmp_path / "a.tsv", "anchor\tpositive\nx\ty\ny\tx\nx\tx\n")
    assert sorted(found.texts) == ["x", "y"]
    x, y = found.texts.index("x"), found.texts.index("y")
    assert found.members.tolist() == [[x, y], [y, x], [x, x]]
    assert found.shown(0) == "x | y"


def test_scores_are_laid_out_from_0_to_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read(tmp_path / "a.tsv", "sentence1\tsentence2\tscore\nx\ty\t-1\nv\tw\t3\nv\tx\t1\n")
    assert re.search("-1 to 3.*0 to 1", capsys.readouterr().err)
    assert found.scores is not None
    np.testing.assert_array_equal(scaled(found.scores), np.array([0, 1, 0.5], dtype=np.float32))


@pytest.mark.parametrize(
    ("name", "text", "chosen", "message"),
    [
        ("a.tsv", "sentence1\tsentence2\tlabel\nx\ty\tno\nv\tw\tyes\n", {}, r"label.*number"),
        ("a.tsv", "sentence1\tsentence2\tscore\nx\ty\t1\nv\tw\t1\n", {}, "score 1"),
        ("a.tsv", "sentence1\tsentence2\nx\t\nv\tw\n", {}, r"1 rows.*sentence2"),
        ("a.tsv", "a\tb\tc\td\nw w\tx x\ty y\tz z\n", {}, "which columns"),
        (
            "a.tsv",
            "a\tb\tc\nx\ty\t1\nx\ty\tbig\n",
            {"text": "a", "pair": "b", "label": "c"},
            r"row 2.*'big'.*c",
        ),
        ("a.txt", "\n \n", {}, "is empty"),
    ],
)
def test_unfit_files_are_one_sentence(
    tmp_path: Path, name: str, text: str, chosen: dict[str, str], message: str
) -> None:
    with pytest.raises(CorpusError, match=message):
        read(tmp_path / name, text, ColumnsConfig(**chosen))


def test_calls_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'c'.*anchor, positive"):
        read(tmp_path / "a.tsv", "anchor\tpositive\nx\ty\n", ColumnsConfig(text="c"))
    with pytest.raises(UsageError, match=r"'c'.*--pair-column"):
        read(tmp_path / "a.tsv", "a\tb\tc\nx\ty\tz\n", ColumnsConfig(text="a"), negative="c")
    with pytest.raises(CorpusError, match="scores"):
        read(tmp_path / "a.tsv", "anchor\tpositive\nx\ty\n", kind="scores")
    with pytest.raises(UsageError, match="pairs"):
        read(tmp_path / "a.txt", "x\n", kind="pairs")


def test_pairs_of_one_text_stay_on_one_side_of_a_split(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    rows = [f"query {query}\tanswer {query} {number}" for query in range(60) for number in range(5)]
    file.write_text("\n".join(["text1\ttext2", *rows]) + "\n", encoding="utf-8")
    splits = split_dev(read_sentences(file, ColumnsConfig(), kind="pairs"), 0.1)
    queries = {name: set(examples.groups()) for name, examples in splits.items()}
    assert len(queries["dev"]) >= 3
    assert not queries["dev"] & queries["train"]
    assert len(splits["dev"]) == 5 * len(queries["dev"])
