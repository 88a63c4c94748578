"""Files of strangers that lie: what they claim is refused in a sentence before memory is taken, or is harmless."""

from __future__ import annotations

import bz2
import gzip
import json
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zstandard
from safetensors.torch import save_file

from bertwright.corpus.eval_texts import load_eval_texts
from bertwright.corpus.manifest import read_manifest
from bertwright.corpus.readers.documents import read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.layouts import detect_layout
from bertwright.corpus.readers.table import read_table
from bertwright.corpus.shards import DocumentBlock, Shard, Shards, write_shard
from bertwright.errors import BertwrightError, ConfigError, CorpusError, DataError, InputError, ModelError
from bertwright.files import safe_join, write_json
from bertwright.hub.encoder_folder import read_model, save_model
from bertwright.model.build import build_encoder
from bertwright.model.config import BertConfig, ModernConfig
from bertwright.tasks.question_answering.reader import read_squad
from bertwright.tasks.tagging.conll import read_conll
from bertwright.tokenizer.load import load_tokenizer
from bertwright.tokenizer.train_vocabulary import train_tokenizer
from bertwright.train.setup.pretrain_config import resolve


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "link", "folder/x", "", None, 3, "a\0b"])
def test_no_name_in_a_manifest_leads_out_of_its_folder(tmp_path: Path, name: object) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "x").touch()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "x")
    (tmp_path / "in" / "folder").symlink_to(tmp_path)
    with pytest.raises(InputError, match="lie in"):
        safe_join(tmp_path / "in", name)
    assert safe_join(tmp_path / "in", "a/b") == tmp_path / "in" / "a" / "b"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    train_tokenizer([["The cat sat on the mat."]], folder=folder, vocab_size=512, kind="wordpiece", lowercase=True)
    shape = {"vocab_size": 512, "hidden_size": 8, "layers": 2, "heads": 2, "intermediate_size": 8}
    save_model(build_encoder(BertConfig(**shape)), folder, folder / "bert")
    save_model(build_encoder(ModernConfig(**shape)), folder, folder / "modern")
    return folder


CONFIGS = [
    {"hidden_size": 2**60}, {"num_hidden_layers": 2**40}, {"vocab_size": 2**60}, {"intermediate_size": 2**62},
    {"num_hidden_layers": 10**400}, {"model_type": []}, {"layer_types": 3}, {"layer_types": ["full_attention"] * 50},
    {"rope_parameters": {"full_attention": 3}}, {"rope_parameters": [[]]}, {"architectures": [[]]},
    {"hidden_size": "8"},
    {"initializer_range": 1e308}, {"layer_norm_eps": float("inf")}, {"norm_eps": 1e300}, {"classifier_dropout": "x"},
    {"hidden_size": float("nan")}, {"vocab_size": None}, {"max_position_embeddings": 2**60},
]  # fmt: skip


