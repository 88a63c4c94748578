"""Says what a kind of file is to the fuzzer: how a small whole one is made, and how it is read to its end.

A reader is given the folder the file lies in. It returns, or raises one of the errors of errors.py: anything else is a
finding, and so are a crash, a hang and a large allocation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bertwright.hub.encoder_folder import save_model
from bertwright.model.build import build_encoder
from bertwright.model.config import BertConfig, ModernConfig
from bertwright.tokenizer.train_vocabulary import train_tokenizer

TEXTS = ["The cat sat on the mat. It was warm.", "A dog ran to the house. It ate.", "“Größe” 你好, world. Yes."]


@dataclass(frozen=True)
class Kind:
    """How one kind of file is made, `make(folder) -> the path to mutate`, and read, `read(folder)`."""

    make: Callable[[Path], Path]
    read: Callable[[Path], None]
    is_json: bool = False


def tokenizer_in(folder: Path) -> Path:
    """Train a tokenizer on TEXTS in a folder; return its tokenizer.json."""
    train_tokenizer([TEXTS], folder=folder, vocab_size=512, kind="wordpiece", lowercase=True)
    return folder / "tokenizer.json"


def model_in(folder: Path, kind: str) -> None:
    """Save a tiny model, "bert" or "modern", in folder/model."""
    tokenizer_in(folder / "words")
    shape = {"vocab_size": 512, "hidden_size": 8, "layers": 2, "heads": 2, "intermediate_size": 8, "max_positions": 16}
    config = BertConfig(**shape) if kind == "bert" else ModernConfig(**shape)
    torch.manual_seed(0)
    save_model(build_encoder(config), folder / "words", folder / "model")


def a_file(name: str, data: Callable[[], bytes]) -> Callable[[Path], Path]:
    """Return what makes a file of a folder."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data())
        return folder / name

    return make


def only_file(read: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Return what reads the only file of a folder."""

    def of_folder(folder: Path) -> None:
        (file,) = (path for path in folder.iterdir() if path.is_file())
        read(file)

    return of_folder
