"""Reads the manifest of a DATA folder: what is in it, by which tokenizer, and which files belong to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bertwright.config import requirement
from bertwright.errors import DataError, InputError
from bertwright.files import read_json, safe_join, sha256_of

FORMAT_VERSION = 1
SPLITS = ("train", "valid")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a DATA folder; raises DataError where it is missing, damaged or of another version."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise DataError(f"{folder} is not a prepared DATA folder (no manifest.json); make one with: bertwright prepare")
    if (folder / "config.toml").is_file():
        raise DataError(f"{folder} is a RUN folder, not a DATA folder; give a folder that bertwright prepare made")
    try:
        manifest: dict[str, Any] = read_json(path)
        version = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); prepare the data again") from error
    if version != FORMAT_VERSION:
        found = str(version)[:40]
        raise DataError(f"{folder} has data format {found}, this bertwright reads {FORMAT_VERSION}; prepare it again")
    try:
        _Manifest.model_validate(manifest)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise DataError(f"{path} is damaged ({place} {requirement(problem)}); prepare the data again") from error
    return manifest


def bytes_per_token(manifest: Mapping[str, Any], split: str) -> float | None:
    """Return the bytes of text a token of a split stands for; None where nothing is known.

    It turns nats a token, which depend on the vocabulary, into nats a byte. Folders of earlier versions know it of both
    splits together.
    """
    parts = manifest["splits"]
    known = [entry.get("text_bytes") for entry in parts[split]["shards"]] if split in parts else []
    if known and None not in known and sum(known):
        return float(sum(known) / max(1, parts[split]["tokens"]))
    tokens = sum(part["tokens"] for part in parts.values())
    return float(manifest["text_bytes"] / tokens) if tokens and manifest.get("text_bytes") else None


class _Part(BaseModel):
    """A part of a manifest: what is read of it has a type, and there may be more."""

    model_config = ConfigDict(strict=True)


class _Entry(_Part):
    file: str
    documents: int = Field(ge=0)
    tokens: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str
    text_bytes: int | None = Field(default=None, ge=0)
    """Bytes of the text; shards of earlier versions are without."""


class _Split(_Part):
    documents: int = Field(ge=0)
    sentences: int = Field(ge=0)
    words: int = Field(ge=0)
    tokens: int = Field(ge=0)
    shards: list[_Entry]


class _Words(_Part):
    file: str
    sha256: str
    kind: str
    vocab_size: int = Field(ge=1, lt=1 << 31)


class _Neighbours(_Part):
    file: str
    xxh3_128: str


class _Manifest(_Part):
    fingerprint: str
    language: str
    tokenizer: _Words
    unigram_entropy: float = Field(ge=0, allow_inf_nan=False)
    splits: dict[str, _Split]
    text_bytes: int = Field(default=0, ge=0)
    neighbours: _Neighbours | None = None
    """Counts of neighbours; folders of earlier versions are without."""


def member(folder: Path, name: str) -> Path:
    """Return the path of a file that the manifest of a DATA folder names; raises DataError where it leads elsewhere."""
    try:
        return safe_join(folder, name)
    except InputError as error:
        raise DataError(str(error)) from error


def fingerprint_of(tokenizer: str, digests: Mapping[str, Sequence[str]]) -> str:
    """Return the name of what training sees: the SHA-256 of the tokenizer, and those of the shards of each split."""
    named = json.dumps([FORMAT_VERSION, tokenizer, {split: list(digests.get(split, ())) for split in SPLITS}])
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def check_tokenizer(folder: Path, *, manifest: Mapping[str, Any] | None = None) -> Path:
    """Return the tokenizer.json of a DATA folder; raises DataError where it is not the one the data was made with."""
    expected = (manifest or read_manifest(folder))["tokenizer"]
    file = member(folder, expected["file"])
    if not file.is_file() or sha256_of(file) != expected["sha256"]:
        raise DataError(
            f"{file} is not the tokenizer {folder} was prepared with; restore it, or prepare the data again"
        )
    return file
