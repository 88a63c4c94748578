"""Turns the figures of a quickstart into a table and sentences that explain them to newcomers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

README_SPEED = 44_715
"""Tokens/s of the quickstart that README.md shows."""
README_MACHINE = "2 cores with AVX512-bf16"
FALLS_YET = 0.02
"""Nats by which the loss must have fallen in the last quarter to say that it falls."""
FEWEST_LINES = 8
"""Lines of metrics.jsonl that show a course of the training loss."""


def learned_rows(figures: Mapping[str, Any], *, commonest: float) -> list[list[str]]:
    """Return rows [what, this model, what it would be without learning] about held-out text.

    `commonest` is the fraction of the most frequent token.
    """
    valid, entropy = figures["valid"], figures["unigram_entropy"]
    rows = []
    if "mlm_loss" in valid:
        loss = valid["mlm_loss"]
        unigram = f"{entropy:.2f} nats, {math.exp(entropy):,.0f} (from the frequency of words alone)"
        rows.append(["MLM loss, perplexity (lower is better)", f"{loss:.2f} nats, {exp(loss)}", unigram])
        rows.append(
            ["MLM accuracy", f"{valid['mlm_accuracy']:.1%}", f"{commonest:.1%} (always the most frequent token)"]
        )
    if "nsp_balanced_accuracy" in valid:
        balanced = f"{valid['nsp_balanced_accuracy']:.1%}"
        rows.append(["NSP balanced accuracy (mean over both classes)", balanced, "50.0% (a constant answer)"])
    if "nsp_accuracy" in valid:
        constant = f"{valid['nsp_majority']:.1%} (always the more frequent class)" if "nsp_majority" in valid else ""
        rows.append(["NSP accuracy", f"{valid['nsp_accuracy']:.1%}", constant])
    return rows


def exp(loss: float) -> str:
    """Return the perplexity of a loss as people write it."""
    return f"{math.exp(min(loss, 20.0)):,.0f}"


def machine_sentence(figures: Mapping[str, Any]) -> str:
    """Return what this machine did, beside the machine of README.md."""
    speed = figures["tokens_per_second"]
    return (
        f"This machine made {figures['steps']:,} steps at {speed:,.0f} tokens/s, {speed / README_SPEED:.0%} of the "
        f"{README_SPEED:,} tokens/s of the machine in README.md ({README_MACHINE})."
    )


def outlook(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return what more minutes would bring, from the lines of metrics.jsonl: how the loss fell in the last quarter."""
    held_out = [(float(line["step"]), float(line["valid"]["mlm_loss"])) for line in lines if _has_loss(line)]
    training = [(float(line["step"]), float(line["mlm_loss"])) for line in lines if "mlm_loss" in line]
    if len(held_out) >= 4:
        what, fall = "held-out loss", _fall(held_out)
    elif len(training) >= FEWEST_LINES:
        what, fall = "training loss", _fall(training)
    else:
        return "There were too few steps to say what more would bring; give --minutes 4."
    if fall > FALLS_YET:
        return f"The {what} fell by {fall:.2f} nats in the last quarter: more --minutes would lower it further."
    return (
        f"The {what} fell by {max(fall, 0.0):.2f} nats in the last quarter: more --minutes alone will hardly lower it; "
        "more text and a larger --size of pretrain would."
    )


def _has_loss(line: Mapping[str, Any]) -> bool:
    return "mlm_loss" in (line.get("valid") or {})


def _fall(course: Sequence[tuple[float, float]]) -> float:
    """Return by how much a loss fell from three quarters of the steps to the end; `course` is (step, loss), by step."""
    end, last = course[-1]
    before = [point for point in course if point[0] <= 0.75 * end] or [course[0]]
    after = [point for point in course if point[0] > 0.75 * end]
    (low, below), (high, above) = before[-1], after[0]
    fraction = (0.75 * end - low) / (high - low) if high > low else 0.0
    return below + fraction * (above - below) - last
