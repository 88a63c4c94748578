"""Writes token shards and reads them back as zero-copy views: the one format between preparation and training.

A DATA folder holds `manifest.json`, `tokenizer/tokenizer.json` and, for each split, `train-00000.arrow` and so on. A
shard is an Arrow IPC file of one record batch, a row a document, readable by any Arrow tool:

    tokens         list<uint16>   token ids without special tokens (uint32 where the vocabulary is above 65,536)
    sentence_ends  list<uint32>   end of each sentence in tokens from the start of the document; the last is its length
    word_starts    list<bool>     True at the first token of each word (one bit a token)

Reading maps the files into memory: nothing is loaded until it is touched, and nothing is copied.

    >>> # needs a DATA folder
    >>> shards = Shards.open(Path("data"), "train")  # doctest: +SKIP
    >>> shards.tokens(12)[:5]  # the first five token ids of document 12  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bertwright.corpus.manifest import fingerprint_of, member, read_manifest
from bertwright.errors import DataError
from bertwright.files import sha256_of, written_aside


@dataclass(frozen=True)
class DocumentBlock:
    """Some encoded documents on their way to a shard, flat.

    tokens           [T] uint16 or uint32
    token_counts     [D] int64   tokens of each document, none zero
    sentence_ends    [N] uint32  counted from the start of the document
    sentence_counts  [D] int64
    word_starts      [T] bool
    """

    tokens: np.ndarray
    token_counts: np.ndarray
    sentence_ends: np.ndarray
    sentence_counts: np.ndarray
    word_starts: np.ndarray


def join_blocks(blocks: list[DocumentBlock]) -> DocumentBlock:
    """Return several blocks as one, in order."""
    return DocumentBlock(
        *(
            np.concatenate([getattr(block, name) for block in blocks])
            for name in ("tokens", "token_counts", "sentence_ends", "sentence_counts", "word_starts")
        )
    )


def token_dtype(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """Return the narrowest type that holds every id of a vocabulary."""
    return np.uint16 if vocab_size <= 65_536 else np.uint32


def write_shard(path: Path, block: DocumentBlock) -> None:
    """Write one shard, whole or not at all; at most 2^31 - 1 tokens."""
    columns = {
        "tokens": _list_array(block.token_counts, pa.array(block.tokens)),
        "sentence_ends": _list_array(block.sentence_counts, pa.array(block.sentence_ends)),
        "word_starts": _list_array(block.token_counts, pa.array(block.word_starts)),
    }
    batch = pa.RecordBatch.from_pydict(columns)
    with written_aside(path) as aside, pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as out:
        out.write_batch(batch)


def _list_array(counts: np.ndarray, values: pa.Array) -> pa.Array:
    offsets = np.zeros(len(counts) + 1, dtype=np.int32)
    np.cumsum(counts, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values)


@dataclass(frozen=True)
class Shard:
    """Zero-copy views over one memory-mapped shard of D documents, N sentences and T tokens.

    tokens [T], token_offsets [D + 1], sentence_ends [N] (from the document's start), sentence_offsets [D + 1],
    word_start_bits [ceil(T / 8)] uint8, least significant bit first.
    """

    tokens: np.ndarray
    token_offsets: np.ndarray
    sentence_ends: np.ndarray
    sentence_offsets: np.ndarray
    word_start_bits: np.ndarray

    @classmethod
    def open(cls, path: Path) -> Shard:
        """Map one shard; a file that is not a whole shard raises DataError."""
        try:
            batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
            tokens, ends, starts = (batch.column(name) for name in ("tokens", "sentence_ends", "word_starts"))
            _check_columns(tokens, ends, starts)
        except (OSError, pa.ArrowException, KeyError, IndexError, ValueError, TypeError) as error:
            raise DataError(f"{path} is not a whole shard ({error}); prepare the data again") from error
        bits = np.frombuffer(starts.values.buffers()[1], dtype=np.uint8)
        return cls(
            tokens=tokens.values.to_numpy(zero_copy_only=True),
            token_offsets=tokens.offsets.to_numpy(),
            sentence_ends=ends.values.to_numpy(zero_copy_only=True),
            sentence_offsets=ends.offsets.to_numpy(),
            word_start_bits=bits,
        )

    def check(self, vocab_size: int, *, name: str) -> None:
        """Read all of it, and raise DataError where a token is none of the vocabulary or a sentence ends elsewhere."""
        ends = self.sentence_ends.astype(np.int64)
        steps = np.diff(ends, prepend=0)
        firsts = self.sentence_offsets[:-1]
        steps[firsts] = ends[firsts]
        whole = ends[self.sentence_offsets[1:] - 1] == np.diff(self.token_offsets)
        if (len(self.tokens) and int(self.tokens.max()) >= vocab_size) or steps.min(initial=1) < 1 or not whole.all():
            raise DataError(f"{name} holds what no tokenizer of {vocab_size:,} tokens gave; prepare the data again")


def _check_columns(tokens: pa.ListArray, ends: pa.ListArray, starts: pa.ListArray) -> None:
    """Raise ValueError or ArrowInvalid where the columns of a shard are not those of one, before they are looked at.

    Offsets are read, and the values behind them not: a list that claims more values than its file has is found here.
    """
    kinds = [column.type for column in (tokens, ends, starts)]
    numbers = [pa.list_(pa.uint16()), pa.list_(pa.uint32())]
    if kinds[0] not in numbers or kinds[1] != numbers[1] or kinds[2] != pa.list_(pa.bool_()):
        raise ValueError(f"its columns are {', '.join(map(str, kinds))}")
    for column in (tokens, ends, starts):
        column.validate(full=True)
        if column.null_count or column.values.null_count or column.offset or column.values.offset:
            raise ValueError("its columns have gaps")
        offsets = column.offsets.to_numpy()
        if offsets[0] != 0 or offsets[-1] != len(column.values) or (np.diff(offsets) < 1).any():
            raise ValueError("its documents are not one after another")
    if not tokens.offsets.equals(starts.offsets):
        raise ValueError("its word starts are not those of its tokens")


class Shards:
    """All shards of one split as a single run of documents, numbered from 0."""

    def __init__(self, shards: list[Shard], *, fingerprint: str) -> None:
        """Join opened shards; `fingerprint` names the data in random streams and checkpoints."""
        self.shards = shards
        self.fingerprint = fingerprint
        self.first_document = np.cumsum([0] + [len(s.token_offsets) - 1 for s in shards])

    @classmethod
    def open(cls, folder: Path, split: str, *, manifest: Mapping[str, Any] | None = None) -> Shards:
        """Open the `split` ("train" or "valid") of a DATA folder; raises DataError with the reason if it cannot.

        `manifest` is that of the folder, where it has been read already.
        """
        manifest = read_manifest(folder) if manifest is None else manifest
        if split not in manifest["splits"]:
            raise DataError(f"{folder} holds no {split} split; its splits are {', '.join(manifest['splits'])}")
        entries = manifest["splits"][split]["shards"]
        shards = [Shard.open(member(folder, entry["file"])) for entry in entries]
        for shard, entry in zip(shards, entries, strict=True):
            if len(shard.tokens) != entry["tokens"] or len(shard.token_offsets) - 1 != entry["documents"]:
                raise DataError(f"{folder / entry['file']} does not match manifest.json; prepare the data again")
        return cls(shards, fingerprint=manifest["fingerprint"])

    def check(self, vocab_size: int) -> None:
        """Read all of it, and raise DataError as `Shard.check` does; for splits whose checksums were not compared."""
        for number, shard in enumerate(self.shards):
            shard.check(vocab_size, name=f"shard {number} of the data")

    @property
    def document_count(self) -> int:
        """Number of documents."""
        return int(self.first_document[-1])

    @cached_property
    def token_count(self) -> int:
        """Number of tokens, special tokens not counted."""
        return sum(len(shard.tokens) for shard in self.shards)

    @cached_property
    def sentence_count(self) -> int:
        """Number of sentences."""
        return sum(len(shard.sentence_ends) for shard in self.shards)

    def locate(self, document: int) -> tuple[Shard, int]:
        """Return the shard of a document and its row there."""
        index = int(np.searchsorted(self.first_document, document, side="right")) - 1
        return self.shards[index], document - int(self.first_document[index])

    def tokens(self, document: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return token ids [start:stop] of a document, a view."""
        shard, row = self.locate(document)
        first, last = int(shard.token_offsets[row]), int(shard.token_offsets[row + 1])
        return shard.tokens[first + start : last if stop is None else min(first + stop, last)]

    def sentence_ends(self, document: int) -> np.ndarray:
        """Return the end of each sentence of a document, in tokens from its start, a view."""
        shard, row = self.locate(document)
        return shard.sentence_ends[shard.sentence_offsets[row] : shard.sentence_offsets[row + 1]]

    def word_starts(self, document: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return a bool for each token [start:stop] of a document: does a word start here?"""
        shard, row = self.locate(document)
        base = int(shard.token_offsets[row])
        length = int(shard.token_offsets[row + 1]) - base
        first, last = base + start, base + (length if stop is None else min(stop, length))
        bits = np.unpackbits(shard.word_start_bits[first // 8 : (last + 7) // 8], bitorder="little")
        return bits[first % 8 : first % 8 + last - first].astype(bool)

    def token_counts(self) -> Iterator[np.ndarray]:
        """Yield, shard by shard, the number of tokens of each document."""
        for shard in self.shards:
            yield np.diff(shard.token_offsets)


def check_shards(folder: Path, *, manifest: Mapping[str, Any] | None = None, rank: int = 0, processes: int = 1) -> int:
    """Read every shard of a DATA folder and compare it with its checksum; return the bytes read.

    Of several processes each reads about as many bytes as the others; `rank` is the number of this one, from 0. Several
    shards at a time. Raises DataError with the first that is not as it was written, and where the manifest has been
    edited: its fingerprint names the checksums it lists.
    """
    manifest = read_manifest(folder) if manifest is None else manifest
    digests = {name: [entry["sha256"] for entry in split["shards"]] for name, split in manifest["splits"].items()}
    if manifest["fingerprint"] != fingerprint_of(manifest["tokenizer"]["sha256"], digests):
        raise DataError(f"{folder / 'manifest.json'} was edited (its fingerprint is another); prepare the data again")
    entries = [entry for split in manifest["splits"].values() for entry in split["shards"]]
    mine = sorted(entries, key=lambda entry: -int(entry["bytes"]))[rank::processes]

    def check(entry: Mapping[str, Any]) -> int:
        path = member(folder, entry["file"])
        if not path.is_file() or sha256_of(path) != entry["sha256"]:
            raise DataError(
                f"{path} is missing or not as it was written (its SHA-256 is another); restore it from a copy, or "
                "prepare the data again"
            )
        Shard.open(path).check(manifest["tokenizer"]["vocab_size"], name=str(path))
        return int(entry["bytes"])

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), "checking") as threads:
        return sum(threads.map(check, mine))
