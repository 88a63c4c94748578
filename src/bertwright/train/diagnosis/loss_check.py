"""Turns the course of a run's loss into one line: is it normal, and if not, what is wrong and what to do.

A run is compared with our own at the same place: as many steps, or as many tokens where its steps have fewer. Losses
are compared as multiples of the unigram entropy of the corpus, which English and Chinese runs of a recipe agree in to
0.01. What a run must have learned by then is measured in steps and in the sum of its learning rates, so that a run with
small rates is not taken for one that cannot learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bertwright.train.diagnosis.course import Course, Lines, course_of
from bertwright.train.diagnosis.reference_runs import (
    AT_ENTROPY,
    USES_CONTEXT,
    Moment,
    ReferenceRun,
    RunKind,
    comparable,
)

EARLY = 20
"""Steps before which nothing is said."""
PATIENCE = 2.5
"""A run is late where it takes so many times as long as the slowest of ours."""
SMALL_RATES = 0.25
"""Its rates are too small where their sum is less than this part of that of ours ..."""
LARGE_RATES = 10.0
"""... and too large where it is so many times that, and it has learned less ..."""
LARGE_PEAK = 3.0
"""... with a peak so many times the highest of ours."""
DIVERGED, COLLAPSED, OVERFIT = 1.0, 0.5, 0.05
"""Nats above its own best at which a run has diverged, has lost what it learned from context, or overfits."""
BEHIND = 0.1
"""Multiples of the unigram entropy above all of ours at which a run is behind."""
STANDS = 0.03
"""Nats that a run that stands still has fallen by at most, since half of its steps."""
SPIKE, DEVIATIONS, AROUND, SETTLED = 0.4, 8.0, 9, 100
"""A spike is so many nats, and so many deviations, above the median of so many lines before it, after so many steps."""

State = Literal[
    "early", "expected", "behind", "plateau",
    "diverged", "collapsed", "overfits", "stuck", "small-rate", "large-rate", "pairs", "spikes",
]  # fmt: skip
NORMAL: tuple[State, ...] = ("early", "expected", "behind", "plateau")


@dataclass(frozen=True)
class Diagnosis:
    """What the loss of a run looks like, in a word and in a sentence, and what to do about it, if anything."""

    state: State
    finding: str
    advice: str = ""

    @property
    def normal(self) -> bool:
        """Whether nothing has to be done."""
        return self.state in NORMAL

    def __str__(self) -> str:
        """Return it in one line.

        >>> str(Diagnosis("early", "too early to say (step 3)"))
        'The loss is normal: too early to say (step 3)'
        """
        head = "The loss is normal" if self.normal else "The loss is not normal"
        return f"{head}: {self.finding}{f'; {self.advice}' if self.advice else ''}"


@dataclass(frozen=True)
class Case:
    """A run to look at, where it stands, and the runs of ours that it is compared with (at `place`, in their steps)."""

    course: Course
    kind: RunKind
    lines: Lines
    skipped: int
    peers: Sequence[ReferenceRun]
    step: int
    place: float
    now: float
    rates: float

    @property
    def level(self) -> float:
        """Nats above the unigram entropy."""
        return self.now - self.kind.entropy

    @property
    def lag(self) -> float:
        """Multiples of the unigram entropy above the worst of ours at this place; -inf where there is none."""
        return self.now / self.kind.entropy - max((run.loss_at(self.place) for run in self.peers), default=math.inf)


def diagnose(lines: Lines, kind: RunKind, *, skipped: int = 0) -> Diagnosis:
    """Return what the loss of a run looks like after these lines of its metrics.jsonl.

    `skipped` is how many of its steps were left out, because their loss burst.
    """
    course = course_of(lines)
    step = int(course.steps[-1]) if len(course.steps) else 0
    if len(course.steps) and not math.isfinite(course.losses[-1]):
        return Diagnosis("diverged", f"it is {course.losses[-1]} at step {step:,}", _lower(kind))
    if step < EARLY or len(course.steps) < 3:
        return Diagnosis("early", f"too early to say (step {step:,})")
    peers = comparable(kind)
    per_step = min((run.tokens_per_step for run in peers), default=1.0)
    case = Case(
        course, kind, lines, skipped, peers, step, place=min(step, float(course.tokens[-1]) / per_step),
        now=float(course.smooth[-1]), rates=float(course.rates[-1]),
    )  # fmt: skip
    for check in CHECKS:
        if (found := check(case)) is not None:
            return found
    return _on_its_way(case)


def _span(low: str, high: str) -> str:
    """Return a range in words, or one figure where both ends are the same."""
    return low if low == high else f"{low} to {high}"


def _lower(kind: RunKind) -> str:
    return f"lower --learning-rate ({kind.learning_rate:g}) to a third, or lengthen --warmup"


def _diverged(case: Case) -> Diagnosis | None:
    """Say so where the loss has risen far above its best and above the unigram entropy."""
    course = case.course
    alike = course.lengths == course.lengths[-1] if not np.isnan(course.lengths[-1]) else course.steps > 0
    best = int(np.argmin(np.where(alike, course.smooth, np.inf)))
    risen = case.now - course.smooth[best]
    if risen > DIVERGED and case.level > AT_ENTROPY:
        text = f"it diverged: {case.now:.2f} nats at step {case.step:,}, and was {course.smooth[best]:.2f} at step"
        return Diagnosis("diverged", f"{text} {int(course.steps[best]):,}", _lower(case.kind))
    if risen > COLLAPSED and case.level > USES_CONTEXT:
        text = (
            f"it went back to the unigram entropy ({case.kind.entropy:.2f} nats) from {course.smooth[best]:.2f} at step"
        )
        advice = f"{_lower(case.kind)}; if that changes nothing, labels and text do not belong together"
        return Diagnosis("collapsed", f"{text} {int(course.steps[best]):,}", advice)
    return None


def _overfits(case: Case) -> Diagnosis | None:
    """Say so where the held-out loss has risen while that of training fell, over more than two passes."""
    known = [line for line in case.lines if "mlm_loss" in line.get("valid", {}) and "mlm_loss" in line]
    if len(known) < 3 or not known[-1].get("epochs", 0.0) > 2:
        return None
    best = min(known, key=lambda line: float(line["valid"]["mlm_loss"]))
    last, lowest = float(known[-1]["valid"]["mlm_loss"]), float(best["valid"]["mlm_loss"])
    then = float(np.interp(best["step"], case.course.steps, case.course.smooth))
    if last < lowest + OVERFIT or case.now > then:
        return None
    return Diagnosis(
        "overfits",
        f"held out it rose from {lowest:.2f} nats at step {best['step']:,} to {last:.2f}, while that of training fell: "
        f"the model learns its text by heart ({known[-1]['epochs']:.0f} passes)",
        "give more text, fewer --epochs, or dropout (--model.dropout 0.1)",
    )


def _at_entropy(case: Case) -> Diagnosis | None:
    """Say what is to be said of a run that does not use context yet: late, with small rates, or as ours at first."""
    if case.level <= USES_CONTEXT or not case.peers:
        return None
    if case.kind.start == "corpus":
        return _start_is_lost(case)
    above = case.level > 0.3
    passed = [run.at_entropy if above else run.uses_context for run in case.peers]
    moments = [moment for moment in passed if moment is not None]
    first, last = min(one.step for one in moments), max(one.step for one in moments)
    where = "above the unigram entropy" if above else "at the unigram entropy"
    stands = f"it stands {where} ({case.now:.2f} nats; entropy {case.kind.entropy:.2f}) after {case.step:,} steps"
    ours = f"our runs left that behind after {_span(f'{first:,.0f}', f'{last:,.0f}')} steps"
    if late := _late(case, moments):
        advice = {
            "small-rate": _raise_rate(case),
            "large-rate": f"the learning rate is too high: {_lower(case.kind)}",
            "stuck": f"the model learns nothing from context: {_look_at_text()}",
        }
        return Diagnosis(late, f"{stands}; {ours}", advice[late])
    note = "it falls to the unigram entropy first" if above else "frequent words are learned, context is not yet"
    return Diagnosis("plateau", f"{stands}, as all models do at first ({note}); {ours}")


def _start_is_lost(case: Case) -> Diagnosis | None:
    """Say so where a run that starts from the corpus, which is below the unigram entropy at once, is not."""
    if case.place < SETTLED:
        return None
    text = f"it stands at or above the unigram entropy ({case.now:.2f} nats; entropy {case.kind.entropy:.2f}) after"
    ours = f"{case.step:,} steps, though it starts from the corpus; ours are below it from the first steps on"
    return Diagnosis("stuck", f"{text} {ours}", f"{_lower(case.kind)}, and {_look_at_text()}")


def _late(case: Case, moments: Sequence[Moment]) -> Literal["", "stuck", "small-rate", "large-rate"]:
    """Return why a run has not passed what all of ours had passed at these moments; nothing where it has time yet."""
    steps, rates = max(one.step for one in moments), max(one.rates for one in moments)
    alike = case.kind.optimizer == case.peers[0].kind.optimizer
    larger = case.kind.learning_rate > LARGE_PEAK * max(run.kind.learning_rate for run in case.peers)
    if case.place > steps and case.rates > LARGE_RATES * rates and larger and alike:
        return "large-rate"
    if case.place < PATIENCE * steps:
        return ""
    if not alike:
        return "stuck"
    if case.rates < SMALL_RATES * rates:
        return "" if _warms_up(case) else "small-rate"
    return "stuck" if case.rates > PATIENCE * rates else ""


def _warms_up(case: Case) -> bool:
    """Say whether the learning rate still rises."""
    recent = [float(line["learning_rate"]) for line in case.lines if "learning_rate" in line][-3:]
    return recent == sorted(recent) and recent[0] < recent[-1]


def _raise_rate(case: Case) -> str:
    ours = sorted(run.kind.learning_rate for run in case.peers)
    used = _span(f"{ours[0]:g}", f"{ours[-1]:g}")
    return f"the learning rate is too small: raise --learning-rate ({case.kind.learning_rate:g}; our runs use {used})"


def _look_at_text() -> str:
    return "look whether labels fit the text (bertwright show RUN --batch 0) and whether all weights are trained"


def _stands_still(case: Case) -> Diagnosis | None:
    """Say so where the loss is far above ours and has not fallen since half of the steps."""
    if case.lag < BEHIND or case.place < PATIENCE * SETTLED:
        return None
    half = float(np.interp(case.step / 2, case.course.steps, case.course.smooth))
    if half - case.now > STANDS:
        return None
    ours = min(run.loss_at(case.place) for run in case.peers) * case.kind.entropy
    text = f"it stands still at {case.now:.2f} nats since step {case.step // 2:,}; ours were at about {ours:.2f} there"
    if case.rates < SMALL_RATES * min(run.rates_at(case.place) for run in case.peers):
        return Diagnosis("small-rate", text, _raise_rate(case))
    return Diagnosis("stuck", text, _look_at_text())


def _constant_pairs(case: Case) -> Diagnosis | None:
    """Say so where next sentence prediction is at a constant answer long after ours was not."""
    right, loss = case.course.pairs[-1], case.course.pair_losses[-1]
    moments = [run.knows_pairs for run in case.peers if run.knows_pairs is not None]
    if not moments or not (right < 0.55 and loss > 0.65):
        return None
    last = max(one.step for one in moments)
    if case.place < PATIENCE * last:
        return None
    return Diagnosis(
        "pairs",
        f"next sentence prediction gives a constant answer ({right:.0%} right, loss {loss:.2f}; guessing: 0.69) after "
        f"{case.step:,} steps; ours was better than that after {last:,.0f} at most",
        "look whether second sentences follow (bertwright show RUN --batch 0) and whether documents are whole "
        "(prepare --document-boundary), or train without it (--objective.next-sentence false)",
    )


def _spikes(case: Case) -> Diagnosis | None:
    """Say so where the loss jumped up for a while, or steps were left out for it."""
    if case.skipped:
        text = f"{case.skipped:,} steps were left out because the loss burst; it is {case.now:.2f} nats now"
        return Diagnosis("spikes", text, f"if that goes on, {_lower(case.kind)}")
    places = spikes_of(case.course)
    recent = [place for place in places if case.course.steps[place] > 0.75 * case.step]
    if not recent and len(places) < 3:
        return None
    last = places[-1]
    count = f"{len(places)} spikes" if len(places) > 1 else "a spike"
    text = f"it has {count}, the last to {case.course.losses[last]:.2f} nats at step {int(case.course.steps[last]):,}"
    advice = f"if that goes on, {_lower(case.kind)}, or clip gradients (--optimizer.clip-norm 1)"
    return Diagnosis("spikes", f"{text}; it is {case.now:.2f} now", advice)


def spikes_of(course: Course) -> list[int]:
    """Return the lines at which the loss jumped: against the median of those before it, of rows of one length."""
    if len(course.losses) <= AROUND:
        return []
    before = np.lib.stride_tricks.sliding_window_view(course.losses, AROUND)[:-1]
    lengths = np.lib.stride_tricks.sliding_window_view(course.lengths, AROUND + 1)
    jumps = course.losses[AROUND:] - np.median(before, axis=1)
    alike = np.isnan(lengths).all(1) | (lengths == lengths[:, :1]).all(1)
    settled = course.steps[AROUND:] > SETTLED
    deviation = 1.4826 * np.median(np.abs(jumps - np.median(jumps)))
    return (np.flatnonzero(alike & settled & (jumps > max(SPIKE, DEVIATIONS * deviation))) + AROUND).tolist()


def _on_its_way(case: Case) -> Diagnosis:
    """Return how a run that learns compares with ours."""
    here = f"{case.now:.2f} nats after {case.step:,} steps ({case.now / case.kind.entropy:.2f} of the unigram entropy)"
    if not case.peers:
        return Diagnosis("expected", f"it is {here}, without spikes")
    ours = [run.loss_at(case.place) for run in case.peers]
    text = f"our runs had {_span(f'{min(ours):.2f}', f'{max(ours):.2f}')} there"
    if case.lag > BEHIND:
        return Diagnosis("behind", f"it falls, slower than ours: {here}; {text}")
    return Diagnosis("expected", f"it falls as expected: {here}; {text}")


CHECKS: tuple[Callable[[Case], Diagnosis | None], ...] = (
    _diverged, _overfits, _at_entropy, _stands_still, _constant_pairs, _spikes,
)  # fmt: skip
"""What is looked for, the worst first."""
