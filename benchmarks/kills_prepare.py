"""Kills `bertwright prepare` at random moments, starts it again each time, and compares DATA with one never killed.

    python benchmarks/kills_prepare.py TEXT... --kills 20 --megabytes 20 --workers 2 --out kills.json

Every stage that remembers documents is on. Each kill comes a random part of a second or so after a random number of
shards were written, so that all of the work is hit: the vocabulary, reading, shards, journal, merging. The script
ends with exit code 1 where any byte of DATA differs (report.json holds seconds and is left out).
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertwright.corpus.readers.documents import read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.inputs import find_inputs
from bertwright.device import machine
from bertwright.files import write_json

PREPARE = """
import sys
from pathlib import Path
from bertwright.corpus.readers import documents
from bertwright.verbs.prepare import prepare
if __name__ == "__main__":
    documents.BATCH_BYTES = {batch}
    prepare(
        [{text!r}], Path(sys.argv[1]), vocab_size=2048, near_duplicates=0.8, repeated_paragraphs=10, filter=["web"],
        valid_fraction=0.05, shard_text={shard}, workers={workers},
    )
"""


def main() -> None:
    """Prepare undisturbed, then with kills, then compare."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("text", nargs="+")
    words.add_argument("--kills", type=int, default=20)
    words.add_argument("--megabytes", type=float, default=20)
    words.add_argument("--workers", type=int, default=1)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--out", type=Path)
    options = words.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        size = write_text(folder / "text.txt", options.text, options.megabytes * 1e6)
        program = folder / "program.py"
        settings = {"batch": size // 80, "shard": size // 20, "workers": options.workers}
        program.write_text(PREPARE.format(text=str(folder / "text.txt"), **settings))
        figures = killed_often(program, folder, kills=options.kills, seed=options.seed)
    figures = {"text_bytes": size, "workers": options.workers, **figures, "machine": machine(torch.device("cpu"))}
    for name, value in figures.items():
        print(f"{name:24} {value}")
    if options.out:
        write_json(options.out, figures)
    sys.exit(0 if figures["identical"] else 1)


def write_text(path: Path, names: Sequence[str], size: float) -> int:
    """Write about `size` bytes of documents, a tenth of them twice, between blank lines; return the bytes written."""
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for batch in read_documents(find_inputs(names).files, ReadOptions(), layout="blank"):
            for number, text in enumerate(batch.texts.to_pylist()):
                one_line = " ".join(text.split())
                for _ in range(2 if number % 10 == 0 else 1):
                    written += file.write(f"{one_line}\n\n")
                if written >= size:
                    return path.stat().st_size
    return path.stat().st_size


def killed_often(program: Path, folder: Path, *, kills: int, seed: int) -> dict[str, Any]:
    """Return what came of one undisturbed and one often killed preparation.

    A run that ends before its kill counts as none; the command is given once more at the end, whatever came before.
    """
    began = time.perf_counter()
    subprocess.run([sys.executable, str(program), str(folder / "whole")], check=True, capture_output=True)
    whole, draw, done = time.perf_counter() - began, np.random.default_rng(seed), 0
    count = len(list((folder / "whole").glob("train-*.arrow")))
    targets, found = np.sort(draw.integers(0, max(1, count - 3), size=kills)).tolist(), list[int]()
    for target in targets:
        process = subprocess.Popen(
            [sys.executable, str(program), str(folder / "killed")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and shards_in(folder / "killed") < target:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 2 * whole / count))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            done += 1
        process.wait()
        found.append(shards_in(folder / "killed"))
    subprocess.run([sys.executable, str(program), str(folder / "killed")], check=False, capture_output=True)
    whole_files, killed_files = digests(folder / "whole"), digests(folder / "killed")
    names = sorted(whole_files.keys() | killed_files.keys())
    differing = [name for name in names if whole_files.get(name) != killed_files.get(name)]
    return {
        "seconds_undisturbed": round(whole, 1),
        "kills": done,
        "shards_after_each_kill": found,
        "shards": count,
        "identical": not differing,
        "differing": differing,
    }


def shards_in(folder: Path) -> int:
    """Return how many shards of the train split there are."""
    return len(list(folder.glob("train-*.arrow")))


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a DATA folder but report.json."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "report.json"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main()
