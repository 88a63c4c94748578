"""Turns text files into the shards of a DATA folder, batch by batch: the loop of `bertwright prepare`.

    read  ->  clean, hash  ->  drop empty, duplicate, nearly duplicate  ->  split, encode  ->  shards, journal
    thread      workers                calling thread                          workers         calling thread

Shards are written when 64 MB of text have come together, between batches, at places that depend on the text alone. So
a preparation that was interrupted, and goes on from its journal, writes the very bytes of one that was not; and so
does one with other workers.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.dedup.dedup_state import DedupState
from bertwright.corpus.dedup.hashes import valid_documents
from bertwright.corpus.executors.processes import Workers, in_order, read_ahead
from bertwright.corpus.executors.work import CleanTexts, EncodedTexts
from bertwright.corpus.filters.counts import DropCounts
from bertwright.corpus.journal import Journal, Position
from bertwright.corpus.manifest import SPLITS
from bertwright.corpus.readers.documents import read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.layouts import Layout
from bertwright.corpus.readers.remote import TextFile
from bertwright.corpus.readers.rows import TextBatch
from bertwright.corpus.shards import DocumentBlock, join_blocks, write_shard
from bertwright.errors import CorpusError
from bertwright.files import sha256_of


@dataclass(frozen=True)
class Source:
    """Files that are read in one go, and the fraction of their documents that goes to the valid split."""

    paths: list[TextFile]
    layout: Layout | None
    valid_fraction: float


def raw_batches(sources: list[Source], options: ReadOptions, *, after: Position) -> Iterator[TextBatch]:
    """Yield all documents of all sources, starting after a position."""
    for number in range(after[0], len(sources)):
        source = sources[number]
        skip = after[1:] if number == after[0] else (0, 0)
        began = perf_counter()
        for batch in read_documents(source.paths, options, layout=source.layout, skip=skip):
            yield replace(batch, source=number, seconds=perf_counter() - began)
            began = perf_counter()


class ShardPipeline:
    """Carries documents from the sources to the shards in `out`, keeping the journal and the state of duplicates."""

    def __init__(
        self, out: Path, journal: Journal, sources: list[Source], options: ReadOptions, *, seen: DedupState,
        vocab_size: int, shard_text: int,
    ) -> None:  # fmt: skip
        """Take up the journal; nothing is read before `run`."""
        self._out, self._journal, self._sources, self._options = out, journal, sources, options
        self._seen, self._shard_text = seen, shard_text
        self._frequencies = np.array(journal.frequencies or np.zeros(vocab_size), dtype=np.int64)
        self._blocks: dict[str, list[DocumentBlock]] = {split: [] for split in SPLITS}
        self._encoding: deque[tuple[str, int, Future[EncodedTexts]]] = deque()
        self._bytes_of: Counter[str] = Counter()
        self._dropped = DropCounts(examples=dict(journal.examples))
        self._text_bytes = 0
        self._position = journal.position

    def run(self, workers: Workers, advanced: Callable[[int, int], None]) -> None:
        """Read everything that is left; `advanced(source number, bytes of it read)` is called after each batch.

        Raises CorpusError where documents should go to the valid split and there is only one.
        """
        raw = read_ahead(raw_batches(self._sources, self._options, after=self._position))
        with closing(raw):
            cleaned = in_order(raw, lambda batch: workers.submit("clean", batch.texts), ahead=workers.ahead)
            for batch, clean in cleaned:
                if self._text_bytes >= self._shard_text:
                    self._close_shards()
                self._add(batch, clean, workers)
                self._collect(leave=workers.ahead)
                advanced(batch.source, batch.source_bytes_done)
            self._collect(leave=0)
        if any(source.valid_fraction for source in self._sources):
            self._hold_out_one()
        self._position = (len(self._sources), 0, 0)
        self._close_shards()

    def _add(self, batch: TextBatch, clean: CleanTexts, workers: Workers) -> None:
        """Start encoding the documents that stay."""
        with self._journal.timed("repetitions"):
            texts, kept, repeated = self._seen.new(clean)
        valid = valid_documents(clean.hashes, self._sources[batch.source].valid_fraction)
        for split, chosen in (("train", kept & ~valid), ("valid", kept & valid)):
            if chosen.any():
                some = texts.filter(pa.array(chosen))
                size = int(pc.sum(pc.binary_length(some)).as_py())
                self._text_bytes += size
                self._encoding.append((split, size, workers.submit("encode", some)))
        unread = DropCounts(Counter({"broken": batch.broken, "passed over": batch.passed_over}))
        self._dropped += clean.dropped + repeated + unread
        self._position = (batch.source, batch.file, batch.stop)
        self._journal.spent({"reading": batch.seconds, **clean.seconds})

    def _collect(self, *, leave: int) -> None:
        """Take the blocks that are encoded, in order, waiting until no more than `leave` are not."""
        while len(self._encoding) > leave:
            split, size, encoded = self._encoding.popleft()
            result = encoded.result()
            self._journal.spent(result.seconds)
            self._dropped += DropCounts(Counter(empty=result.documents - len(result.block.token_counts)))
            if len(result.block.token_counts):
                self._blocks[split].append(result.block)
                self._bytes_of[split] += size

    def _close_shards(self) -> None:
        """Write what is buffered of each split as a shard, then what is remembered, then the journal that names all."""
        self._collect(leave=0)
        began = perf_counter()
        journal = self._journal
        for split, blocks in self._blocks.items():
            if blocks:
                block = join_blocks(blocks)
                blocks.clear()
                journal.shards[split].append(self._write(split, block))
                if split == "train":
                    self._frequencies += np.bincount(block.tokens, minlength=len(self._frequencies))
        journal.counts += self._dropped.counts + Counter(text_bytes=self._text_bytes)
        journal.examples = self._dropped.examples
        self._dropped, self._text_bytes = DropCounts(examples=journal.examples), 0
        journal.frequencies = self._frequencies.tolist()
        journal.position = self._position
        journal.memory = self._seen.save()
        journal.spent({"writing": perf_counter() - began})
        journal.save(self._out)
        self._seen.forget_previous()

    def _write(self, split: str, block: DocumentBlock) -> dict[str, object]:
        file = f"{split}-{len(self._journal.shards[split]):05d}.arrow"
        write_shard(self._out / file, block)
        return {
            "file": file,
            "documents": len(block.token_counts),
            "sentences": len(block.sentence_ends),
            "words": int(block.word_starts.sum()),
            "tokens": len(block.tokens),
            "text_bytes": self._bytes_of.pop(split, 0),
            "bytes": (self._out / file).stat().st_size,
            "sha256": sha256_of(self._out / file),
        }

    def _hold_out_one(self) -> None:
        """Hold out the last document of a corpus so small that its fraction of documents came to none."""
        train = self._blocks["train"]
        if self._journal.shards["valid"] or self._blocks["valid"] or not (train or self._journal.shards["train"]):
            return
        block = join_blocks(train) if train else None
        if block is None or (len(block.token_counts) == 1 and not self._journal.shards["train"]):
            raise CorpusError(
                "no document is left for the held-out split: this corpus is a single document; "
                "give --valid FILES, --valid-fraction 0 to do without, or --document-boundary blank or line if it has "
                "several"
            )
        rest, last = cut_last_document(block)
        self._blocks["train"] = [rest] if len(rest.token_counts) else []
        self._blocks["valid"] = [last]
        held_out = self._bytes_of["train"] * len(last.tokens) // len(block.tokens)
        self._bytes_of.update({"train": -held_out, "valid": held_out})


def cut_last_document(block: DocumentBlock) -> tuple[DocumentBlock, DocumentBlock]:
    """Return a block without its last document, and a block of that document."""
    tokens = len(block.tokens) - int(block.token_counts[-1])
    sentences = len(block.sentence_ends) - int(block.sentence_counts[-1])
    cuts = (tokens, -1, sentences, -1, tokens)
    names = ("tokens", "token_counts", "sentence_ends", "sentence_counts", "word_starts")
    parts = [(getattr(block, name)[:cut], getattr(block, name)[cut:]) for name, cut in zip(names, cuts, strict=True)]
    return DocumentBlock(*(part[0] for part in parts)), DocumentBlock(*(part[1] for part in parts))
