"""Turns a study into its figures: the winner beside the defaults, every trial, models, and which settings mattered."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from bertwright.search.base import Tunable
from bertwright.search.finals import winner
from bertwright.search.shared_study import USUAL, WHY, SharedStudy, runs_of
from bertwright.search.trials import flat

FEWEST = 5
"""Fewest trials of which importances are shown."""


def study_figures(shared: SharedStudy, tunable: Tunable) -> dict[str, Any]:
    """Return what a study has found so far, as result.json holds it; there is a winner."""
    best = winner(shared)
    assert best is not None
    tried = shared.tried()
    trials = [trial_figures(one, tunable) | {"further": further_figures(shared, one)} for one in tried]
    by_number = {one["trial"]: one for one in trials}
    usual = [one for one in trials if one["defaults"] and one["whole"]]
    defaults = max(usual, key=lambda one: tunable.sign * one["dev"], default=None)
    return {
        "metric": tunable.metric,
        "sign": tunable.sign,
        "winner": by_number[best.number],
        "defaults": defaults,
        "trials": trials,
        "importance": importance(tried, tunable),
    }


def further_figures(shared: SharedStudy, trial: FrozenTrial) -> list[float]:
    """Return the figures on dev of the runs that a trial has in the finals."""
    return [run.figure for run in shared.further_runs(trial.number)]


def judged_by(trial: Mapping[str, Any]) -> float:
    """Return the figure of a trial that a winner is chosen by: the mean of its runs in the finals, if it has any.

    >>> judged_by({"dev": 0.9, "further": [0.7, 0.8]}), judged_by({"dev": 0.9, "further": []})
    (0.75, 0.9)
    """
    return float(mean(trial["further"] or [trial["dev"]]))


def trial_figures(trial: FrozenTrial, tunable: Tunable) -> dict[str, Any]:
    """Return what a trial was and what came of it: `dev` is the mean of its runs."""
    runs, usual = runs_of(trial), bool(trial.user_attrs.get(USUAL))
    return {
        "trial": trial.number,
        "defaults": usual,
        "model": tunable.model(trial.params),
        "settings": {} if usual else flat(tunable.settings(trial.params)),
        "drawn": trial.params,
        "dev": mean(run.figure for run in runs),
        "runs": [run.figure for run in runs],
        "seconds": round(sum(run.seconds for run in runs), 1),
        "whole": trial.state == TrialState.COMPLETE,
        "ended": trial.user_attrs.get(WHY, ""),
    }


def importance(tried: Sequence[FrozenTrial], tunable: Tunable) -> dict[str, float]:
    """Return how much of the differences between trials each setting explains, the most first; they sum to 1.

    By functional ANOVA over a forest (Hutter et al. 2014), from the first run of each trial: that has the same seed in
    all, and those that were stopped early have it too. Nothing where there are too few trials.
    """
    if len(tried) < FEWEST or len(tunable.space) < 2:
        return {}
    firsts = optuna.create_study(direction="maximize" if tunable.sign > 0 else "minimize")
    for one in tried:
        firsts.add_trial(create_trial(params=one.params, distributions=one.distributions, value=runs_of(one)[0].figure))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return dict(get_param_importances(firsts, evaluator=FanovaImportanceEvaluator(seed=0)))
        except (ValueError, RuntimeError):  # trials all alike have nothing to explain
            return {}


def by_model(figures: Mapping[str, Any], sign: int) -> dict[str, dict[str, Any]]:
    """Return for each model of the trials how many there were, and the best and the default figure on dev."""
    found: dict[str, dict[str, Any]] = {}
    for one in figures["trials"]:
        entry = found.setdefault(one["model"], {"trials": 0, "dev": None, "defaults": None})
        entry["trials"] += 1
        if one["whole"] and (entry["dev"] is None or sign * one["dev"] > sign * entry["dev"]):
            entry["dev"] = one["dev"]
        if one["defaults"]:
            entry["defaults"] = one["dev"]
    return found