@pytest.mark.parametrize("kind", ["bert", "modern"])
@pytest.mark.parametrize("claim", CONFIGS, ids=lambda claim: str(claim)[:40])
def test_claims_of_a_config_are_refused_or_harmless(
    model: Path, tmp_path: Path, kind: str, claim: dict[str, object]
) -> None:
    """Nothing is allocated for what the weights do not hold: 2^60 rows would be the end of the process."""
    folder = model / kind
    values = json.loads((folder / "config.json").read_text())
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(values | claim))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(ModelError):
        read_model(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


HEADERS: dict[str, bytes] = {
    "2^60 rows": json.dumps({"a": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}}).encode(),
    "overlapping": json.dumps({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}).encode(),
    "negative": json.dumps({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}).encode(),
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("length", [None, 2**60, 2**63 - 1, 0])
def test_headers_of_weights_that_lie_are_refused(model: Path, tmp_path: Path, name: str, length: int | None) -> None:
    for file in ("config.json", "tokenizer.json"):
        (tmp_path / file).write_bytes((model / "bert" / file).read_bytes())
    header = HEADERS[name]
    claimed = struct.pack("<Q", len(header) if length is None else length)
    (tmp_path / "model.safetensors").write_bytes(claimed + header + b"\0" * 8)
    with pytest.raises(ModelError, match="safetensors"):
        read_model(tmp_path)


def test_a_model_of_one_pickle_is_not_opened(model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((model / "bert" / "config.json").read_bytes())
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        read_model(tmp_path)


@pytest.mark.parametrize("place", ["../a.safetensors", "/etc/passwd", [], {}, "x" * 500, "", ".."])
def test_an_index_names_files_of_its_folder_alone(model: Path, tmp_path: Path, place: object) -> None:
    (tmp_path / "config.json").write_bytes((model / "bert" / "config.json").read_bytes())
    save_file({"a": torch.zeros(1)}, tmp_path.parent / "a.safetensors")
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": place}})
    with pytest.raises(ModelError, match="names"):
        read_model(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    train_tokenizer([["The cat sat."]], folder=folder / "tokenizer", vocab_size=512, kind="wordpiece", lowercase=True)
    write(folder / "train-00000.arrow")
    entry = {"file": "train-00000.arrow", "documents": 2, "tokens": 8, "bytes": 1, "sha256": ""}
    split = {"documents": 2, "sentences": 4, "words": 8, "tokens": 8, "shards": [entry]}
    words = {"file": "tokenizer/tokenizer.json", "sha256": "", "kind": "wordpiece", "vocab_size": 512}
    content = {"format": 1, "fingerprint": "f", "language": "en", "tokenizer": words, "unigram_entropy": 1.0}
    write_json(folder / "manifest.json", {**content, "splits": {"train": split}})
    return folder


def write(path: Path, *, tokens: int = 7, ends: tuple[int, ...] = (2, 4, 2, 4)) -> None:
    block = DocumentBlock(
        tokens=np.full(8, tokens, dtype=np.uint16),
        token_counts=np.array([4, 4]),
        sentence_ends=np.array(ends, dtype=np.uint32),
        sentence_counts=np.array([2, 2]),
        word_starts=np.ones(8, dtype=bool),
    )
    write_shard(path, block)


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [(600, (2, 4, 2, 4)), (7, (2, 5, 2, 4)), (7, (4, 2, 2, 4)), (7, (2, 4, 0, 4)), (7, (2, 4, 2, 3))],
)
def test_what_no_tokenizer_gave_is_found(data: Path, tokens: int, ends: tuple[int, ...]) -> None:
    Shards.open(data, "train").check(512)
    write(data / "train-00000.arrow", tokens=tokens, ends=ends)
    with pytest.raises(DataError, match="512 tokens"):
        Shards.open(data, "train").check(512)


def arrow(**columns: pa.Array) -> bytes:
    sink, batch = pa.BufferOutputStream(), pa.RecordBatch.from_pydict(columns)
    with pa.ipc.new_file(sink, batch.schema) as out:
        out.write_batch(batch)
    return bytes(sink.getvalue())


def lists(values: pa.Array) -> pa.Array:
    """Return a list column of two documents of half the values each."""
    half = len(values) // 2
    return pa.ListArray.from_arrays(pa.array([0, half, 2 * half], pa.int32()), values)


GOOD = {
    "tokens": lists(pa.array([5, 6, 7, 8], pa.uint16())),
    "sentence_ends": lists(pa.array([2, 2], pa.uint32())),
    "word_starts": lists(pa.array([True] * 4)),
}
OFFSETS = struct.pack("<3i", 0, 2, 4)
LYING: dict[str, Callable[[], bytes]] = {
    "offsets past the end": lambda: arrow(**GOOD).replace(OFFSETS, struct.pack("<3i", 0, 2, 2**31 - 1), 1),
    "offsets that fall": lambda: arrow(**GOOD).replace(OFFSETS, struct.pack("<3i", 0, 3, 2), 1),
    "negative offsets": lambda: arrow(**GOOD).replace(OFFSETS, struct.pack("<3i", -5, 2, 4), 1),
    "an empty document": lambda: arrow(**GOOD).replace(OFFSETS, struct.pack("<3i", 0, 4, 4), 1),
    "nothing at the front": lambda: arrow(**GOOD).replace(OFFSETS, struct.pack("<3i", 2, 3, 4), 1),
    "other word starts": lambda: struct.pack("<3i", 0, 1, 4).join(arrow(**GOOD).rsplit(OFFSETS, 1)),
    "text": lambda: arrow(**(GOOD | {"tokens": pa.array(["a", "b"])})),
    "nulls": lambda: arrow(**(GOOD | {"tokens": lists(pa.array([5, None, 7, 8], pa.uint16()))})),
    "signed ids": lambda: arrow(**(GOOD | {"tokens": lists(pa.array([5, -6, 7, 8], pa.int64()))})),
    "no columns": lambda: arrow(text=pa.array(["a"])),
}


@pytest.mark.parametrize("name", LYING)
def test_shards_that_lie_are_refused_at_opening(tmp_path: Path, name: str) -> None:
    (tmp_path / "good.arrow").write_bytes(arrow(**GOOD))
    assert Shard.open(tmp_path / "good.arrow").tokens.tolist() == [5, 6, 7, 8]
    (tmp_path / "bad.arrow").write_bytes(LYING[name]())
    with pytest.raises(DataError, match="shard"):
        Shard.open(tmp_path / "bad.arrow")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("tokenizer", "vocab_size"), 2**60),
        (("tokenizer", "vocab_size"), "8"),
        (("splits",), []),
        (("splits", "train", "shards"), {}),
        (("splits", "train", "shards", 0, "file"), "../../x.arrow"),
        (("splits", "train", "shards", 0, "file"), "/etc/passwd"),
        (("splits", "train", "tokens"), -1),
        (("fingerprint",), None),
        (("unigram_entropy",), "x"),
        (("format",), [[]]),
    ],
)
def test_manifests_that_lie_are_refused(data: Path, place: tuple[str | int, ...], value: object) -> None:
    manifest = json.loads((data / "manifest.json").read_text())
    holder = manifest
    for part in place[:-1]:
        holder = holder[part]
    holder[place[-1]] = value
    write_json(data / "manifest.json", manifest)
    with pytest.raises(DataError):
        Shards.open(data, "train")


