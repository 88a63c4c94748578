"""Is my loss normal: no alarm anywhere along healthy runs, and the right one for each run that was made sick."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertwright.files import read_json
from bertwright.nested import read_toml
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.train.diagnosis.course import course_of
from bertwright.train.diagnosis.folder_check import diagnose_run
from bertwright.train.diagnosis.loss_check import diagnose
from bertwright.train.diagnosis.reference_runs import RunKind, comparable, kind_of_run, reference_of, reference_runs

RESULTS = Path(__file__).parents[4] / "results"
HEALTHY = sorted(folder.parent for folder in RESULTS.glob("*/config.toml"))
SICK = {
    "rate-too-high": {"large-rate"},
    "rate-far-too-high": {"diverged", "large-rate"},
    "rate-too-small": {"small-rate"},
    "shuffled-labels": {"stuck"},
    "shuffled-labels-fast": {"stuck"},
    "frozen": {"stuck"},
    "random-pairs": {"pairs"},
}
"""Runs of `benchmarks/sick_runs.py`, and what they must be taken for."""

pytestmark = pytest.mark.skipif(not HEALTHY, reason="results/ is not there")
Line = dict[str, Any]


def kind_of(run: Path) -> RunKind:
    kind = kind_of_run(read_toml(run / "config.toml"), read_json(run / "manifest.json"))
    assert kind is not None
    return kind


@pytest.fixture(scope="module")
def fast() -> tuple[list[Line], RunKind]:
    """A healthy run that starts from the corpus, without its first lines, which are of other intervals."""
    run = RESULTS / "en-classic-fast"
    return read_metrics(run / "metrics.jsonl")[6:], kind_of(run)


@pytest.fixture(scope="module")
def classic() -> tuple[list[Line], RunKind]:
    run = RESULTS / "en-classic"
    return read_metrics(run / "metrics.jsonl"), kind_of(run)


@pytest.mark.parametrize("run", HEALTHY, ids=lambda run: run.name)
def test_no_false_alarm_at_any_place_of_a_healthy_run(run: Path) -> None:
    """Also where it is compared with the other runs alone, as a run of anyone else is, and with sparse lines."""
    lines, kind = read_metrics(run / "metrics.jsonl"), kind_of(run)
    found = [diagnose(lines[:count], kind) for count in range(1, len(lines) + 1, 5)]
    assert [str(one) for one in found if not one.normal] == []
    assert diagnose(lines, kind).state == "expected"
    sparse = [diagnose(lines[:count:5], kind) for count in range(1, len(lines), 15)]
    assert [str(one) for one in sparse if not one.normal] == []


@pytest.mark.parametrize("name", [name for name in SICK if (RESULTS / "loss-check" / name).is_dir()])
def test_a_run_made_sick_on_purpose_is_recognised(name: str) -> None:
    run = RESULTS / "loss-check" / name
    found = diagnose_run(run, read_metrics(run / "metrics.jsonl"))
    assert found is not None
    assert found.state in SICK[name]
    assert found.advice


def changed(lines: list[Line], change: Callable[[Line], Line]) -> list[Line]:
    return [{**line, **change(line)} for line in lines]


def test_a_loss_that_rises_for_good_has_diverged(fast: tuple[list[Line], RunKind]) -> None:
    lines, kind = fast
    risen = changed(lines, lambda line: {"mlm_loss": 8.0} if line["step"] > 2900 else {})
    assert diagnose(risen, kind).state == "diverged"
    back = changed(lines, lambda line: {"mlm_loss": kind.entropy} if line["step"] > 2900 else {})
    assert diagnose(back, kind).state == "collapsed"
    assert diagnose([*lines, {**lines[-1], "mlm_loss": math.nan}], kind).state == "diverged"


def test_spikes_are_counted_and_a_change_of_length_is_none(fast: tuple[list[Line], RunKind]) -> None:
    lines, kind = fast
    places = {lines[place]["step"] for place in (-40, -20)}
    spiky = changed(lines, lambda line: {"mlm_loss": line["mlm_loss"] + 0.7} if line["step"] in places else {})
    found = diagnose(spiky, kind)
    assert found.state == "spikes"
    assert "2 spikes" in found.finding
    assert diagnose(lines, kind, skipped=3).state == "spikes"
    longer = changed(lines, lambda line: {"mlm_loss": 4.1, "length": 512} if line["step"] > 2990 else {})
    assert diagnose(longer, kind).normal


def test_a_text_learned_by_heart(fast: tuple[list[Line], RunKind]) -> None:
    """Where the held-out loss has risen for a while, over several passes; not within the first two."""
    lines, kind = fast
    evaluated = [line["step"] for line in lines if line.get("valid")]
    turn = evaluated[len(evaluated) // 2]

    def rises(line: Line) -> Line:
        over = max(0, line["step"] - turn) / 1000
        return {"epochs": line["step"] / 100, **({"valid": {"mlm_loss": 4.0 + over}} if line.get("valid") else {})}

    by_heart = changed(lines, rises)
    assert diagnose(by_heart, kind).state == "overfits"
    assert diagnose(changed(by_heart, lambda line: {"epochs": 1.5}), kind).normal


def test_a_run_at_the_entropy_is_told_from_one_with_small_rates(classic: tuple[list[Line], RunKind]) -> None:
    lines, kind = classic
    flat = changed(lines, lambda line: {"mlm_loss": max(line["mlm_loss"], kind.entropy)})
    assert diagnose(flat, kind).state == "stuck"
    small = changed(flat, lambda line: {"learning_rate": line["learning_rate"] / 100})
    found = diagnose(small, replace(kind, learning_rate=1e-5))
    assert found.state == "small-rate"
    assert "1e-05" in found.advice
    assert diagnose(small[:80], kind).normal, "it may need so long"
    warming = changed(flat[:150], lambda line: {"learning_rate": 1e-8 * line["step"]})
    assert diagnose(warming, kind).normal, "while the rate still rises"


def test_a_run_that_stands_still_below_the_entropy(fast: tuple[list[Line], RunKind]) -> None:
    """As one that starts from the corpus and is not trained: ours, with the same start, have fallen since."""
    lines, kind = fast
    still = changed(lines, lambda line: {"mlm_loss": max(line["mlm_loss"], 5.6)})
    assert diagnose(still, kind).state == "stuck"
    small = changed(still, lambda line: {"learning_rate": line["learning_rate"] / 100})
    assert diagnose(small, kind).state == "small-rate"


def test_pairs_at_a_constant_answer(fast: tuple[list[Line], RunKind], classic: tuple[list[Line], RunKind]) -> None:
    guessed = {"nsp_accuracy": 0.51, "nsp_loss": 0.693}
    assert diagnose(changed(fast[0], lambda line: guessed), fast[1]).state == "pairs"
    early = changed(classic[0], lambda line: guessed)
    assert diagnose(early[:100], classic[1]).normal, "ours guessed for as long"
    assert diagnose(early, classic[1]).state == "pairs"


def test_what_is_too_short_or_of_another_start_is_no_alarm(classic: tuple[list[Line], RunKind]) -> None:
    lines, kind = classic
    assert diagnose([], kind).state == "early"
    assert diagnose(lines[:1], kind).state == "early"
    assert diagnose(lines, replace(kind, start="model")).state == "expected"
    assert kind_of_run({"task": "classify", "optimizer": {"name": "adamw", "learning_rate": 1.0}}, {}) is None


def test_the_shipped_curves_are_those_of_results() -> None:
    for run in reference_runs():
        folder = RESULTS / run.name
        assert reference_of(run.name, kind_of(folder), read_metrics(folder / "metrics.jsonl")) == run
    names = {one.name for one in comparable(kind_of(RESULTS / "zh-classic-fast"))}
    assert names == {"en-classic-fast", "zh-classic-fast"}


def test_the_course_of_a_run_is_smoothed_over_steps() -> None:
    lines = [{"step": step, "mlm_loss": float(step % 2), "learning_rate": 0.1} for step in range(1, 101)]
    course = course_of([*lines, {"step": 101, "valid": {}}])
    assert course.smooth[-1] == pytest.approx(0.5)
    assert course.rates[-1] == pytest.approx(10.0)
    assert np.isnan(course.pairs).all()
