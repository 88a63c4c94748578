"""Turns the losses of a run of fine-tuning or distillation into one line: is it normal, and if not, what to do.

What is known beforehand is the loss of the best constant answer: the entropy of the labels, log(classes) where all are
as frequent. A model that has read its texts is below that.
"""

from __future__ import annotations

import math

import numpy as np

from bertwright.train.diagnosis.course import Lines
from bertwright.train.diagnosis.loss_check import Diagnosis
from bertwright.train.task_setup.finetune_config import PUBLISHED_RATE

MEAN_OF = 3
"""Lines that a loss is a mean over."""
HALF = 0.5
"""Fraction of the run from which on its loss must be below that of a constant answer."""
CONSTANT, LEARNED = 0.97, 0.85
"""Multiples of the loss of a constant answer above which it is taken for one, and below which it was none."""
RISEN = 1.5
"""A run has diverged whose loss is so many times that of its first lines, and twice the least."""
LARGE_RATE, SMALL_RATE = 3.3, 1 / 6
"""Multiples of the usual learning rate outside of which models are seldom fine-tuned."""


def diagnose_task(lines: Lines, constant: float | None = None, *, usual_rate: float = PUBLISHED_RATE) -> Diagnosis:
    """Return what the loss of a run looks like after these lines of its metrics.jsonl.

    `constant` is the loss of the best constant answer, in nats, where it is known; `usual_rate` the learning rate that
    a model of this shape has by default.

    >>> falls = [{"step": n, "loss": 1 / n, "fraction": n / 9, "learning_rate": 1e-5} for n in range(1, 10)]
    >>> str(diagnose_task(falls, constant=0.69))
    'The loss is normal: it fell from 0.61 to 0.13 in 9 steps (a constant answer: 0.69)'
    """
    known = [line for line in lines if "loss" in line]
    losses = np.array([line["loss"] for line in known], dtype=np.float64)
    step = int(known[-1]["step"]) if known else 0
    if len(losses) and not math.isfinite(losses[-1]):
        return Diagnosis("diverged", f"it is {losses[-1]} at step {step:,}", _lower(known))
    if len(losses) < 2 * MEAN_OF:
        return Diagnosis("early", f"too early to say (step {step:,})")
    means = np.convolve(losses, np.full(MEAN_OF, 1 / MEAN_OF), mode="valid")
    first, least, now = float(means[0]), float(means.min()), float(means[-1])
    where = int(known[int(means.argmin()) + MEAN_OF - 1]["step"])
    if now > RISEN * first and now > 2 * least:
        text = f"it rose to {now:.2f} at step {step:,}, and was {least:.2f} at step {where:,}"
        return Diagnosis("diverged", text, _lower(known))
    if constant and now > CONSTANT * constant and least < LEARNED * constant:
        text = f"it went back to that of a constant answer ({constant:.2f}) from {least:.2f} at step {where:,}"
        return Diagnosis("collapsed", text, _lower(known))
    if constant and now > CONSTANT * constant and float(known[-1].get("fraction", 0.0)) >= HALF:
        text = f"it is {now:.2f} after {step:,} steps, no better than a constant answer ({constant:.2f})"
        return Diagnosis("stuck", text, _advice(known, usual_rate))
    guess = "" if constant is None else f" (a constant answer: {constant:.2f})"
    return Diagnosis("expected", f"it {_moved(first, now)} in {step:,} steps{guess}")


def _moved(first: float, now: float) -> str:
    return f"fell from {first:.2f} to {now:.2f}" if now < first else f"went from {first:.2f} to {now:.2f}"


def _peak(known: Lines) -> float:
    return max((float(line.get("learning_rate", 0.0)) for line in known), default=0.0)


def _lower(known: Lines) -> str:
    return f"lower --learning-rate ({_peak(known):.2g}) to a third, or lengthen --warmup"


def _advice(known: Lines, usual_rate: float) -> str:
    """Return what to do about a constant answer: the rate first, where it is unusual, then the labels."""
    labels = "look whether labels fit the texts (--text-column, --label-column)"
    peak = _peak(known)
    if peak > LARGE_RATE * usual_rate:
        return f"{_lower(known)}; if that changes nothing, {labels}"
    if peak < SMALL_RATE * usual_rate:
        return f"raise --learning-rate ({peak:.2g}); if that changes nothing, {labels}"
    return f"{labels}; give more --epochs, or another --seed where examples are few"
