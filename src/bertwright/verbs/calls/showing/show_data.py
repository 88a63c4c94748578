"""Turns a DATA folder or a shard of it into its counts and its documents, a sentence a line, words apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bertwright.corpus.manifest import read_manifest
from bertwright.corpus.shards import Shard, Shards
from bertwright.errors import DataError, UsageError
from bertwright.files import human_bytes
from bertwright.log import Block, Lines, ResultTable
from bertwright.reports.text import sentence_text
from bertwright.result import Result
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

FIRST_DOCUMENTS = 3
FIRST_SENTENCES = 6


def show_data(data: Path, split: str, *, document: int | None) -> Result:
    """Return what a DATA folder holds, split by split, and documents of one split: the first few, or one whole."""
    manifest = read_manifest(data)
    names = ("documents", "sentences", "words", "tokens")
    sizes = {name: sum(shard["bytes"] for shard in figures["shards"]) for name, figures in manifest["splits"].items()}
    rows = [
        [name, *(f"{figures[count]:,}" for count in names), human_bytes(sizes[name])]
        for name, figures in manifest["splits"].items()
    ]
    tokenizer = manifest["tokenizer"]
    title = f"{data}: {manifest['language']}, {tokenizer['kind']} of {tokenizer['vocab_size']:,} tokens"
    shown = _documents(Shards.open(data, split), load_tokenizer(data), title=f"{data}, {split}", document=document)
    counts = {
        name: {**{count: figures[count] for count in names}, "bytes": sizes[name]}
        for name, figures in manifest["splits"].items()
    }
    figures = {"kind": "data", "language": manifest["language"], "tokenizer": tokenizer, "splits": counts, **shown}
    return Result(figures, ResultTable(title, ["split", *names, "size"], rows), *shown.blocks)


def show_shard(shard: Path, *, document: int | None) -> Result:
    """Return documents of a shard: the first few, or one whole."""
    shards, tokenizer = Shards([Shard.open(shard)], fingerprint=""), load_tokenizer(shard.parent)
    shards.check(tokenizer.vocab_size)
    shown = _documents(shards, tokenizer, title=str(shard), document=document)
    return Result({"kind": "shard", **shown}, *shown.blocks)


def _documents(shards: Shards, tokenizer: Tokenizer, *, title: str, document: int | None) -> Result:
    """Return document number `document` whole, or the beginnings of the first few."""
    count = shards.document_count
    if document is not None and not 0 <= document < count:
        raise UsageError(f"{title} holds documents 0 to {count - 1:,}, not {document:,}")
    numbers = range(min(FIRST_DOCUMENTS, count)) if document is None else [document]
    documents = [
        _document(shards, tokenizer, number, most=FIRST_SENTENCES if document is None else None) for number in numbers
    ]
    return Result({"documents": documents}, *(block for one in documents for block in one.blocks))


def _document(shards: Shards, tokenizer: Tokenizer, number: int, *, most: int | None) -> Result:
    """Return one document, at most the first `most` sentences of it."""
    ends = shards.sentence_ends(number).astype(np.int64)
    ids, words = shards.tokens(number), shards.word_starts(number)
    if ids.max() >= tokenizer.vocab_size:
        raise DataError(
            f"document {number} has token {ids.max()}, and {tokenizer.path} has {tokenizer.vocab_size}; "
            "this is not the tokenizer it was encoded with"
        )
    starts = np.concatenate([[0], ends[:-1]])
    sentences = [
        sentence_text(tokenizer.tokens, ids[start:end], words[start:end])
        for start, end in zip(starts[:most], ends[:most], strict=True)
    ]
    figures: dict[str, Any] = {
        "document": number, "sentence_count": len(ends), "words": int(words.sum()), "tokens": len(ids),
        "sentences": sentences,
    }  # fmt: skip
    counts = f"{len(ends):,} sentences, {figures['words']:,} words, {len(ids):,} tokens"
    blocks: list[Block] = [
        Lines([f"\ndocument {number}: {counts}"], style="bold"),
        Lines([f"{place:>5}  {sentence}" for place, sentence in enumerate(sentences)]),
    ]
    if len(ends) > len(sentences):
        blocks.append(Lines([f"       ... {len(ends) - len(sentences):,} more; all of it: --document {number}"]))
    return Result(figures, *blocks)
