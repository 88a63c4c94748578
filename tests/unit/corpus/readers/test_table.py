"""The one table reader: every format gives the same texts and labels, headers are found, shapes that are none named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertwright.corpus.readers import json_lines
from bertwright.corpus.readers.documents import read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.layouts import detect_layout
from bertwright.corpus.readers.rows import TableOptions
from bertwright.corpus.readers.table import Table, read_head, read_rows, read_table
from bertwright.errors import CorpusError
from bertwright.tasks.stream import stream_texts

TEXTS = ["Soup was cold, sadly.", 'She said "fine".', "好吃\nindeed"]


def write_arrow(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_stream(str(path), table.schema) as out:
        out.write_table(table)


def csv_of(rows: list[dict[str, Any]]) -> str:
    cells = [list(rows[0]), *(row.values() for row in rows)]
    return "".join(",".join('"' + str(cell).replace('"', '""') + '"' for cell in row) + "\n" for row in cells)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], object]] = {
    "a.csv": lambda path, rows: path.write_text(csv_of(rows)),
    "a.jsonl": lambda path, rows: path.write_text("".join(json.dumps(row) + "\n" for row in rows)),
    "a.json": lambda path, rows: path.write_text(json.dumps(rows)),
    "indented.json": lambda path, rows: path.write_text(json.dumps(rows, indent=2, ensure_ascii=False)),
    "data.json": lambda path, rows: path.write_text(json.dumps({"version": [1], "data": rows, "end": {"data": []}})),
    "data-indented.json": lambda path, rows: path.write_text(json.dumps({"v": "[{", "data": rows}, indent=1)),
    "pretty.json": lambda path, rows: path.write_text("\n".join(json.dumps(row, indent=4) for row in rows)),
    "a.parquet": lambda path, rows: pq.write_table(pa.Table.from_pylist(rows), path),
    "a.arrow": lambda path, rows: write_arrow(path, pa.Table.from_pylist(rows)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same(tmp_path: Path, name: str) -> None:
    rows = [{"text": text, "label": place % 2, "flag": place == 1} for place, text in enumerate(TEXTS)]
    WRITERS[name](tmp_path / name, rows)
    table = read_table(tmp_path / name, names={"text"})
    assert table.texts("text") == TEXTS
    assert table.labels("label") == ["0", "1", "0"]
    assert table.labels("flag") == ["false", "true", "false"]
    assert [text for piece in stream_texts(tmp_path / name) for text in piece] == TEXTS
    assert documents(tmp_path / name) == TEXTS


def documents(*paths: Path, **reading: Any) -> list[str]:
    options = ReadOptions(**reading)
    batches = read_documents(paths, options, layout=detect_layout(paths, options))
    return [text for batch in batches for text in batch.texts.to_pylist()]


@pytest.mark.parametrize(("size", "piece"), [(1, 1), (5, 5), (64, 7), (1 << 20, 3), (1 << 20, 1 << 20)])
def test_arrays_of_json_stream(tmp_path: Path, size: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertwright.corpus.readers.blocks.BLOCK_BYTES", size)
    monkeypatch.setattr(json_lines, "PIECE", piece)
    texts = ["\\", '"', '\\"', "[{,}]", "a\nb", "\ud83d", "\\\\", "", "end,"]
    rows = [{"text": text, "more": {"data": [{"a": "]"}], "b": [1, [2]]}} for text in texts]
    expected = [text.replace("\ud83d", "\ufffd") for text in texts]
    for name, whole in (("a", rows), ("b", {"x": [[]], "data": rows, "y": 1}), ("c", [])):
        for indent in (None, 1):
            (tmp_path / f"{name}.json").write_text(json.dumps(whole, indent=indent))
            assert documents(tmp_path / f"{name}.json") == (expected if whole else []), (name, indent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"text": "a"}, {"text": ', r"JSON.*ends within"),
        ('[{"text": "a"}] [{"text": "b"}]', r"after.*JSON array"),
        ('{"data": [{"text": "a"}], "b"', "JSON ends within"),
        ('{"data": [{"text": "a"}]} {"data": []}', r"after.*JSON array"),
        ('[{"text": "a"}, "b"]', r"row 2.*JSON.*str"),
        ('{"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": 0}}', 'to_json.orient="records"'),
        ('{"text": ["a", "b"], "label": [0, 1]}', r"columns.*rows"),
        ('{"data": [{"title": "t", "paragraphs": []}]}', "SQuAD"),
    ],
)
def test_json_that_is_no_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    for read in (lambda path: read_table(path, names={"text"}), documents):
        with pytest.raises(CorpusError, match=message):
            read(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", "text,label\nx,0\ny,0.0\nz, 0 \nw,True\nv,true\nu,\u00a0good\n",
         ["0", "0", "0", "true", "true", "good"]),
        ("a.jsonl", "\n".join(f'{{"text": "x", "label": {label}}}' for label in ("0", "0.0", '"0"', "true", '"True"')),
         ["0", "0", "0", "true", "true"]),
        ("a.jsonl", '{"text": "x", "label": 1.0}\n{"text": "y", "label": null}\n', ["1", ""]),
        ("a.jsonl", '{"text": "x", "label": 12345678901234567890}\n{"text": "y", "label": 0.5}\n',
         ["12345678901234567890", "0.5"]),
        ("a.tsv", "text\tlabel\nx\tgood\ny\tGood\nz\t01\n", ["good", "Good", "01"]),
    ],
)  # fmt: skip
def test_equal_values_are_one_label(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    (tmp_path / name).write_text(text)
    assert read_table(tmp_path / name, names={"text"}).labels("label") == expected


def test_numbers_of_pandas_are_labels_and_nothing_is_nothing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": [0.0, float("nan"), 1.0]}), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", names={"text"}).labels("label") == ["0", "", "1"]


def class_labels(rows: dict[str, Any]) -> pa.Table:
    label = {"names": ["bad", "good"], "_type": "ClassLabel"}
    features = {"label": label, "old": [label], "new": {"feature": label, "_type": "List"}}
    return pa.table(rows).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_labels_of_datasets_have_their_names(tmp_path: Path, name: str) -> None:
    table = class_labels({"text": ["a", "b", "c"], "label": [1, 0, -1], "old": [[0, 1], [], [1]], "new": [[1]] * 3})
    write = write_arrow if name == "a.arrow" else lambda path, rows: pq.write_table(rows, path)
    write(tmp_path / name, table)
    found = read_table(tmp_path / name, names={"text"})
    assert found.columns["label"] == ["good", "bad", ""]
    assert found.columns["old"] == ['["bad", "good"]', "", '["good"]']
    assert found.columns["new"] == ['["good"]'] * 3
    write(tmp_path / name, class_labels({"text": ["a"], "label": [2]}))
    with pytest.raises(CorpusError, match="2 labels"):
        read_table(tmp_path / name, names={"text"})


@pytest.mark.parametrize("name", [*WRITERS, "python.csv"])
def test_lists_of_words_are_joined(tmp_path: Path, name: str) -> None:
    words = [["good", "soup"], ["it's", "bad"], []]
    rows = [{"text": one, "label": place} for place, one in enumerate(words)]
    if name in ("a.csv", "python.csv"):
        written = [repr(one) if name == "python.csv" else json.dumps(one) for one in words]
        (tmp_path / name).write_text(csv_of([{"text": one, "label": 1} for one in written]))
    else:
        WRITERS[name](tmp_path / name, rows)
    expected = ["good soup", "it's bad", ""]
    assert read_table(tmp_path / name, names={"text"}).texts("text") == expected
    assert [text for piece in stream_texts(tmp_path / name) for text in piece] == expected
    assert documents(tmp_path / name) == expected


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet", "a.arrow"])
@pytest.mark.parametrize(("value", "message"), [({"en": "soup"}, "holds objects"), ([1, 2], "list of words")])
def test_columns_that_are_no_text_are_named(tmp_path: Path, name: str, value: Any, message: str) -> None:
    WRITERS[name](tmp_path / name, [{"text": value, "label": 1}] * 3)
    for read in (
        lambda path: read_table(path, names={"text"}).texts("text"),
        lambda path: list(stream_texts(path, "text")),
        lambda path: documents(path, column="text"),
    ):
        with pytest.raises(CorpusError, match=f"text.*{name}.* {message}"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text", "column", "expected"),
    [
        ("a.tsv", "One soup. It was hot.\nTwo soups, and cold.\nThree were fine.\n", None, 3),
        ("a.csv", '"1","Soup","It was hot."\n"2","Bread","It was, well, cold."\n', "3",
         ["It was hot.", "It was, well, cold."]),
        ("a.csv", '"1","Soup","It was hot."\n"2","Bread","It was cold."\n', "2", ["Soup", "Bread"]),
        ("a.csv", "0;It was hot\n1;It was cold\n", None, ["It was hot", "It was cold"]),
        ("a.csv", "abstract\n" + "A long text about soup that goes on and on.\n" * 4, None, 4),
        ("a.tsv", "Great\t1\n" + "".join(f"Soup number {n} was long and hot.\t{n % 2}\n" for n in range(9)), "1", 10),
        ("a.csv", "n,text\n1,a\n", None, ["a"]),
        ("a.csv", "body,n\na,1\n", "body", ["a"]),
        ("a.csv", ",text\n0,a\n1,b\n", None, ["a", "b"]),
        ("a.csv", "Unnamed: 0,review\n0,It was hot.\n1,It was cold.\n", None, ["It was hot.", "It was cold."]),
        ("a.tsv", 'text\tn\n"two\nlines"\t1\n', None, ["two\nlines"]),
        ("a.tsv", 'text\tn\n"Hm," he said "no"\t1\n"Yes"\t2\n', None, ['"Hm," he said "no"', '"Yes"']),
        ("a.csv", "", None, []),
        ("a.csv", "\n\n", None, []),
    ],
)  # fmt: skip
def test_headers_and_columns(tmp_path: Path, name: str, text: str, column: str | None, expected: Any) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "b.txt").write_text("more\n")
    found = documents(tmp_path / name, tmp_path / "b.txt", column=column, documents="line")[:-1]
    assert (len(found) if isinstance(expected, int) else found) == expected


def test_a_number_says_that_there_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("soup\tgood\nbread\tbad\nrice\tbad\nsalt\tbad\nham\tbad\neggs\tbad\n")
    given = documents(tmp_path / "a.tsv", column="1")
    assert given == ["soup", "bread", "rice", "salt", "ham", "eggs"]
    with pytest.raises(CorpusError, match=r"'3'.*1.*2"):
        documents(tmp_path / "a.tsv", column="3")


def test_row_numbers_of_pandas_are_no_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",text,label\n0,a,1\n1,b,0\n")
    assert list(read_table(tmp_path / "a.csv", names={"text"}).columns) == ["text", "label"]
    pq.write_table(pa.table({"text": ["a"], "__index_level_0__": [7]}), tmp_path / "a.parquet")
    assert list(read_table(tmp_path / "a.parquet", names={"text"}).columns) == ["text"]
    (tmp_path / "b.csv").write_text(",text\nx,a\ny,b\n")
    assert list(read_table(tmp_path / "b.csv", names={"text"}).columns) == ["", "text"]


def test_pieces_have_types_and_places(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"tokens": ["a", "b"], "tags": [n, 1]}) + "\n" for n in range(500)))
    options = TableOptions(names=frozenset({"tokens"}))
    head = read_head(path, options)
    assert head.schema.field("tags").type == pa.list_(pa.int64())
    (rows,) = read_rows(path, options, ["tags"], head=head)
    assert rows.table.column("tags").to_pylist()[499] == [499, 1]
    assert rows.position == path.stat().st_size


def test_labels_of_objects_are_refused() -> None:
    with pytest.raises(CorpusError, match=r"'label'.*objects"):
        Table(Path("a"), {"label": ['{"a": 1}']}, {"label": "object"}).labels("label")


def test_a_folder_in_place_of_a_table_is_not_called_absent(tmp_path: Path) -> None:
    messages = []
    for path in (tmp_path, tmp_path / "absent.csv"):
        with pytest.raises(CorpusError) as refused:
            read_table(path, names=())
        assert str(path) in str(refused.value)
        messages.append(str(refused.value).replace(str(path), ""))
    assert ["folder" in message for message in messages] == [True, False]