def test_a_manifest_nested_too_deeply_is_refused(data: Path) -> None:
    (data / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested"):
        read_manifest(data)


def read_all(path: Path) -> list[str]:
    layout = detect_layout([path], ReadOptions())
    return [text for batch in read_documents([path], ReadOptions(), layout=layout) for text in batch.texts.to_pylist()]


FOUND: dict[str, tuple[bytes, Callable[[Path], object]]] = {
    "no-utf8.jsonl": (b'{"text": "a\xff\xfe"}\n', read_all),
    "header.csv": (b"te\xffxt,b\nx,y\n", read_all),
    "header.tsv": (b"\xff\xfftext\tb\nx\ty\n", read_all),
    "twice.csv": (b"text,text\na,b\n", read_all),
    "deep.jsonl": (b'{"text": ' + b"[" * 50_000 + b"\n", read_all),
    "deep.toml": (b"a = " + b"[" * 50_000, lambda path: resolve(str(path), {})),
    "deep.json": (b'{"data": ' + b"[" * 50_000, read_squad),
    "list.json": (b'{"data": [{"paragraphs": [{"context": "a", "qas": [[]]}]}]}', read_squad),
    "answers.json": (
        b'{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": 1, "question": "b", "answers": 3}]}]}]}',
        read_squad,
    ),
    "deep-tokenizer.json": (b'{"model": ' * 50_000, load_tokenizer),
    "ids.json": (
        json.dumps(
            {"version": "1.0", "model": {"type": "WordPiece", "vocab": {"a": 2**40}, "unk_token": "a"}}
        ).encode(),
        load_tokenizer,
    ),
}


def test_ids_that_no_embedding_could_hold_are_refused(model: Path, tmp_path: Path) -> None:
    values = json.loads((model / "tokenizer.json").read_text())
    values["model"]["vocab"]["the"] = 2**32 - 1
    write_json(tmp_path / "tokenizer.json", values)
    with pytest.raises(InputError, match="4,294,967,295"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_cannot_say_unknown_is_refused(model: Path, tmp_path: Path) -> None:
    values = json.loads((model / "tokenizer.json").read_text())
    values["model"]["unk_token"] = "[NOTHING]"
    write_json(tmp_path / "tokenizer.json", values)
    with pytest.raises(InputError, match="Missing"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_mended(tmp_path: Path, name: str) -> None:
    data, read = FOUND[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BertwrightError) as caught:
        read(tmp_path / name)
    assert isinstance(caught.value, (InputError, ConfigError))


def test_parquet_of_bytes_that_are_no_text_is_refused(tmp_path: Path) -> None:
    good = pa.table({"text": pa.array([b"good", b"\xe2\x28"], pa.binary())})
    pq.write_table(good, tmp_path / "a.parquet")
    raw = (tmp_path / "a.parquet").read_bytes()
    text = pa.table({"text": ["good", "()"]})
    pq.write_table(text, tmp_path / "b.parquet", compression="none")
    data = (tmp_path / "b.parquet").read_bytes().replace(b"()", b"\xe2(")
    (tmp_path / "b.parquet").write_bytes(data)
    assert raw != data
    for read in (read_all, read_labelled):
        with pytest.raises(CorpusError):
            read(tmp_path / "b.parquet")


def read_labelled(path: Path) -> object:
    return read_table(path, names={"text"})


def test_a_small_file_that_unpacks_without_end_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertwright.corpus.readers.blocks.LARGEST_WHOLE", 1 << 20)
    readers: dict[str, Callable[[Path], object]] = {
        "a.tsv": read_labelled, "a.json": read_squad, "a.parquet": read_labelled, "a.conll": read_conll,
        "a.en": load_eval_texts,
    }  # fmt: skip
    for name, read in readers.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(b"text\tlabel\n" * 300_000))
        with pytest.raises(CorpusError, match="whole"):
            read(tmp_path / f"{name}.gz")


def test_texts_of_a_compressed_parquet_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["one two"], "b": ["three"], "n": [1]}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert load_eval_texts(tmp_path / "a.parquet.gz").to_pylist() == ["one two", "three"]


BOMBS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
}


@pytest.mark.parametrize("suffix", BOMBS)
def test_bombs_stream_in_bounded_memory(tmp_path: Path, suffix: str) -> None:
    """Lines without end and one line, from 400 kB: the first are read in 400 MB, the second refused at 128 MiB."""
    lines = BOMBS[suffix](b"a line of text\n" * (1 << 16))
    (tmp_path / f"lines.txt{suffix}").write_bytes(lines * 400)
    (tmp_path / f"line.txt{suffix}").write_bytes(BOMBS[suffix](b"x" * (1 << 20)) * 200)
    code = f"""
import resource
from pathlib import Path
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.documents import read_documents
from bertwright.errors import CorpusError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = 0
for batch in read_documents([Path({str(tmp_path / f"lines.txt{suffix}")!r})], ReadOptions(), layout="line"):
    count += len(batch.texts)
    if count > 2_000_000:
        break
assert count > 2_000_000
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000
try:
    list(read_documents([Path({str(tmp_path / f"line.txt{suffix}")!r})], ReadOptions(), layout="line"))
except CorpusError as error:
    assert "more than 128 MiB" in str(error)
else:
    raise AssertionError("read")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
