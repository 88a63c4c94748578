"""Datasets that Hugging Face `datasets` saved, plain Arrow files, and files at addresses are inputs like the others."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertwright.corpus.readers.documents import read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.inputs import find_inputs
from bertwright.corpus.readers.remote import total_size
from bertwright.errors import CorpusError

TEXTS = [f"Document {i} says {'more ' * (i % 7)}things." for i in range(300)]


def read(*names: str, column: str | None = None) -> list[str]:
    batches = read_documents(find_inputs(names).files, ReadOptions(column=column), layout="line")
    return [text for batch in batches for text in batch.texts.to_pylist()]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    whole = datasets.Dataset.from_dict({"text": TEXTS, "id": list(range(300))})
    parts = datasets.DatasetDict({"train": whole.select(range(200)), "test": whole.select(range(200, 300))})
    parts.save_to_disk(tmp_path / "saved", num_shards={"train": 3, "test": 1})
    return tmp_path / "saved"


def test_a_saved_dataset_gives_its_train_split_and_says_so(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read(str(saved)) == TEXTS[:200]
    assert "not test" in capsys.readouterr().err
    assert read(str(saved / "test")) == TEXTS[200:]


def test_what_state_json_does_not_name_is_no_part_of_it(saved: Path) -> None:
    (saved / "test" / "cache-1.arrow").write_bytes(b"an earlier map")
    assert read(str(saved / "test")) == TEXTS[200:]


@pytest.mark.parametrize("name", ["../../secret.arrow", "/etc/passwd", "link.arrow", "", None, 3, "a\0b"])
def test_names_in_state_json_cannot_leave_the_folder(saved: Path, name: object) -> None:
    (saved.parent / "secret.arrow").write_bytes(b"")
    (saved / "test" / "link.arrow").symlink_to(saved.parent / "secret.arrow")
    (saved / "test" / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(CorpusError, match="lie in"):
        find_inputs([str(saved / "test")])


@pytest.mark.parametrize(
    "state", ["{}", "[]", "{", '{"_data_files": 3}', '{"_data_files": [{"filename": "no.arrow"}]}']
)
def test_a_damaged_state_is_refused(saved: Path, state: str) -> None:
    (saved / "test" / "state.json").write_text(state)
    with pytest.raises(CorpusError, match=r"damaged|lacks"):
        find_inputs([str(saved / "test")])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_arrow_files_of_both_formats(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"body": pa.array(TEXTS).cast(kind)})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table, max_chunksize=70)
    with pa.OSFile(str(tmp_path / "b.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table, max_chunksize=70)
    (tmp_path / "c.arrow.gz").write_bytes(gzip.compress((tmp_path / "b.arrow").read_bytes()))
    for name in ("a.arrow", "b.arrow", "c.arrow.gz"):
        assert read(str(tmp_path / name), column="body") == TEXTS
    with pytest.raises(CorpusError, match="no column"):
        read(str(tmp_path / "a.arrow"), column="text")


def test_a_torn_arrow_file_is_refused(saved: Path) -> None:
    path = saved / "test" / "data-00000-of-00001.arrow"
    whole = path.read_bytes()
    for size in (0, 3, 100, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(CorpusError):
            read(str(path))


@pytest.fixture
def bucket() -> str:
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/a/one.txt", "\n".join(TEXTS[:100]).encode())
    system.pipe(
        "/bucket/a/two.jsonl.gz", gzip.compress("".join(json.dumps({"text": t}) + "\n" for t in TEXTS).encode())
    )
    system.pipe("/bucket/a/.hidden.txt", b"no")
    system.pipe("/bucket/a/picture.png", b"no")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": TEXTS}), sink)
    system.pipe("/bucket/b.parquet", sink.getvalue().to_pybytes())
    return "memory://bucket"


def test_addresses_are_read_like_files(bucket: str) -> None:
    assert read(f"{bucket}/a") == TEXTS[:100] + TEXTS
    assert read(f"{bucket}/a/*.gz") == TEXTS
    assert read(f"{bucket}/b.parquet") == TEXTS
    files = find_inputs([f"{bucket}/a"]).files
    assert total_size(files) == sum(
        fsspec.filesystem("memory").size(f"/bucket/a/{n}") for n in ("one.txt", "two.jsonl.gz")
    )
    whole = list(read_documents(files, ReadOptions(), layout="line"))
    rest = read_documents(files, ReadOptions(), layout="line", skip=(0, 40))
    assert [t for b in rest for t in b.texts.to_pylist()] == [t for b in whole for t in b.texts.to_pylist()][40:]


def test_file_addresses_are_paths(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo")
    assert read(f"file://{tmp_path}/a.txt") == ["one", "two"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("memory://nowhere/a.txt", "reached"),
        ("memory://nowhere/folder", "text files|reached"),
        ("nonsense://a/b.txt", "reached"),
    ],
)
def test_addresses_without_files_are_refused(address: str, reason: str) -> None:
    with pytest.raises(CorpusError, match=reason):
        find_inputs([address])


def test_a_protocol_without_its_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(CorpusError, match=r"s3fs"):
        find_inputs(["s3://bucket/a.txt"])


def test_a_file_that_breaks_off_is_told(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_inputs([f"{bucket}/a/one.txt"]).files
    fsspec.filesystem("memory").rm("/bucket/a/one.txt")
    with pytest.raises(CorpusError, match=r"memory://bucket/a/one.txt"):
        list(read_documents(files, ReadOptions(), layout="line"))
