"""Every kind of file that bertwright reads from others: a small whole one of it, and how it is read to its end.

A reader is given the folder the file lies in. It returns, or raises one of the errors of errors.py: anything else is a
finding, and so are a crash, a hang and a large allocation.
"""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import zstandard
from safetensors.torch import save_file

from bertwright.corpus import inputs
from bertwright.corpus.inputs import ReadOptions, find_inputs
from bertwright.corpus.judged import judged_texts
from bertwright.corpus.layouts import describe_layout
from bertwright.corpus.read import read_documents
from bertwright.corpus.shards import DocumentBlock, Shard, Shards, write_shard
from bertwright.data.batches import BatchSource
from bertwright.errors import ModelError
from bertwright.export.fine_tuned import read_fine_tuned
from bertwright.export.huggingface import read_model, save_model
from bertwright.export.sentence import is_sentence_folder, read_sentence_folder
from bertwright.files import sha256_of, write_json
from bertwright.model.build import build_encoder
from bertwright.model.config import BertConfig, ModernConfig
from bertwright.recipes.parts import open_data
from bertwright.recipes.settings import resolve
from bertwright.recipes.show import show_run
from bertwright.tasks.conll import read_conll
from bertwright.tasks.squad import read_squad
from bertwright.tasks.tables import read_table
from bertwright.tokenizer.bulk import BulkEncoder
from bertwright.tokenizer.load import load_tokenizer
from bertwright.tokenizer.train import train_tokenizer
from bertwright.train.checkpoint import newest_whole, read_checkpoint, write_checkpoint
from bertwright.train.state import State

TEXTS = ["The cat sat on the mat. It was warm.", "A dog ran to the house. It ate.", "“Größe” 你好, world. Yes."]
inputs.BLOCK_BYTES = 1 << 16
"""pyarrow does not give back what a read that failed was to fill, 8 MB otherwise: 100 readings would use up ROOM."""
SENTENCES = ["The dog sat.", "It ran to the warm house!", "你好"]


@dataclass(frozen=True)
class Kind:
    """How one kind of file is made, `make(folder) -> the path to mutate`, and read, `read(folder)`."""

    make: Callable[[Path], Path]
    read: Callable[[Path], None]
    is_json: bool = False


def _tokenizer(folder: Path) -> Path:
    train_tokenizer([TEXTS], folder=folder, vocab_size=512, kind="wordpiece", lowercase=True)
    return folder / "tokenizer.json"


def _model(folder: Path, kind: str) -> None:
    _tokenizer(folder / "words")
    shape = {"vocab_size": 512, "hidden_size": 8, "layers": 2, "heads": 2, "intermediate_size": 8, "max_positions": 16}
    config = BertConfig(**shape) if kind == "bert" else ModernConfig(**shape)
    torch.manual_seed(0)
    save_model(build_encoder(config), folder / "words", folder / "model")


def _of_model(kind: str, file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        _model(folder, kind)
        return folder / "model" / file

    return make


def _fine_tuned(file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        _model(folder, "bert")
        config = json.loads((folder / "model" / "config.json").read_text())
        config |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}
        write_json(folder / "model" / "config.json", config)
        from safetensors.torch import load_file

        tensors = load_file(folder / "model" / "model.safetensors")
        head = {"classifier.weight": torch.zeros(2, 8), "classifier.bias": torch.zeros(2)}
        save_file(tensors | head, folder / "model" / "model.safetensors")
        return folder / "model" / file

    return make


def _sharded_index(folder: Path) -> Path:
    _model(folder, "bert")
    (folder / "model" / "model.safetensors").rename(folder / "model" / "model-00001-of-00001.safetensors")
    names = ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    write_json(folder / "model" / "model.safetensors.index.json", index)
    return folder / "model" / "model.safetensors.index.json"


def _read_model(folder: Path) -> None:
    model, _ = read_model(folder / "model")
    assert all(torch.is_tensor(value) for value in model.state_dict().values())


def _read_sentence_model(folder: Path) -> None:
    if is_sentence_folder(folder / "model"):
        read_sentence_folder(folder / "model")


def _sentence_modules(folder: Path) -> Path:
    _model(folder, "bert")
    write_json(
        folder / "model" / "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ],
    )
    (folder / "model" / "1_Pooling").mkdir()
    write_json(
        folder / "model" / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True},
    )
    return folder / "model" / "modules.json"


