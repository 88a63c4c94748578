"""Measures near-duplicate removal on real text with planted copies: recall, precision, speed, bytes a document.

    python benchmarks/near_duplicates.py TEXT... --megabytes 20 --copies 2000 --out near.json

Some documents get a copy with words replaced, dropped and put in at random, of similarities spread from 0.5 to 1, some
way after them. The truth is the share of common five-word sequences, counted with plain sets, of every document with
every earlier one: recall is over all documents that have an earlier one at the threshold or above, planted or not;
precision over all that were removed.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from bertwright.corpus.clean import clean
from bertwright.corpus.dedup.hashes import WORDS
from bertwright.corpus.dedup.near_duplicates import NearDuplicates, signatures
from bertwright.corpus.readers.documents import BATCH_BYTES, read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.inputs import find_inputs
from bertwright.device import machine
from bertwright.files import write_json

Shingle = tuple[str, ...]
ALONE = "\u3040-\u9fff\uac00-\ud7ff\uf900-\ufaff"
"""Characters that are words of their own."""


def main() -> None:
    """Plant, remove, count."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("text", nargs="+")
    words.add_argument("--megabytes", type=float, default=20)
    words.add_argument("--copies", type=int, default=2000)
    words.add_argument("--threshold", type=float, default=0.8)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--out", type=Path)
    options = words.parse_args()
    originals = read(options.text, options.megabytes * 1e6)
    texts, planted = plant(originals, options.copies, np.random.default_rng(options.seed))
    kept, seconds, busy, disk = remove(texts, options.threshold)
    similar = similarities(texts)
    figures = {
        "what": f"near-duplicates at {options.threshold} in {' '.join(options.text)}",
        "documents": len(texts),
        "text_bytes": sum(len(text.encode()) for text in texts),
        "planted": len(planted),
        **figures_of(similar, kept, planted, options.threshold),
        "megabytes_per_second": round(sum(len(text.encode()) for text in texts) / seconds / 1e6, 1),
        "megabytes_per_processor_second": round(sum(len(text.encode()) for text in texts) / busy / 1e6, 1),
        "disk_bytes_per_document": round(disk / len(texts), 1),
        "machine": machine(torch.device("cpu")),
    }
    for name, value in figures.items():
        print(f"{name:28} {value}")
    if options.out:
        write_json(options.out, figures)


def read(names: list[str], size: float) -> list[str]:
    """Return different clean documents, some `size` bytes together."""
    texts: dict[str, None] = {}
    batches = islice(
        read_documents(find_inputs(names).files, ReadOptions(), layout="blank"), max(1, int(size / BATCH_BYTES))
    )
    for batch in batches:
        texts.update(dict.fromkeys(text for text in clean(batch.texts).to_pylist() if text))
    return list(texts)


def plant(originals: list[str], copies: int, draw: np.random.Generator) -> tuple[list[str], set[int]]:
    """Return the documents with edited copies among them, each after its original, and the places of the copies."""
    picked = draw.choice(len(originals), size=min(copies, len(originals)), replace=False)
    places = [(float(place), False, originals[place]) for place in range(len(originals))]
    for place in picked.tolist():
        share = draw.uniform(0, 0.09)  # a changed word spoils up to five shingles on both sides: 0.09 leaves about 0.5
        places.append((float(draw.uniform(place, len(originals))), True, edited(originals[place], share, draw)))
    places.sort(key=lambda item: item[0])
    return [text for _, _, text in places], {number for number, item in enumerate(places) if item[1]}


def edited(text: str, share: float, draw: np.random.Generator) -> str:
    """Return a text with a share of its words (characters, without blanks) replaced, dropped or followed by another."""
    blank = " " if text.count(" ") > len(text) / 20 else ""
    words = text.split(blank) if blank else list(text)
    changed = draw.choice(len(words), size=min(len(words), int(np.ceil(share * len(words)))), replace=False)
    for place, kind, other in zip(changed, draw.integers(3, size=len(changed)), changed[::-1], strict=True):
        words[place] = (words[other], "", f"{words[place]}{blank}{words[other]}")[kind]
    return blank.join(words)


def remove(texts: list[str], threshold: float) -> tuple[np.ndarray, float, float, int]:
    """Return which documents stay, seconds of wall and of processor time that took, and the bytes left on disk."""
    kept = []
    with tempfile.TemporaryDirectory() as scratch:
        near = NearDuplicates(Path(scratch) / "seen" / "near", {}, threshold)
        batches = [pa.array(texts[start : start + 500]) for start in range(0, len(texts), 500)]
        began, busy = time.perf_counter(), time.process_time()
        for batch in batches:
            kept.append(near.find_new(signatures(batch, threshold)))
        near.save()
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        disk = sum(file.stat().st_size for file in Path(scratch).rglob("*") if file.is_file())
    return np.concatenate(kept), seconds, busy, disk


def similarities(texts: list[str]) -> np.ndarray:
    """Return how similar the most similar earlier document of each is in truth, [D] float64."""
    holders: dict[Shingle, list[int]] = defaultdict(list)
    sizes, best = [], np.zeros(len(texts))
    for number, text in enumerate(texts):
        own = plain_shingles(text)
        common = Counter(other for shingle in own for other in holders[shingle])
        best[number] = max((count / (len(own) + sizes[other] - count) for other, count in common.items()), default=0.0)
        sizes.append(len(own))
        for shingle in own:
            holders[shingle].append(number)
    return best


def plain_shingles(text: str) -> set[Shingle]:
    """Return the five-word sequences of a text, told by a regular expression."""
    words = re.findall(f"[{ALONE}]|[^\\W_{ALONE}]+", text.lower())
    return {tuple(words[i : i + WORDS]) for i in range(max(len(words) - WORDS + 1, min(len(words), 1)))}


def figures_of(similar: np.ndarray, kept: np.ndarray, planted: set[int], threshold: float) -> dict[str, Any]:
    """Return recall and precision."""
    near, copies = similar >= threshold, np.isin(np.arange(len(similar)), list(planted))
    spread = np.histogram(similar[copies], bins=[0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0001])[0].tolist()
    return {
        "planted_by_similarity": dict(zip(("<.5", ".5-", ".6-", ".7-", ".8-", ".9-1"), spread, strict=True)),
        "near_in_truth": int(near.sum()),
        "removed": int((~kept).sum()),
        "recall": round(float((near & ~kept).sum() / near.sum()), 4),
        "recall_of_planted": round(float((near & copies & ~kept).sum() / (near & copies).sum()), 4),
        "precision": round(float((near & ~kept).sum() / (~kept).sum()), 4),
        "lowest_similarity_removed": round(float(similar[~kept].min()), 4),
    }


if __name__ == "__main__":
    main()
