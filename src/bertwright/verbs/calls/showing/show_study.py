"""Turns the folder of a study of `tune` into its tables; one that is not done has the trials made so far."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from bertwright.errors import ModelError
from bertwright.files import read_json
from bertwright.log import Facts, ResultTable
from bertwright.reports.search_report import study_tables
from bertwright.result import Result

MOST_TRIALS = 12
"""Trials of a study that is not done that are shown, the last ones."""


def show_study(folder: Path) -> Result:
    """Return what came of a study, or its trials so far; raises ModelError where its files are damaged."""
    try:
        study = read_json(folder / "study.json")
        task = study["identity"]["the task"]
        if (folder / "result.json").is_file():
            figures = dict(read_json(folder / "result.json"))
            return Result({"kind": "study", "task": task, "result": figures}, *study_tables(figures, folder))
        plan = study["plan"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder} is damaged ({error!r}); the same command of tune makes it again") from error
    trials = trials_of(folder)
    facts = {"state": "not done: the same command of tune goes on with it", "runs a trial": str(plan.get("runs", 1))}
    rows = [[str(one["trial"]), one["state"], one["dev"], one["drawn"]] for one in trials[-MOST_TRIALS:]]
    table = ResultTable(f"trials so far: {len(trials)}", ["trial", "state", "figure on dev", "settings"], rows)
    return Result({"kind": "study", "task": task, "trials": trials}, Facts(f"{folder}: tune {task}", facts), table)


def trials_of(folder: Path) -> list[dict[str, str]]:
    """Return the trials of a study that is not done: number, state, figure on dev and what was drawn, as text."""
    if find_spec("optuna") is None:
        raise ModelError(f"to look into {folder}, a study that is not done, run: pip install 'bertwright[tune]'")
    import optuna

    from bertwright.search.shared_study import DATABASE, NAME

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{folder / DATABASE}")
        trials = study.get_trials(deepcopy=False)
    except Exception as error:  # of SQLite, SQLAlchemy and optuna: there is no common one
        raise ModelError(f"{folder / DATABASE} cannot be read ({error}); restore it from a copy") from error
    return [
        {
            "trial": str(one.number),
            "state": one.state.name.lower(),
            "dev": "" if one.value is None else f"{one.value:.4f}",
            "drawn": ", ".join(f"{name} {value}" for name, value in one.params.items()) or "the defaults",
        }
        for one in trials
    ]
