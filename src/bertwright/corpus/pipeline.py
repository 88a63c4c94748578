"""Turns text files into the shards of a DATA folder, batch by batch: the loop of `bertwright prepare`.

    read -> clean -> hash  |  drop empty and duplicate -> split -> sentences  |  ids, word starts -> block
          one thread                   the calling thread                          another thread

and, when 64 MB of text have come together, all blocks into shards, and the journal.

Buffers are emptied into shards between batches, at places that depend on the text alone. So a preparation that was
interrupted, and goes on from its journal, writes the very bytes of one that was not.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.ahead import read_ahead, short_turns
from bertwright.corpus.clean import clean
from bertwright.corpus.dedup import SeenDocuments, hash_documents, held_out
from bertwright.corpus.encode import DocumentEncoder
from bertwright.corpus.inputs import Layout, ReadOptions
from bertwright.corpus.journal import SPLITS, Journal, Position
from bertwright.corpus.read import read_documents
from bertwright.corpus.remote import TextFile
from bertwright.corpus.shards import DocumentBlock, join_blocks, write_shard
from bertwright.errors import CorpusError
from bertwright.files import sha256_of

SHARD_TEXT = 1 << 26
"""Bytes of text a shard holds: some 15 million tokens of English, 20 million of Chinese."""
SEEN_FOLDER = ".seen"


@dataclass(frozen=True)
class Source:
    """Files that are read in one go: `held_out` is the share of their documents that goes to the valid split."""

    paths: list[TextFile]
    layout: Layout | None
    held_out: float


@dataclass(frozen=True)
class CleanBatch:
    """Cleaned documents [D] and their hashes [D], with the place reached in the source."""

    texts: pa.StringArray
    hashes: np.ndarray
    broken: int
    position: Position
    source_bytes_done: int
    seconds: float
    passed_over: int = 0


def clean_batches(sources: list[Source], options: ReadOptions, *, after: Position) -> Iterator[CleanBatch]:
    """Yield all documents of all sources, cleaned, starting after a position."""
    for number in range(after[0], len(sources)):
        source = sources[number]
        skip = after[1:] if number == after[0] else (0, 0)
        began = perf_counter()
        for batch in read_documents(source.paths, options, layout=source.layout, skip=skip):
            texts = clean(batch.texts)
            hashes = hash_documents(texts)
            position = (number, batch.file, batch.stop)
            yield CleanBatch(
                texts, hashes, batch.broken, position, batch.source_bytes_done, seconds=perf_counter() - began,
                passed_over=batch.passed_over,
            )  # fmt: skip
            began = perf_counter()


class ShardPipeline:
    """Carries documents from the sources to the shards in `out`, keeping `journal`."""

    def __init__(
        self, out: Path, journal: Journal, sources: list[Source], options: ReadOptions, *, encoder: DocumentEncoder,
        vocab_size: int, shard_text: int = SHARD_TEXT,
    ) -> None:  # fmt: skip
        """Take up the journal; nothing is read before `run`."""
        self._out, self._journal, self._sources, self._options = out, journal, sources, options
        self._encoder = encoder
        self._shard_text = shard_text
        self._seen = SeenDocuments(out / SEEN_FOLDER)
        self._frequencies = np.array(journal.frequencies or np.zeros(vocab_size), dtype=np.int64)
        self._blocks: dict[str, list[DocumentBlock]] = {split: [] for split in SPLITS}
        self._encoding: deque[tuple[str, int, Future[DocumentBlock]]] = deque()
        self._counts: Counter[str] = Counter()
        self._position = journal.position

    def run(self, advanced: Callable[[int, int], None]) -> None:
        """Read everything that is left; `advanced(source number, bytes of it read)` is called after each batch.

        Raises CorpusError where documents should be held out and there is only one.
        """
        self._catch_up()
        batches = read_ahead(clean_batches(self._sources, self._options, after=self._position))
        with short_turns(), ThreadPoolExecutor(1, "encoding") as encoding, closing(batches):
            for batch in batches:
                if self._counts["text_bytes"] >= self._shard_text:
                    self._close_shards()
                self._add(batch, encoding)
                advanced(batch.position[0], batch.source_bytes_done)
            self._collect(leave=0)
        if any(source.held_out for source in self._sources):
            self._hold_out_one()
        self._position = (len(self._sources), 0, 0)
        self._close_shards()

    def _catch_up(self) -> None:
        """Bring the hashes to the journal's position: after a kill between the two, they are one set of shards behind.

        Shards that were written but not yet in the journal are written again.
        """
        if len(self._seen) == self._journal.distinct:
            return
        for batch in clean_batches(self._sources, self._options, after=self._journal.before):
            if batch.position > self._journal.position:
                break
            self._seen.first_seen(batch.hashes[self._not_empty(batch.texts)])
        self._seen.commit()

    def _add(self, batch: CleanBatch, encoding: ThreadPoolExecutor) -> None:
        kept = self._not_empty(batch.texts)
        self._counts["empty"] += len(kept) - int(kept.sum())
        new = self._seen.first_seen(batch.hashes[kept])
        self._counts["duplicate"] += len(new) - int(new.sum())
        kept[kept] = new
        held = held_out(batch.hashes, self._sources[batch.position[0]].held_out)
        for split, chosen in (("train", kept & ~held), ("valid", kept & held)):
            if chosen.any():
                texts = batch.texts.filter(pa.array(chosen))
                self._counts["text_bytes"] += int(pc.sum(pc.binary_length(texts)).as_py())
                block = encoding.submit(self._encoder.encode, self._encoder.split(texts))
                self._encoding.append((split, len(texts), block))
        self._collect(leave=2)
        self._counts["broken"] += batch.broken
        self._counts["passed over"] += batch.passed_over
        self._position = batch.position
        self._journal.spent("reading and cleaning", batch.seconds)

    def _collect(self, *, leave: int) -> None:
        """Take the blocks that are encoded, in order, waiting until no more than `leave` are not."""
        while len(self._encoding) > leave:
            split, documents, encoded = self._encoding.popleft()
            block = encoded.result()
            self._counts["empty"] += documents - len(block.token_counts)
            if len(block.token_counts):
                self._blocks[split].append(block)

    def _close_shards(self) -> None:
        """Write what is buffered of each split as a shard, then the journal, then the hashes."""
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
        journal.counts += self._counts
        self._counts.clear()
        journal.frequencies = self._frequencies.tolist()
        journal.before, journal.position = journal.position, self._position
        journal.distinct = len(self._seen)
        for stage, seconds in self._encoder.seconds.items():
            journal.spent(stage, seconds)
        self._encoder.seconds = dict.fromkeys(self._encoder.seconds, 0.0)
        journal.spent("writing", perf_counter() - began)
        journal.save(self._out)
        self._seen.commit()

    def _write(self, split: str, block: DocumentBlock) -> dict[str, object]:
        file = f"{split}-{len(self._journal.shards[split]):05d}.arrow"
        write_shard(self._out / file, block)
        return {
            "file": file,
            "documents": len(block.token_counts),
            "sentences": len(block.sentence_ends),
            "words": int(block.word_starts.sum()),
            "tokens": len(block.tokens),
            "bytes": (self._out / file).stat().st_size,
            "sha256": sha256_of(self._out / file),
        }

    def _hold_out_one(self) -> None:
        """Hold out the last document of a corpus so small that its share of documents came to none."""
        train = self._blocks["train"]
        if self._journal.shards["valid"] or self._blocks["valid"] or not (train or self._journal.shards["train"]):
            return
        block = join_blocks(train) if train else None
        if block is None or (len(block.token_counts) == 1 and not self._journal.shards["train"]):
            raise CorpusError(
                "no document is left for the held-out split: this corpus is a single document; "
                "give --valid FILES, --held-out 0 to do without, or --documents blank or line if it holds several"
            )
        rest, last = cut_last_document(block)
        self._blocks["train"] = [rest] if len(rest.token_counts) else []
        self._blocks["valid"] = [last]

    @staticmethod
    def _not_empty(texts: pa.StringArray) -> np.ndarray:
        return np.asarray(pc.binary_length(texts).to_numpy(zero_copy_only=False) > 0)


def cut_last_document(block: DocumentBlock) -> tuple[DocumentBlock, DocumentBlock]:
    """Return a block without its last document, and a block of that document."""
    tokens = len(block.tokens) - int(block.token_counts[-1])
    sentences = len(block.sentence_ends) - int(block.sentence_counts[-1])
    cuts = (tokens, -1, sentences, -1, tokens)
    names = ("tokens", "token_counts", "sentence_ends", "sentence_counts", "word_starts")
    parts = [(getattr(block, name)[:cut], getattr(block, name)[cut:]) for name, cut in zip(names, cuts, strict=True)]
    return DocumentBlock(*(part[0] for part in parts)), DocumentBlock(*(part[1] for part in parts))
