"""Repeated paragraphs: what a plain count of a plain reading leaves, whatever the batches, over restarts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bertwright.corpus.dedup.paragraphs import ENDS, SeenParagraphs
from bertwright.corpus.filters.counts import DropCounts
from bertwright.corpus.sentences import Newlines


def _plain(texts: list[str], most: int, end: str) -> tuple[list[str], int]:
    seen, left, removed = Counter[str](), [], 0
    for text in texts:
        kept = []
        for paragraph in text.split(end):
            seen[paragraph] += bool(paragraph)
            if seen[paragraph] <= most:
                kept.append(paragraph)
            else:
                removed += 1
        left.append(end.join(kept).strip("\n"))
    return left, removed


@pytest.mark.parametrize("newline", ["paragraph", "wrapped"])
def test_what_a_plain_count_leaves(tmp_path: Path, newline: Newlines) -> None:
    draw, end = np.random.default_rng(0), ENDS[newline]
    paragraphs = [f"Paragraph number {i}." for i in range(400)]
    shares = np.geomspace(1, 0.01, 400)
    texts = [end.join(draw.choice(paragraphs, size=int(n), p=shares / shares.sum())) for n in draw.integers(1, 9, 500)]
    expected, removed = _plain(texts, 3, end)
    dropped, left = DropCounts(), []
    saved: dict[str, int] = {}
    for start in range(0, len(texts), 120):
        batch = pa.array(["before", *texts])[1 + start : 1 + start + 120]
        lost = SeenParagraphs(tmp_path / "seen" / "it", saved, most=3, newline=newline)
        lost.without_repeated(batch)
        seen = SeenParagraphs(tmp_path / "seen" / "it", saved, most=3, newline=newline)
        kept, more = seen.without_repeated(batch)
        left += kept.to_pylist()
        dropped += more
        saved = seen.save()
        seen.forget_previous()
    assert left == expected
    assert dropped.counts["repeated_paragraph"] == removed > 100
    assert dropped.examples["repeated_paragraph"].startswith("Paragraph number")
    assert "" in left


def test_blank_lines_stay_one(tmp_path: Path) -> None:
    seen = SeenParagraphs(tmp_path / "seen" / "it", {}, most=1, newline="paragraph")
    texts = pa.array(["A\n\nMenu\n\nB", "C\n\nMenu\n\nD", "Menu\n\nE\n\nF"])
    assert seen.without_repeated(texts)[0].to_pylist() == ["A\n\nMenu\n\nB", "C\n\nD", "E\n\nF"]
    assert seen.without_repeated(texts[:0])[0].to_pylist() == []