def _read_tokenizer(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer.tokens) == tokenizer.vocab_size
    encoder = BulkEncoder(tokenizer)
    encoder.prove(SENTENCES)
    ids, counts = encoder.encode(SENTENCES)
    assert len(ids) == counts.sum()
    tokenizer.decode(ids.tolist())


def _data(folder: Path) -> None:
    data = folder / "data"
    _tokenizer(data / "tokenizer")
    documents, rng = 6, np.random.default_rng(0)
    ends = np.tile(np.array([4, 9, 12], dtype=np.uint32), documents)
    block = DocumentBlock(
        tokens=rng.integers(5, 300, 12 * documents).astype(np.uint16),
        token_counts=np.full(documents, 12),
        sentence_ends=ends,
        sentence_counts=np.full(documents, 3),
        word_starts=rng.random(12 * documents) < 0.7,
    )
    write_shard(data / "train-00000.arrow", block)
    entry = {
        "file": "train-00000.arrow",
        "documents": 6,
        "sentences": 18,
        "words": 50,
        "tokens": 72,
        "bytes": 1,
        "sha256": "",
    }
    tokenizer = {
        "file": "tokenizer/tokenizer.json",
        "sha256": sha256_of(data / "tokenizer" / "tokenizer.json"),
        "kind": "wordpiece",
        "vocab_size": 512,
        "special_ids": {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4},
    }
    split = {"documents": 6, "sentences": 18, "words": 50, "tokens": 72, "shards": [entry]}
    write_json(
        data / "manifest.json",
        {
            "format": 1, "bertwright": "0", "fingerprint": "f" * 32, "language": "en", "tokenizer": tokenizer,
            "unigram_entropy": 5.0, "splits": {"train": split}, "inputs": [], "options": {}, "dropped": {},
            "text_bytes": 9,
        },
    )  # fmt: skip


def _shard(folder: Path) -> Path:
    _data(folder)
    return folder / "data" / "train-00000.arrow"


def _read_data(folder: Path) -> None:
    manifest, tokenizer = open_data(folder / "data")
    shards = Shards.open(folder / "data", "train")
    vocabulary = int(manifest["tokenizer"]["vocab_size"])
    shards.check(vocabulary)
    for document in range(min(shards.document_count, 100)):
        tokens = shards.tokens(document)
        assert len(tokens) == len(shards.word_starts(document))
        assert shards.sentence_ends(document)[-1] == len(tokens)
        assert tokens.max() < vocabulary
    for pairs in (True, False):
        source = BatchSource(shards, special=tokenizer.special, length=16, rows=4, pairs=pairs, seed=0)
        assert int(source.draw(3).input_ids.max()) < vocabulary


def _read_shard(folder: Path) -> None:
    shard = Shard.open(folder / "data" / "train-00000.arrow")
    assert shard.token_offsets[-1] <= len(shard.tokens)
    _read_data(folder)


def _manifest(folder: Path) -> Path:
    _data(folder)
    return folder / "data" / "manifest.json"


def _data_tokenizer(folder: Path) -> Path:
    return _tokenizer(folder)


