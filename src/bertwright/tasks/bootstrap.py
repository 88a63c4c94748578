"""Turns what two models have predicted of the same examples into how sure their difference is: a paired bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bertwright.log import count_progress
from bertwright.rng import stream

RESAMPLES = 9999
"""Times that examples are drawn again, as scipy's bootstrap draws them where nothing else is asked for."""
CONFIDENCE = 0.95
SHOWN_EVERY = 100
"""Resamples between two updates of the progress shown."""


@dataclass(frozen=True)
class Resampled:
    """Figures of a model on any choice of what is drawn as one: texts, sentences, questions or queries.

    units    how many there are
    figures  gives figures by name, for places [N] of units, some of them more than once
    """

    units: int
    figures: Callable[[np.ndarray], dict[str, float]]


@dataclass(frozen=True)
class Difference:
    """How much more a figure of one model is than that of another.

    value  the difference on all units    low, high  its 95% interval, by percentiles
    p      how probable a difference as large as this, or larger, in either direction is if there is none
    """

    value: float
    low: float
    high: float
    p: float


def means(values: Mapping[str, np.ndarray]) -> Resampled:
    """Return what is resampled where each figure is a mean over units [N].

    >>> means({"accuracy": np.array([1.0, 0.0, 1.0])}).figures(np.array([0, 0, 1]))
    {'accuracy': 0.6666666666666666}
    """
    units = len(next(iter(values.values())))
    return Resampled(units, lambda places: {name: float(value[places].mean()) for name, value in values.items()})


def paired_bootstrap(
    first: Resampled, second: Resampled, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Difference]:
    """Return how much larger each figure of the first model is than that of the second, by name.

    Both are drawn alike (Efron and Tibshirani, 1993, section 16; Berg-Kirkpatrick et al., 2012). The p is two-sided,
    twice the smaller fraction of draws at or beyond zero, one counted in addition.
    """
    if first.units != second.units:
        raise ValueError(f"{first.units} units cannot be paired with {second.units}")
    random, every = stream("bootstrap", seed), np.arange(first.units)
    ours, theirs = first.figures(every), second.figures(every)
    names = [name for name in ours if name in theirs]
    drawn = np.empty((resamples, len(names)))
    with count_progress("resamples", total=resamples) as done:
        for turn in range(resamples):
            places = random.integers(first.units, size=first.units)
            left, right = first.figures(places), second.figures(places)
            drawn[turn] = [left[name] - right[name] for name in names]
            if turn % SHOWN_EVERY == SHOWN_EVERY - 1:
                done(SHOWN_EVERY)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail), axis=0)
    beyond = np.minimum((drawn <= 0).sum(0), (drawn >= 0).sum(0))
    p = np.minimum(1.0, 2 * (beyond + 1) / (resamples + 1))
    return {
        name: Difference(ours[name] - theirs[name], float(low[place]), float(high[place]), float(p[place]))
        for place, name in enumerate(names)
    }
