"""What a run is made from and leaves: DATA folders, recipes, checkpoints and metrics, and how each is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from kind import Kind, a_file, only_file, tokenizer_in
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_saver import save

from bertwright.corpus.journal import Journal, open_journal
from bertwright.corpus.shards import DocumentBlock, Shard, Shards, write_shard
from bertwright.data.pretraining.batches import BatchSource
from bertwright.data.pretraining.dataset import open_dataset
from bertwright.files import sha256_of, write_json
from bertwright.train.callbacks.metrics_file import MetricsWindow
from bertwright.train.checkpoint.folder import newest_whole, write_checkpoint
from bertwright.train.checkpoint.resume import resumed
from bertwright.train.checkpoint.snapshot import copy_state
from bertwright.train.ema import EMA, AverageConfig
from bertwright.train.parallel.group import ALONE
from bertwright.train.schedule import ScheduleConfig
from bertwright.train.setup.pretrain_config import resolve
from bertwright.train.state import Progress, TrainState
from bertwright.verbs.calls.showing.show_run import show_run

RECIPE = b"""
size = "tiny"
[schedule]
steps = 3
phases = [{length = 8, rows = 2, share = 1.0}]
[optimizer]
name = "adamw"
"""


def _data(folder: Path) -> None:
    data = folder / "data"
    tokenizer_in(data / "tokenizer")
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
    dataset = open_dataset([folder / "data"])
    tokenizer, vocabulary = dataset.tokenizer, dataset.vocab_size
    shards = Shards.open(folder / "data", "train")
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


def _datatokenizer_in(folder: Path) -> Path:
    return tokenizer_in(folder)


def _state() -> TrainState:
    """Return the state of a run of one matrix, after a step."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    average = EMA(model, AverageConfig(name="ema"))
    state = TrainState(model, [optimizer], Progress(step=3, seconds=1.5, drawn=[3]), average)
    state.attach([MetricsWindow({"loss": 2.0})])
    return state


def _checkpoint(file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        state, good = (copy_state(_state()) for _ in range(2))
        good.facts["position"]["step"] = 2
        write_checkpoint(folder, state, identity={"seed": 0}, good=good)
        return folder / "checkpoints" / "step-3" / file

    return make


def _shared_checkpoint(folder: Path) -> Path:
    """Write the checkpoint as a run of several processes does: by torch.distributed.checkpoint, as safetensors."""
    step, state = folder / "checkpoints" / "step-3", copy_state(_state())
    step.mkdir(parents=True)
    flat = {
        f"{file}/{name}": value.reshape(-1) if value.ndim == 0 else value
        for file, tensors in state.tensors.items()
        for name, value in tensors.items()
    }
    save(flat, storage_writer=HuggingFaceStorageWriter(str(step), save_distributed=True), no_dist=True)
    write_json(step / "position.json", {**state.facts, "identity": {"seed": 0}})
    (shard,) = step.glob("shard-*.safetensors")
    return shard


def _go_on(folder: Path) -> None:
    """Go on from the checkpoint as if its checksums were right: they prove nothing about who wrote it."""
    resumed(folder / "checkpoints" / "step-3", _state(), {"seed": 0}, ScheduleConfig(steps=3), group=ALONE)


def _read_checksums(folder: Path) -> None:
    try:
        newest_whole(folder)
    finally:
        aside = folder / "checkpoints" / "damaged-step-3"
        if aside.is_dir():
            aside.rename(folder / "checkpoints" / "step-3")


def _journal(folder: Path) -> Path:
    Journal({"seed": 0, "inputs": ["a"]}, position=(0, 1, 2)).save(folder)
    return folder / ".progress.json"


def _read_journal(folder: Path) -> None:
    open_journal(folder, {"seed": 0, "inputs": ["a"]})


def _run(folder: Path) -> Path:
    (folder / "config.toml").write_bytes(RECIPE)
    write_json(folder / "manifest.json", {"data": "d", "language": "en", "unigram_entropy": 3.0})
    lines = [{"step": 5 * i, "seconds": 1.5 * i, "loss": 5.0, "mlm_loss": 5.0, "length": 8, "learning_rate": 1e-3,
              "tokens_per_second": 9.0, "valid": {"mlm_loss": 5.0}} for i in range(1, 4)]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "metrics.jsonl"


def _result(folder: Path) -> Path:
    _run(folder)
    figures = {"steps": 15, "tokens": 900, "epochs": 0.5, "seconds": 9.0, "setup_seconds": 1.0, "loss": 5.0,
               "valid": {"mlm_loss": 5.0, "mlm_accuracy": 0.1}, "unigram_entropy": 3.0, "tokens_per_second": 9.0,
               "mfu": 0.1, "checkpoints": {"written": 1, "stalled_seconds": 0.1}}  # fmt: skip
    write_json(folder / "result.json", figures)
    return folder / "result.json"


RUNS: dict[str, Kind] = {
    "shard": Kind(_shard, _read_shard),
    "manifest.json of DATA": Kind(_manifest, _read_data, is_json=True),
    "journal of prepare": Kind(_journal, _read_journal, is_json=True),
    "recipe": Kind(a_file("own.toml", lambda: RECIPE), only_file(lambda path: resolve(str(path), {}))),
    "position.json of a checkpoint": Kind(_checkpoint("position.json"), _go_on, is_json=True),
    "position.json to go back to": Kind(_checkpoint("good/position.json"), _go_on, is_json=True),
    "weights of a checkpoint": Kind(_checkpoint("weights.safetensors"), _go_on),
    "moments of a checkpoint": Kind(_checkpoint("optimizer.safetensors"), _go_on),
    "manifest.json of a checkpoint": Kind(_checkpoint("manifest.json"), _read_checksums, is_json=True),
    "share of a checkpoint": Kind(_shared_checkpoint, _go_on),
    "metrics.jsonl": Kind(_run, show_run),
    "result.json": Kind(_result, show_run, is_json=True),
}