def _checkpoint(file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        tensors = {"weights": {"a": torch.zeros(4)}, "optimizer": {"m/a": torch.zeros(4)}}
        state = State(tensors, {"position": {"step": 3, "seconds": 1.0}})
        write_checkpoint(folder, state, identity={"seed": 0})
        return folder / "checkpoints" / "step-3" / file

    return make


def _read_checkpoint(folder: Path) -> None:
    (folder / "checkpoints" / "damaged-step-3").is_dir() and (folder / "checkpoints" / "damaged-step-3").rename(
        folder / "checkpoints" / "step-3"
    )
    with suppress(ModelError):
        read_checkpoint(folder / "checkpoints" / "step-3", identity={"seed": 0})
    try:
        newest_whole(folder)
    finally:
        aside = folder / "checkpoints" / "damaged-step-3"
        if aside.is_dir():
            aside.rename(folder / "checkpoints" / "step-3")


def _corpus(name: str, data: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data())
        return folder / name

    return make


def _read_corpus(folder: Path) -> None:
    for skip_broken in (False, True):
        options = ReadOptions(skip_broken=skip_broken)
        paths = find_inputs([str(path) for path in folder.iterdir() if not path.name.startswith(".")])
        for batch in read_documents(paths, options, layout=describe_layout(paths, options)):
            batch.texts.validate(full=True)


def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": TEXTS, "n": [1, 2, 3]}), sink, row_group_size=2)
    return bytes(sink.getvalue())


def _arrow(file_format: bool) -> Callable[[], bytes]:
    def data() -> bytes:
        table = pa.table({"text": TEXTS, "n": [1, 2, 3]})
        sink = pa.BufferOutputStream()
        with (pa.ipc.new_file if file_format else pa.ipc.new_stream)(sink, table.schema) as out:
            out.write_table(table)
        return bytes(sink.getvalue())

    return data


def _json_lines() -> bytes:
    return "".join(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate(TEXTS)).encode()


def _wikipedia() -> bytes:
    site = '<siteinfo><namespaces><namespace key="6">File</namespace></namespaces></siteinfo>'
    markup = "'''Ulm''' is [[a|b]]. {{c|d}} [[File:x|y]]&lt;ref&gt;z&lt;/ref&gt;"
    markup += "\n{| \n|a\n|}\n[http://x y] -{zh-hans:a;zh-hant:b}-"
    page = f"<page><title>T</title><ns>0</ns><revision><text>{markup}</text></revision></page>"
    return f'<mediawiki xmlns="http://m.org/">{site}{page * 2}</mediawiki>'.encode()


def _state(folder: Path) -> Path:
    (folder / "set").mkdir()
    (folder / "set" / "a.arrow").write_bytes(_arrow(False)())
    write_json(folder / "set" / "dataset_info.json", {})
    write_json(folder / "set" / "state.json", {"_data_files": [{"filename": "a.arrow"}], "_fingerprint": "x"})
    return folder / "set" / "state.json"


def _tsv() -> bytes:
    return ("text\tlabel\n" + "".join(f"{text}\t{n % 2}\n" for n, text in enumerate(TEXTS * 3))).encode()


def _csv() -> bytes:
    return ("text,label\n" + "".join(f'"{text}",{n % 2}\n' for n, text in enumerate(TEXTS * 3))).encode()


def _conll() -> bytes:
    return b"-DOCSTART- O\n\nThe O\ncat B-PER\nsat I-PER\n\nIt O\nran O\n\n"


def _squad() -> bytes:
    answers = [{"text": "cat", "answer_start": 4}]
    asked = [{"id": "1", "question": "Who sat?", "answers": answers, "is_impossible": False}]
    return json.dumps(
        {"version": "1", "data": [{"title": "t", "paragraphs": [{"context": TEXTS[0], "qas": asked}]}]}
    ).encode()


def _only_file(read: Callable[[Path], Any]) -> Callable[[Path], None]:
    def of_folder(folder: Path) -> None:
        (file,) = (path for path in folder.iterdir() if path.is_file())
        read(file)

    return of_folder


RECIPE = b"""
size = "tiny"
[schedule]
steps = 3
phases = [{length = 8, rows = 2, share = 1.0}]
[optimizer]
name = "adamw"
"""


def _read_labelled(file: Path) -> None:
    read_table(file, names={"text", "label"})


def _run(folder: Path) -> Path:
    (folder / "config.toml").write_bytes(RECIPE)
    write_json(folder / "manifest.json", {"data": "d", "language": "en", "unigram_entropy": 3.0})
    lines = [{"step": 5 * i, "seconds": 1.5 * i, "loss": 5.0, "mlm_loss": 5.0, "length": 8, "learning_rate": 1e-3,
              "tokens_per_second": 9.0, "valid": {"mlm_loss": 5.0}} for i in range(1, 4)]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "metrics.jsonl"


KINDS: dict[str, Kind] = {
    "BERT config.json": Kind(_of_model("bert", "config.json"), _read_model, is_json=True),
    "ModernBERT config.json": Kind(_of_model("modern", "config.json"), _read_model, is_json=True),
    "BERT weights": Kind(_of_model("bert", "model.safetensors"), _read_model),
    "ModernBERT weights": Kind(_of_model("modern", "model.safetensors"), _read_model),
    "index of weights": Kind(_sharded_index, _read_model, is_json=True),
    "fine-tuned config.json": Kind(
        _fine_tuned("config.json"), lambda f: _none(read_fine_tuned(f / "model")), is_json=True
    ),
    "fine-tuned weights": Kind(_fine_tuned("model.safetensors"), lambda f: _none(read_fine_tuned(f / "model"))),
    "modules.json of vectors": Kind(_sentence_modules, _read_sentence_model, is_json=True),
    "tokenizer.json": Kind(_data_tokenizer, _read_tokenizer, is_json=True),
    "tokenizer_config.json": Kind(
        lambda f: _tokenizer(f).with_name("tokenizer_config.json"), _read_tokenizer, is_json=True
    ),
    "shard": Kind(_shard, _read_shard),
    "manifest.json of DATA": Kind(_manifest, _read_data, is_json=True),
    "position.json of a checkpoint": Kind(_checkpoint("position.json"), _read_checkpoint, is_json=True),
    "manifest.json of a checkpoint": Kind(_checkpoint("manifest.json"), _read_checkpoint, is_json=True),
    "weights of a checkpoint": Kind(_checkpoint("weights.safetensors"), _read_checkpoint),
    "metrics.jsonl": Kind(_run, lambda f: show_run(f), is_json=False),
    "recipe": Kind(_corpus("own.toml", lambda: RECIPE), _only_file(lambda p: resolve(str(p), {}))),
    "corpus .txt": Kind(_corpus("a.txt", lambda: "\n\n".join(TEXTS).encode()), _read_corpus),
    "corpus .jsonl": Kind(_corpus("a.jsonl", _json_lines), _read_corpus),
    "corpus .csv": Kind(_corpus("a.csv", _csv), _read_corpus),
    "corpus .tsv": Kind(_corpus("a.tsv", _tsv), _read_corpus),
    "corpus .parquet": Kind(_corpus("a.parquet", _parquet), _read_corpus),
    "corpus .arrow, stream": Kind(_corpus("a.arrow", _arrow(False)), _read_corpus),
    "corpus .arrow, file": Kind(_corpus("a.arrow", _arrow(True)), _read_corpus),
    "corpus .jsonl.gz": Kind(_corpus("a.jsonl.gz", lambda: gzip.compress(_json_lines())), _read_corpus),
    "corpus .jsonl.zst": Kind(_corpus("a.jsonl.zst", lambda: zstandard.compress(_json_lines())), _read_corpus),
    "corpus .txt.bz2": Kind(_corpus("a.txt.bz2", lambda: bz2.compress("\n".join(TEXTS).encode())), _read_corpus),
    "corpus .arrow.zst": Kind(_corpus("a.arrow.zst", lambda: zstandard.compress(_arrow(False)())), _read_corpus),
    "Wikipedia dump": Kind(_corpus("a.xml", _wikipedia), _read_corpus),
    "state.json of a dataset": Kind(_state, _read_corpus, is_json=True),
    "labelled .tsv": Kind(_corpus("a.tsv", _tsv), _only_file(_read_labelled)),
    "labelled .csv": Kind(_corpus("a.csv", _csv), _only_file(_read_labelled)),
    "labelled .jsonl": Kind(_corpus("a.jsonl", _json_lines), _only_file(_read_labelled)),
    "labelled .parquet": Kind(_corpus("a.parquet", _parquet), _only_file(_read_labelled)),
    "CoNLL": Kind(_corpus("a.conll", _conll), _only_file(read_conll)),
    "SQuAD": Kind(_corpus("a.json", _squad), _only_file(read_squad), is_json=True),
    "test file": Kind(_corpus("a.jsonl", _json_lines), _only_file(judged_texts), is_json=False),
}


def _none(_: object) -> None:
    """Forget a result."""
