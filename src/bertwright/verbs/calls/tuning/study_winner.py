"""Turns a searched study into its winner: trained over new seeds, evaluated once on test, and kept as a recipe."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from filelock import FileLock

from bertwright.files import read_json, write_json, write_text
from bertwright.log import note
from bertwright.nested import merge
from bertwright.reports.search_report import study_tables, write_study_report
from bertwright.result import Result
from bertwright.search.clock import StudyClock
from bertwright.search.finals import winner
from bertwright.search.outcome import by_model, judged_by, study_figures
from bertwright.search.shared_study import SharedStudy
from bertwright.search.task_trials import UNCOMPILED, TaskTrials
from bertwright.search.trials import Search
from bertwright.train.checkpoint.task_resume import is_done
from bertwright.verbs.calls.tuning.pretrain_trials import PretrainTrials
from bertwright.verbs.calls.tuning.study_call import StudyCall
from bertwright.verbs.finetune import finetune
from bertwright.verbs.pretrain import pretrain

WINNER, WINNER_LOCK, RECIPE = "winner", ".winner.lock", "recipe.toml"
RETRAINED = "retrained"
"""The attribute of a study that says of which trial the run in STUDY/winner is, and with how many seeds."""


def finish(
    call: StudyCall,
    tunable: TaskTrials | PretrainTrials,
    shared: SharedStudy,
    clock: StudyClock,
    found: Search,
) -> Result:
    """Train the winner, write recipe.toml, result.json and report.html, and return the figures.

    Of several processes that come here one does it, and the others return what it found.
    """
    out = Path(call.out)
    searched = clock.spent
    with FileLock(out / WINNER_LOCK):
        figures = {"task": call.task, **study_figures(shared, tunable)}
        best = winner(shared)
        assert best is not None
        settings = merge(call.settings, tunable.settings(best.params))
        write_text(out / RECIPE, recipe_text(call, figures, settings))
        run = retrain(call, tunable, shared, found, settings, room=clock.left)
        clock.keep()
        figures |= {
            "runs": found.runs,
            "folds": call.folds,
            "retrained": run,
            "models": model_figures(tunable, figures),
            "minutes": call.minutes,
            "seconds": round(clock.spent, 1),
            "seconds_of_search": round(searched, 1),
            "recipe": RECIPE,
        }
        write_json(out / "result.json", figures)
        write_study_report(out, figures)
    return Result(figures, *study_tables(figures, out))


def retrain(
    call: StudyCall,
    tunable: TaskTrials | PretrainTrials,
    shared: SharedStudy,
    found: Search,
    settings: Mapping[str, Any],
    *,
    room: float,
) -> dict[str, Any]:
    """Return figures of the winner, trained in STUDY/winner with seeds that the search has not seen.

    Fewer seeds than asked for where the `room`, in seconds, is too small for all; a run of an earlier process goes on.
    """
    best, folder = winner(shared), Path(call.out) / WINNER
    assert best is not None
    kept = shared.study.user_attrs.get(RETRAINED, {})
    same = kept.get("trial") == best.number
    each = found.kept_seconds() / call.seeds
    seeds = int(kept["seeds"]) if same else max(1, min(call.seeds, int(room / max(each, 1e-9))))
    if same and is_done(folder) and (folder / "result.json").is_file():
        return summary(read_json(folder / "result.json"), seeds)
    if seeds < call.seeds:
        note(f"there is time for {seeds} of {call.seeds} seeds of the winner")
    resume = same and (folder / "config.toml").is_file()
    shared.study.set_user_attr(RETRAINED, {"trial": best.number, "seeds": seeds})
    note(f"training the winner, trial {best.number}, with {seeds} new {'seed' if seeds == 1 else 'seeds'}")
    if isinstance(tunable, PretrainTrials):
        return pretrain_winner(tunable, folder, tunable.settings(best.params), first=found.first_new_seed, seeds=seeds)
    first = int(settings.get("seed", 0)) + found.first_new_seed
    figures = finetune(
        call.task,
        tunable.model(best.params),
        call.files["train"],
        call.files.get("dev"),
        folder,
        test=call.files.get("test"),
        num_seeds=seeds,
        resume=resume,
        overwrite=not resume,
        settings=merge(merge(UNCOMPILED, settings), {"seed": first}),
    )
    return summary(figures, seeds)


def pretrain_winner(
    tunable: PretrainTrials, folder: Path, found: Mapping[str, Any], *, first: int, seeds: int
) -> dict[str, Any]:
    """Pre-train the winner for the minutes of a run with each seed; the last of them stays in STUDY/winner."""
    every = [
        pretrain(
            tunable.data,
            folder,
            recipe=tunable.recipe,
            overwrite=True,
            settings=tunable.run_settings(found, first + seed),
        )["valid"][tunable.metric]
        for seed in range(seeds)
    ]
    return {"seeds": seeds, "dev": sum(every) / seeds, "each": every}


def summary(figures: Mapping[str, Any], seeds: int) -> dict[str, Any]:
    """Return of a run of `finetune` what a study says of its winner: mean and deviation over seeds on dev and test."""
    metric, found = figures["metric"], {"seeds": seeds, "model": WINNER + "/model"}
    for split in ("dev", "test"):
        if split in figures["mean"]:
            found[split] = figures["mean"][split][metric]
            found[f"{split}_each"] = [one[split][metric] for one in figures["seeds"]]
    return found


def model_figures(tunable: TaskTrials | PretrainTrials, figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what a study found of each model: trials, quality, parameters and milliseconds of a text."""
    found = by_model(figures, tunable.sign)
    for name, speed in tunable.speeds.items() if isinstance(tunable, TaskTrials) else ():
        if name in found:
            found[name] |= {"parameters": speed.parameters, "latency_ms": round(speed.latency, 2)}
    return found


def recipe_text(call: StudyCall, figures: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return the recipe of the winner as TOML, with the command that uses it."""
    chosen, metric = figures["winner"], figures["metric"]
    beside = "" if figures["defaults"] is None else f", the defaults {judged_by(figures['defaults']):.4f}"
    head = [f"# Found by bertwright tune {call.task}: {metric} on dev {judged_by(chosen):.4f}{beside}."]
    if call.task == "pretrain":
        words = ["bertwright", "pretrain", "--data", *call.data, "--recipe", RECIPE, "--out", "run"]
        base = call.recipe or "classic-fast"
        extends = str(Path(base).resolve()) if base.endswith(".toml") else base
        content: dict[str, Any] = {"extends": extends, **settings}
    else:
        words = ["bertwright", "finetune", call.task, "--model", chosen["model"], "--train", call.files["train"]]
        words += ["--recipe", RECIPE, "--out", "run"]
        content = {"task": call.task, **settings}
    return "\n".join([*head, f"# {shlex.join(words)}", tomli_w.dumps(without_none(content))])


def without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings without those that are None, which TOML does not know."""
    return {
        name: without_none(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if value is not None
    }
