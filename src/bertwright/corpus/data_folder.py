"""Turns a corpus that is being read into a whole DATA folder: shards, counts of neighbours, manifest and report.

manifest.json  report.json  tokenizer/  train-*.arrow  valid-*.arrow  neighbours.safetensors
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bertwright.corpus.cooccurrence import NEIGHBOURS, count_neighbours, write_neighbours
from bertwright.corpus.dedup.dedup_state import SEEN_FOLDER
from bertwright.corpus.executors.on_ray import ray_cluster
from bertwright.corpus.executors.processes import Workers, processes, threads
from bertwright.corpus.executors.work import TextWork
from bertwright.corpus.journal import JOURNAL, Journal
from bertwright.corpus.pipeline import ShardPipeline, Source
from bertwright.corpus.readers.remote import total_size
from bertwright.corpus.report import fingerprint_in
from bertwright.corpus.shards import Shard, Shards
from bertwright.files import remove, write_json
from bertwright.log import progress_bar

BUILTIN_FOLDER = ".builtin"
DATA_FILES = (
    "manifest.json", "report.json", "tokenizer", "train-*.arrow", "valid-*.arrow", NEIGHBOURS, JOURNAL, SEEN_FOLDER,
    BUILTIN_FOLDER,
)  # fmt: skip
"""What a DATA folder holds, whole or not."""


def write_shards(
    pipeline: ShardPipeline, work: TextWork, sources: list[Source], journal: Journal, *, workers: int, engine: str
) -> None:
    """Read all sources that are left and write their shards, with a bar on a terminal, by as many workers."""
    sizes = [total_size(source.paths) for source in sources]
    with journal.timed("shards"), _workers(work, workers, engine) as crew, progress_bar() as bar:
        task = bar.add_task("preparing", total=sum(sizes))
        pipeline.run(crew, lambda source, done: bar.update(task, completed=sum(sizes[:source]) + done))


def _workers(work: TextWork, count: int, engine: str) -> AbstractContextManager[Workers]:
    """Return whoever works."""
    if engine == "ray":
        return ray_cluster(work.plan)
    return threads(work) if count == 1 else processes(work.plan, count)


def write_counts(out: Path, journal: Journal) -> dict[str, Any]:
    """Write the table of neighbour counts of the shards, and return the manifest's entry for it."""
    began = perf_counter()
    files, fingerprint = [out / str(shard["file"]) for shard in journal.shards["train"]], fingerprint_in(journal)
    frequencies = np.array(journal.frequencies, dtype=np.int64)
    shards = Shards([Shard.open(file) for file in files], fingerprint=fingerprint)
    counts = count_neighbours(shards, len(frequencies), frequencies=frequencies)
    entry = write_neighbours(out, counts, fingerprint=fingerprint)
    journal.spent({"neighbours": perf_counter() - began})
    return entry


def finish(out: Path, journal: Journal, manifest: dict[str, Any], report: dict[str, Any]) -> None:
    """Write the report, remove what only the work needed, and write the manifest, which makes DATA whole.

    In this order a kill at any moment leaves either a preparation to go on with, or nothing but its journal too much.
    """
    write_json(out / "report.json", report)
    journal.memory = {}
    journal.save(out)
    for name in (SEEN_FOLDER, BUILTIN_FOLDER):
        remove(out / name)
    write_json(out / "manifest.json", manifest)
    remove(out / JOURNAL)
