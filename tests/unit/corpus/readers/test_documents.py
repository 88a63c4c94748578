"""Reading: every format plain and compressed, every layout, places to go on from, and files that cannot be read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from bertwright.corpus.readers.documents import BATCH_BYTES, read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.layouts import Layout, detect_layout
from bertwright.corpus.readers.remote import total_size
from bertwright.corpus.readers.rows import TextBatch
from bertwright.errors import CorpusError

TEXTS = ["A first text.\nIts second line.", "“Zwölf” Größen, 你好", 'quotes " and, commas\tand tabs', "", "the last"]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def as_table(name: str) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter="," if name == "csv" else "\t").writerows([["id", "text"], *enumerate(TEXTS)])
    return out.getvalue().encode()


def encoded(name: str) -> bytes:
    if name == "jsonl":
        return "".join(json.dumps({"n": n, "text": text or None}) + "\n" for n, text in enumerate(TEXTS)).encode()
    if name == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.table({"n": range(5), "text": [text or None for text in TEXTS]}), sink, row_group_size=2)
        return sink.getvalue()
    return as_table(name)


def write(path: Path, data: bytes | str) -> Path:
    raw = data.encode() if isinstance(data, str) else data
    path.write_bytes(COMPRESS[path.suffix if path.suffix in COMPRESS else ""](raw))
    return path


def texts_of(paths: list[Path], options: ReadOptions = ReadOptions(), layout: Layout | None = None) -> list[str]:  # noqa: B008
    layout = layout or detect_layout(paths, options)
    return [text for batch in read_documents(paths, options, layout=layout) for text in batch.texts.to_pylist()]


def broken_of(paths: list[Path], layout: Layout | None = None) -> tuple[list[str], int]:
    batches = list(read_documents(paths, ReadOptions(skip_broken=True), layout=layout))
    return [t for batch in batches for t in batch.texts.to_pylist()], sum(batch.broken for batch in batches)


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", ["jsonl", "csv", "tsv", "parquet"])
def test_tables_give_a_document_a_row(tmp_path: Path, name: str, compression: str) -> None:
    path = write(tmp_path / f"x.{name}{compression}", encoded(name))
    assert texts_of([path]) == [text.replace("\r\n", "\n") for text in TEXTS]


@pytest.mark.parametrize("compression", COMPRESS)
def test_texts_are_cut_where_the_layout_says(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / f"x.txt{compression}", "\n\na b\r\nc d\r\n \r\n\r\ne f\n\n\n\ng h")
    assert [t.strip() for t in texts_of([path], layout="blank")] == ["a b\nc d", "e f", "g h"]
    assert texts_of([path], layout="line") == ["a b", "c d", "e f", "g h"]
    assert len(texts_of([path], layout="file")) == 1
    notes = write(tmp_path / f"x.md{compression}", "# Title\n\nText\n")
    assert texts_of([notes], layout="line") == ["# Title\n\nText\n"]


def test_blank_lines_are_found_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.txt", "".join(f"document {n}\nline two\n{' ' * (n % 3)}\n\n" for n in range(200)))
    whole = texts_of([path], layout="blank")
    for size in (1, 7, 64):
        monkeypatch.setattr("bertwright.corpus.readers.blocks.BLOCK_BYTES", size)
        assert [text.strip() for text in texts_of([path], layout="blank")] == [text.strip() for text in whole]
    assert len(whole) == 200


def test_the_layout_is_told_from_a_sample(tmp_path: Path) -> None:
    prose = "It was a bright cold day in April and the clocks were striking thirteen as\n" * 8
    cases: dict[str, tuple[list[str], Layout]] = {
        "several small files": (["One.\n\nTwo.\n", "Three.\n"], "file"),
        "sentences a line, blank lines": (["A b c.\nD e f.\n\nG h i.\nJ k l.\n" * 9], "blank"),
        "no blank lines": (["A whole document on a line.\n" * 9], "line"),
        "one hard-wrapped book": ([f"{prose}\n{prose}\n{prose}"], "file"),
    }
    for name, (texts, layout) in cases.items():
        paths = [write(tmp_path / f"{name}-{n}.txt", text) for n, text in enumerate(texts)]
        assert detect_layout(paths, ReadOptions()) == layout, name
        assert detect_layout(paths, ReadOptions(documents="line")) == "line"
    assert detect_layout([tmp_path / "x.jsonl"], ReadOptions()) is None


LINES, BLOCKS, BOOK = (
    "".join(f"Document {n} stands on its line.\n" for n in range(30)),
    "".join(f"Document {n} has a line.\nAnd another.\n\n" for n in range(40)),
    "\n".join(["It was a bright cold day in April and the clocks were striking thirteen as\n" * 8] * 3),
)


@pytest.mark.parametrize("many", [1, 20])
def test_a_folder_of_mixed_layouts_is_told_file_by_file(tmp_path: Path, many: int) -> None:
    texts = [LINES, BLOCKS, BOOK, "One document alone.\n", "", " \n\n"]
    counts = [30, 40, 1, 1, 0, 0]
    paths = [write(tmp_path / f"{n:03d}.txt", text) for n, text in enumerate(texts * many)]
    assert len(texts_of(paths)) == many * sum(counts)
    rest = list(read_documents(paths, ReadOptions(), layout=detect_layout(paths, ReadOptions()), skip=(1, 5)))
    assert sum(len(batch.texts) for batch in rest) == many * sum(counts) - 30 - 5


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    for name, text in (("a", LINES), ("b", BLOCKS), ("c", BOOK)):
        path, empty = write(tmp_path / f"{name}.txt", text), write(tmp_path / f"{name}-empty.txt.gz", "")
        assert detect_layout([path, empty], ReadOptions()) == detect_layout([path], ReadOptions())
        assert texts_of([empty, path]) == texts_of([path])
    for name in ("x.csv", "x.tsv", "x.jsonl", "x.json", "x.parquet", "x.arrow", "x.csv.gz"):
        (tmp_path / name).touch()
        assert texts_of([tmp_path / name, path]) == texts_of([path])


def test_many_small_articles_are_a_document_each(tmp_path: Path) -> None:
    texts = [f"Title {n}\n\nA paragraph.\n\nAnother paragraph.\n" for n in range(20)]
    paths = [write(tmp_path / f"{n}.txt", text) for n, text in enumerate(texts)]
    assert detect_layout(paths, ReadOptions()) == "file"
    assert len(texts_of(paths)) == 20


def test_byte_order_marks_and_utf16_are_read(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        path = tmp_path / f"{encoding}.txt"
        path.write_text("naïve 你好\nand more", encoding=encoding)
        assert texts_of([path], layout="line") == ["naïve 你好", "and more"]
    path = write(tmp_path / "x.jsonl", b"\xef\xbb\xbf" + encoded("jsonl"))
    assert texts_of([path]) == TEXTS


def test_reading_goes_on_from_the_place_of_any_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertwright.corpus.readers.documents.BATCH_BYTES", 700)
    monkeypatch.setattr("bertwright.corpus.readers.blocks.BLOCK_BYTES", 1000)
    lines = [json.dumps({"text": f"text {n} " * (n % 9)}) if n % 11 else "{broken" for n in range(400)]
    paths = [
        write(tmp_path / "a.jsonl.zst", "\n".join(lines)),
        write(tmp_path / "b.jsonl", "{broken\n" * 5),
        write(tmp_path / "c.txt", "".join(f"line {n}\n" for n in range(300))),
        write(tmp_path / "d.txt", ""),
        write(tmp_path / "e.parquet", encoded("parquet")),
    ]
    options = ReadOptions(skip_broken=True)
    whole = list(read_documents(paths, options, layout="line"))
    assert len(whole) > 20
    assert sum(batch.broken for batch in whole) == 37 + 5
    assert sum(len(batch.texts) for batch in whole) == 363 + 300 + 5
    assert whole[-1].source_bytes_done == total_size(paths)
    for number, batch in enumerate(whole):
        rest = list(read_documents(paths, options, layout="line", skip=(batch.file, batch.stop)))
        assert [same(b) for b in rest] == [same(b) for b in whole[number + 1 :]], number


def same(batch: TextBatch) -> tuple[list[str], int, int, int]:
    return batch.texts.to_pylist(), batch.file, batch.stop, batch.broken


def test_reading_goes_on_from_the_middle_of_a_batch(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.jsonl", encoded("jsonl")), write(tmp_path / "b.csv", encoded("csv"))]
    everything = TEXTS + TEXTS
    for file, stop, left in ((0, 2, 8), (0, 5, 5), (1, 0, 5), (1, 4, 1), (2, 0, 0)):
        batches = read_documents(paths, ReadOptions(), layout=None, skip=(file, stop))
        assert [t for b in batches for t in b.texts.to_pylist()] == everything[10 - left :]


def test_batches_are_small_however_the_files_are_cut(tmp_path: Path) -> None:
    big = write(tmp_path / "big.jsonl.gz", (json.dumps({"text": "word " * 2000}) + "\n") * 3000)
    small = [write(tmp_path / f"{n:04d}.txt", f"small {n}") for n in range(1500)]
    batches = list(read_documents([big, *small], ReadOptions(), layout="file"))
    assert sum(len(batch.texts) for batch in batches) == 4500
    assert all(batch.texts.nbytes <= 1.1 * BATCH_BYTES for batch in batches)
    assert len(batches) < 12


def test_memory_stays_bounded_while_a_long_file_streams(tmp_path: Path) -> None:
    path = write(tmp_path / "big.txt.zst", ("a line of some length that goes on and on\n" * 25 + "\n") * 60_000)
    pool = pa.default_memory_pool()
    tracemalloc.start()
    before = pool.bytes_allocated()
    peak = 0
    for batch in read_documents([path], ReadOptions(), layout="blank"):
        peak = max(peak, pool.bytes_allocated() - before)
        assert len(batch.texts)
    python_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
    assert python_peak < 80e6


def test_a_broken_json_line_is_named_or_left_out_and_counted(tmp_path: Path) -> None:
    good = json.dumps({"text": "good"})
    rows = [good, "", "{oops", '["no object"]', '{"text": 3}', good, '{"text": "\\ud83d lone"}']
    path = write(tmp_path / "en.jsonl", "\n".join(rows).encode() + b'\n{"text": "\xff"}\n' + good.encode())
    with pytest.raises(CorpusError, match=r"en\.jsonl line 3.*--skip-broken"):
        texts_of([path])
    assert broken_of([path]) == (["good", "good", "\ufffd lone", "good"], 4)


def test_line_numbers_go_on_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertwright.corpus.readers.blocks.BLOCK_BYTES", 100)
    path = write(tmp_path / "x.jsonl", '{"text": "fine"}\n' * 811 + "{,}\n")
    with pytest.raises(CorpusError, match="line 812 "):
        texts_of([path])


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.parquet"])
def test_the_column_is_text_or_the_only_string_or_asked_for(tmp_path: Path, name: str) -> None:
    def table(columns: dict[str, list[str | int]]) -> Path:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        if name == "x.jsonl":
            return write(tmp_path / name, "\n".join(map(json.dumps, rows)))
        if name == "x.csv":
            return write(
                tmp_path / name, "\n".join([",".join(columns), *(",".join(map(str, r.values())) for r in rows)])
            )
        pq.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / name

    assert texts_of([table({"n": [1, 2], "body": ["a", "b"]})]) == ["a", "b"]
    assert texts_of([table({"text": ["a", "b"], "body": ["c", "d"]})]) == ["a", "b"]
    path = table({"title": ["a", "b"], "body": ["c", "d"]})
    assert texts_of([path], ReadOptions(column="body")) == ["c", "d"]
    with pytest.raises(CorpusError, match=r"title, body.*--column"):
        texts_of([path])
    with pytest.raises(CorpusError, match=r"'boddy'.*title, body"):
        texts_of([path], ReadOptions(column="boddy"))


def test_bytes_that_are_no_text_are_named_or_left_out(tmp_path: Path) -> None:
    torn = write(tmp_path / "torn.txt", "fïne lïne\ntorn ".encode() + b"\xff line\nlast")
    binary = write(tmp_path / "binary.txt", b"abcdef\0\x01\x02")
    for path, fault in ((torn, "is not UTF-8 text at byte 17"), (binary, "has a NUL byte at byte 6")):
        for layout in ("line", "blank", "file"):
            with pytest.raises(CorpusError, match=rf"{path.name} {fault}"):
                texts_of([path], layout=layout)
    assert broken_of([torn], "line") == (["fïne lïne", "last"], 1)
    assert broken_of([torn], "blank") == (["fïne lïne\nlast"], 1)
    assert broken_of([torn, binary], "file") == ([], 2)


def test_rows_of_a_table_that_cannot_be_read_are_named_or_left_out(tmp_path: Path) -> None:
    ragged = write(tmp_path / "ragged.csv", "id,text\n1,a\n2,b,c\n3,d\n")
    torn = write(tmp_path / "torn.csv", "id,text\n1,ä\n2,ö".encode() + b"caf\xe9\n3,d\n")
    with pytest.raises(CorpusError, match=r"ragged\.csv row 3.*3 cells.*2.*--skip-broken"):
        texts_of([ragged])
    with pytest.raises(CorpusError, match=r"torn\.csv.*UTF-8.*byte 20.*3"):
        texts_of([torn])
    assert broken_of([ragged]) == (["a", "d"], 1)
    assert broken_of([torn]) == (["ä", "d"], 1)


@pytest.mark.parametrize("name", ["x.jsonl.zst", "x.jsonl.gz", "x.txt.zst", "x.csv.gz", "x.parquet.zst", "x.parquet"])
def test_a_file_cut_short_is_named(tmp_path: Path, name: str) -> None:
    format_name = name.split(".")[1]
    data = "line\n" * 5000 if format_name == "txt" else encoded(format_name) + b"\n" * 3000
    if format_name == "parquet":
        data = encoded(format_name)
    path = write(tmp_path / name, data)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorpusError, match=name):
        texts_of([path], layout="line")
    with pytest.raises(CorpusError, match=name):
        broken_of([path], "line")


def test_a_document_too_long_for_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertwright.corpus.readers.blocks.LONGEST_DOCUMENT", 10_000)
    monkeypatch.setattr("bertwright.corpus.readers.blocks.BLOCK_BYTES", 4_000)
    lines = write(tmp_path / "lines.txt", "a line\n" * 5_000)
    for layout in ("file", "blank"):
        with pytest.raises(CorpusError, match="--document-boundary"):
            texts_of([lines], layout=layout)
    assert len(texts_of([lines], layout="line")) == 5_000
    with pytest.raises(CorpusError, match=r"one\.jsonl"):
        texts_of([write(tmp_path / "one.jsonl", "x" * 50_000)])
