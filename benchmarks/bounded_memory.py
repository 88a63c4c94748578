"""Prepares a stream of text of any size that is made while it is read, and tells peak memory over bytes read.

    python benchmarks/bounded_memory.py TEXT... --gigabytes 20 --scratch FOLDER --out memory.json

Documents are sentences of TEXT put together at random: one in ten is a copy of another, one in ten a near copy, and
each ends with one of a few notices. Everything that remembers documents is on. Shards are removed once their digest
is taken, so the disk holds what is remembered alone: some 4.4 kB a document at most; the script says so before it
starts, and stops where that does not fit.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from bertwright.corpus import pipeline
from bertwright.corpus.clean import clean
from bertwright.corpus.readers.documents import BATCH_BYTES, read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.inputs import find_inputs
from bertwright.corpus.readers.rows import TextBatch
from bertwright.corpus.sentences import split_sentences
from bertwright.corpus.shards import DocumentBlock, write_shard
from bertwright.device import machine
from bertwright.files import human_bytes, require_space, write_json
from bertwright.log import note
from bertwright.rng import stream
from bertwright.verbs.prepare import prepare

SAMPLE_BYTES = 16 << 20
DOCUMENT_SENTENCES = 30
DOCUMENT_BYTES = 4_000
"""About what 30 sentences of English take."""
REMEMBERED = 4_400
"""Bytes of disk a document takes at most while all stages are on."""


class Synthetic:
    """A stream of batches of documents, each from its number alone; it notes peak memory as it goes."""

    def __init__(self, sentences: list[str], size: int) -> None:
        """Take the sentences to put together, and how many bytes to make."""
        self._sentences, self._size = sentences, size
        self.rows: list[dict[str, Any]] = []
        self._began = time.perf_counter()

    def read(self, *_: Any, skip: tuple[int, int] = (0, 0), **__: Any) -> Iterator[TextBatch]:
        """Yield the batches, as `read_documents` would."""
        made, given = 0, 0
        for number in range(skip[1], -(-self._size // BATCH_BYTES)):
            texts = self._batch(number)
            made += texts.nbytes
            yield TextBatch(texts, 0, stop=number + 1)
            if made >= given:
                self.rows.append(self._measured(made))
                given += max(self._size // 20, BATCH_BYTES)

    def _batch(self, number: int) -> pa.StringArray:
        random = stream("bounded memory", number)
        count = BATCH_BYTES // DOCUMENT_BYTES
        picked = random.integers(len(self._sentences), size=(count, DOCUMENT_SENTENCES))
        documents = [[self._sentences[index] for index in row] for row in picked.tolist()]
        copies = random.integers(count, size=count // 10).tolist()
        near = [[*documents[place][:-1], self._sentences[place]] for place in random.integers(count, size=count // 10)]
        documents += [documents[place] for place in copies] + near
        return pa.array([f"{' '.join(own)}\nNotice number {len(own[0]) % 7}." for own in documents])

    def _measured(self, made: int) -> dict[str, Any]:
        status = Path("/proc/self/status").read_text().split("\n")
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in status if line.startswith("Rss")}
        return {
            "bytes_read": made,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "private_bytes": kilobytes["RssAnon"] * 1024,
            "megabytes_per_second": round(made / (time.perf_counter() - self._began) / 1e6, 1),
        }


def write_and_remove(path: Path, block: DocumentBlock) -> None:
    """Write a shard, and leave of the one before it nothing but an empty file."""
    write_shard(path, block)
    for other in path.parent.glob("*.arrow"):
        if other != path:
            other.write_bytes(b"")


def main() -> None:
    """Make the sample, prepare the stream, tell the figures."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("text", nargs="+")
    words.add_argument("--gigabytes", type=float, default=20)
    words.add_argument("--scratch", type=Path)
    words.add_argument("--workers", type=int, default=1)
    words.add_argument("--out", type=Path)
    options = words.parse_args()
    size = int(options.gigabytes * 1e9)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        needed = size // DOCUMENT_BYTES * REMEMBERED
        require_space(Path(scratch), needed, what="remembering this stream")
        note(f"a stream of {human_bytes(size)}; at most {human_bytes(needed)} of disk")
        sample = Path(scratch) / "sample.jsonl"
        texts = sample_of(options.text)
        sample.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        made = Synthetic(split_sentences(texts, "en")[0], size)
        pipeline.read_documents = made.read  # type: ignore[assignment]
        pipeline.write_shard = write_and_remove
        report = prepare(
            [sample], Path(scratch) / "data", vocab_size=8192, near_duplicates=0.8, repeated_paragraphs=10,
            filter=["web"], workers=options.workers,
        )  # fmt: skip
    print(f"{'read':>12} {'peak memory':>12} {'of it private now':>18} {'MB/s':>8}")
    for row in made.rows:
        shown = (human_bytes(row["bytes_read"]), human_bytes(row["peak_bytes"]), human_bytes(row["private_bytes"]))
        print(f"{shown[0]:>12} {shown[1]:>12} {shown[2]:>18} {row['megabytes_per_second']:>8}")
    figures = {"what": "prepare of a stream", "dropped": report["dropped"], "seconds": report["seconds"]}
    if options.out:
        write_json(options.out, {**figures, "rows": made.rows, "machine": machine(torch.device("cpu"))})


def sample_of(names: list[str]) -> list[str]:
    """Return clean documents, some 16 MB together."""
    batches = islice(
        read_documents(find_inputs(names).files, ReadOptions(), layout="blank"), SAMPLE_BYTES // BATCH_BYTES
    )
    return [text for batch in batches for text in clean(batch.texts).to_pylist() if text]


if __name__ == "__main__":
    main()
