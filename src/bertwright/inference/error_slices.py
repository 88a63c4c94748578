"""Turns the predictions of a task into where they are wrong: figures on slices of a file, each against all the rest.

Slices are by length in tokens, by label, and by the share of words that the vocabulary does not hold whole. How sure it
is that a slice is worse, the standard error of a bootstrap says (Efron and Tibshirani, 1993, sections 6 and 12).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertwright.log import count_progress
from bertwright.rng import stream
from bertwright.tasks.bootstrap import CONFIDENCE, Resampled
from bertwright.tasks.examples import BETWEEN, Examples
from bertwright.tokenizer.bulk import BulkEncoder
from bertwright.tokenizer.load import Tokenizer
from bertwright.tokenizer.word_starts import word_rule

FEWEST = 20
"""Examples of a slice, and of the rest, below which nothing is said of it."""
MOST_LABELS = 30
"""Labels that have a slice each, the commonest ones."""
RESAMPLES = 200
"""Times that the examples of a slice and of the rest are drawn again: enough for a standard error within 5%."""
SIGMAS = 1.96
"""Standard errors on either side of a difference that are its 95% interval."""
LENGTHS = 4
"""Slices by length, of about as many examples each."""
BROKEN = (0.0, 0.1, 0.25, 1.0)
"""Upper ends of the slices by share of words in pieces or unknown."""
LOWER_IS_BETTER = ("mean_squared_error", "loss")


@dataclass(frozen=True)
class Slice:
    """Some of the examples of a file: what they have in common, as `by` ("length") and `name` ("5 to 12 tokens")."""

    by: str
    name: str
    places: np.ndarray


def slices_of(examples: Examples, tokenizer: Tokenizer, labels: Sequence[str]) -> list[Slice]:
    """Return the slices of examples that have enough of them, and leave enough; `labels` are the names of classes."""
    keys = examples.keys()
    texts = [key.replace(BETWEEN, " ") for key in keys]
    lengths, broken = _tokens_and_broken(texts, tokenizer)
    found = [*_by_length(lengths), *_by_broken(broken), *_by_label(examples.classes(), labels)]
    return [one for one in found if FEWEST <= len(one.places) <= len(texts) - FEWEST]


def _tokens_and_broken(texts: list[str], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Return [N] the tokens of each text, and [N] the share of its words that are no single known token."""
    ids = BulkEncoder(tokenizer).encode(texts)
    owner = np.repeat(np.arange(len(texts)), ids.lengths)
    starts = word_rule(tokenizer).starts(ids)
    whole = starts & np.append(starts[1:], True) & (ids.values != tokenizer.special.unk)
    words = np.bincount(owner, weights=starts, minlength=len(texts))
    known = np.bincount(owner, weights=whole, minlength=len(texts))
    return ids.lengths, 1 - known / np.maximum(words, 1)


def _by_length(lengths: np.ndarray) -> list[Slice]:
    ends = np.unique(np.quantile(lengths, np.arange(1, LENGTHS + 1) / LENGTHS, method="inverted_cdf"))
    begins = [int(lengths.min()), *(int(end) + 1 for end in ends[:-1])]
    return [
        Slice("length", f"{begin} to {int(end)} tokens", np.flatnonzero((lengths >= begin) & (lengths <= end)))
        for begin, end in zip(begins, ends, strict=True)
    ]


def _by_broken(broken: np.ndarray) -> list[Slice]:
    slices, begin = [], -1.0
    for end in BROKEN:
        name = "none" if end == 0 else f"up to {end:.0%}" if end < 1 else f"over {begin:.0%}"
        slices.append(Slice("words in pieces or unknown", name, np.flatnonzero((broken > begin) & (broken <= end))))
        begin = end
    return slices


def _by_label(classes: np.ndarray | None, labels: Sequence[str]) -> list[Slice]:
    if classes is None:
        return []
    given = classes[:, None] == np.arange(len(labels)) if classes.ndim == 1 else classes > 0
    rows = [np.flatnonzero(column) for column in given.T]
    order = sorted(range(len(labels)), key=lambda number: -len(rows[number]))[:MOST_LABELS]
    return [Slice("label", labels[number], rows[number]) for number in order]


def compare_slices(
    resampled: Resampled, slices: Sequence[Slice], *, metric: str, seed: int = 0
) -> list[dict[str, Any]]:
    """Return for each slice its figure, and how much it differs from that of the rest.

    {"by", "slice", "examples", metric, "difference": of slice and rest, "low", "high": its 95% interval, "p": of a
    difference as large by chance, "worse": whether it is worse at 5%, with so many slices looked at (Holm, 1979)}.
    """
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    every = np.arange(resampled.units)
    found: list[dict[str, Any]] = []
    with count_progress("slices", total=len(slices)) as done:
        for number, one in enumerate(slices):
            rest = np.setdiff1d(every, one.places)
            value, other = (resampled.figures(places)[metric] for places in (one.places, rest))
            random = stream("slices", seed, number)
            draws = np.array([
                resampled.figures(random.choice(one.places, len(one.places)))[metric]
                - resampled.figures(random.choice(rest, len(rest)))[metric]
                for _ in range(RESAMPLES)
            ])  # fmt: skip
            difference, error = value - other, float(draws.std(ddof=1))
            p = math.erfc(abs(difference) / max(error, 1e-12) / math.sqrt(2))
            found.append(
                {
                    "by": one.by, "slice": one.name, "examples": len(one.places), metric: value,
                    "difference": difference, "low": difference - SIGMAS * error, "high": difference + SIGMAS * error,
                    "p": p,
                }
            )  # fmt: skip
            done(1)
    return [
        row | {"worse": sure and sign * row["difference"] < 0} for row, sure in zip(found, _holm(found), strict=True)
    ]


def _holm(found: Sequence[dict[str, Any]]) -> list[bool]:
    """Return which differences are there at 5%, all taken together: the smallest p first, each by those left."""
    order = sorted(range(len(found)), key=lambda number: found[number]["p"])
    sure = [False] * len(found)
    for rank, number in enumerate(order):
        if found[number]["p"] > (1 - CONFIDENCE) / (len(found) - rank):
            break
        sure[number] = True
    return sure
