"""Turns the ends of finished runs into a law of loss by model size and tokens, with an interval for runs to come.

    loss(N, D) = floor + a / N^alpha + b / D^beta      (Hoffmann et al., 2022, "Training Compute-Optimal Large Language
                                                        Models", equation 2; fitted as in its appendix D.3)

N is the weights outside the vocabulary, D the tokens trained on. Fitted on runs of one kind: one language, one recipe,
each with its learning rate decayed to the end. Outside the sizes and tokens of those runs it is a guess.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.special import logsumexp, softmax
from scipy.stats import t as student

from bertwright.errors import DataError

HUBER = 1e-2
"""Error of the log of a loss from which a run counts linearly, as an outlier; seeds alone move it by half as much."""
STARTS = tuple(product((-1.0,), (0.1, 0.4), (0.0,), (0.1, 0.4), (0.5, 0.9)))
"""Where fits start from, of (log a, alpha, log b, beta, log floor), sizes and tokens in units of their means."""
LOWER, UPPER = np.array([-9.0, 0.01, -9.0, 0.01, 0.0]), np.array([6.0, 3.0, 6.0, 3.0, 3.0])
"""What the numbers may be. The floor is a nat or more: short runs say little of it, and without a bound they put it at
nothing; the best encoders of BERT's kind end at 1.3 nats a masked token (perplexity 3.7 in table 3 of Liu et al., 2019,
"RoBERTa")."""
FEWEST = 6
"""Runs that the five numbers of a law are fitted on, at least."""
MOST_STEPS = 300
"""Evaluations of the law that one fit takes at most."""


@dataclass(frozen=True)
class Runs:
    """The ends of R finished runs.

    sizes   [R] float64  weights outside the vocabulary
    tokens  [R] float64  tokens trained on
    losses  [R] float64  held-out loss
    """

    sizes: np.ndarray
    tokens: np.ndarray
    losses: np.ndarray

    def __len__(self) -> int:
        """Return R."""
        return len(self.losses)


@dataclass(frozen=True)
class Law:
    """A fitted law and the runs behind it.

    numbers    [5]    log a, alpha, log b, beta, log floor; sizes and tokens in units of `units`
    residuals  [R]    log of a run's loss less that of the law's
    slopes     [R, 5] of the law's log at the runs, by each of the numbers
    """

    runs: Runs
    units: tuple[float, float]
    numbers: np.ndarray
    residuals: np.ndarray
    slopes: np.ndarray

    def loss(self, size: float, tokens: float) -> float:
        """Return the loss expected of a run."""
        return float(np.exp(_log_loss(self.numbers, *self._scaled(size, tokens)))[0])

    def interval(self, size: float, tokens: float, *, level: float = 0.9) -> tuple[float, float]:
        """Return where the loss of a run ends with probability `level`: the law's doubt, and what runs differ by.

        The interval of nonlinear regression, from the law's slopes (Bates and Watts, 1988, section 2.3.2).
        """
        freedom = len(self.runs) - len(self.numbers)
        spread = float(np.sqrt((self.residuals**2).sum() / freedom))
        slope = _slopes(self.numbers, *self._scaled(size, tokens))[0]
        doubt = float(slope @ np.linalg.pinv(self.slopes.T @ self.slopes, rcond=1e-9) @ slope)
        width = float(student.ppf((1 + level) / 2, freedom)) * spread * np.sqrt(1 + doubt)
        centre = self.loss(size, tokens)
        return float(centre * np.exp(-width)), float(centre * np.exp(width))

    def known(self, size: float, tokens: float) -> bool:
        """Say whether a run lies within the sizes and tokens the law was fitted on."""
        runs = self.runs
        return bool(
            runs.sizes.min() <= size <= runs.sizes.max() and runs.tokens.min() <= tokens <= runs.tokens.max()
        )  # fmt: skip

    def _scaled(self, size: float, tokens: float) -> tuple[np.ndarray, np.ndarray]:
        return np.array([size / self.units[0]]), np.array([tokens / self.units[1]])


def read_runs(files: Iterable[Path], *, language: str, loss: str = "mlm_loss") -> Runs:
    """Return the finished runs in files of JSON lines, a run a line, that are of one language.

    A line has language, body_parameters, tokens and `loss`; one that says `held_back` is left out. Raises DataError
    where a line lacks one.
    """
    rows: list[tuple[float, float, float]] = []
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                found: Mapping[str, Any] = json.loads(line)
                if found["language"] == language and not found.get("held_back"):
                    rows.append((float(found["body_parameters"]), float(found["tokens"]), float(found[loss])))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"line {number} of {file} is no run of benchmarks/scaling.py ({error!r})") from error
    columns = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return Runs(*columns)


def fit_law(runs: Runs) -> Law:
    """Return the law of some runs; raises DataError where there are fewer than six, or one size or amount alone."""
    spread = min(len(set(runs.sizes.tolist())), len(set(runs.tokens.tolist())))
    if len(runs) < FEWEST or spread < 2:
        raise DataError(
            f"a law of loss is fitted on {FEWEST} runs or more, of several sizes and tokens, and here are {len(runs)}; "
            "make more with benchmarks/scaling.py"
        )
    units = (float(np.exp(np.log(runs.sizes).mean())), float(np.exp(np.log(runs.tokens).mean())))
    sizes, tokens, wanted = runs.sizes / units[0], runs.tokens / units[1], np.log(runs.losses)
    numbers = _best(sizes, tokens, wanted)
    residuals = wanted - _log_loss(numbers, sizes, tokens)
    return Law(runs, units, numbers, residuals, _slopes(numbers, sizes, tokens))


def _best(sizes: np.ndarray, tokens: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the numbers that come nearest to the logs of losses, [R], from the best of several starts."""
    fits = [
        least_squares(
            lambda numbers: _log_loss(numbers, sizes, tokens) - wanted,
            start,
            jac=lambda numbers: _slopes(numbers, sizes, tokens),
            bounds=(LOWER, UPPER),
            loss="huber",
            f_scale=HUBER,
            max_nfev=MOST_STEPS,
        )
        for start in STARTS
    ]
    best: np.ndarray = min(fits, key=lambda fit: float(fit.cost)).x
    return best


def _parts(numbers: np.ndarray, sizes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return the logs of the law's three parts, [3, R], at sizes and tokens [R] in their units."""
    log_a, alpha, log_b, beta, log_floor = numbers
    return np.stack([log_a - alpha * np.log(sizes), log_b - beta * np.log(tokens), np.full(len(sizes), log_floor)])


def _log_loss(numbers: np.ndarray, sizes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return the log of the law's loss, [R]."""
    total: np.ndarray = logsumexp(_parts(numbers, sizes, tokens), axis=0)
    return total


def _slopes(numbers: np.ndarray, sizes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return how the log of the law's loss changes with each of its numbers, [R, 5]."""
    of_size, of_tokens, of_floor = softmax(_parts(numbers, sizes, tokens), axis=0)
    return np.stack(
        [of_size, -of_size * np.log(sizes), of_tokens, -of_tokens * np.log(tokens), of_floor], axis=1
    )  # fmt: skip
