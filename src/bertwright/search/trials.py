"""Runs trials until the time is up: asks for settings, trains them run by run, stops those that are clearly worse.

The time of the finals, and of the winner's seeds, is kept back all along: a trial begins only where it and the seeds of
whoever is best afterwards still fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from optuna.trial import FrozenTrial, Trial, TrialState

from bertwright.errors import TrainingError
from bertwright.log import note
from bertwright.search.base import MODEL, ROWS, Run, Tunable
from bertwright.search.clock import OutOfTimeError, StudyClock
from bertwright.search.finals import ROUNDS, Finals, winner
from bertwright.search.search_console import SearchConsole
from bertwright.search.shared_study import RUNS, USUAL, WHY, SharedStudy, runs_of
from bertwright.train.callbacks.base import Callback, StepReport

MISSES = 10
"""Trials in a row that would take too long, or have no run that ends, after which the search ends."""
MARGIN = 1.1
"""Factor on the seconds that something will take, since it may take longer."""


@dataclass
class Watch(Callback):
    """Ends a run where no more than `kept` seconds of the study are left, and shows how far it is."""

    clock: StudyClock
    console: SearchConsole
    kept: float
    what: str

    def on_step(self, report: StepReport) -> None:
        """Look at the clock."""
        self.clock.tick()
        self.console.show(self.what, report.fraction, self.clock)
        if self.clock.left < self.kept:
            raise OutOfTimeError


@dataclass
class Search:
    """The search of one process.

    runs       of a trial that is not stopped before
    seeds      that the winner will be trained with
    most       trials at most; None for as many as there is time for
    processes  that search
    """

    shared: SharedStudy
    tunable: Tunable
    clock: StudyClock
    console: SearchConsole
    runs: int
    seeds: int
    most: int | None = None
    processes: int = 1

    def go(self) -> None:
        """Run trials until there is no time for another, then the finals."""
        misses = 0
        while misses < MISSES and not self._is_done():
            trial = self.shared.ask(self.tunable.space)
            if self._goes_on_from_worse(trial):
                self.shared.study.tell(trial, state=TrialState.FAIL)
            elif trial.user_attrs.get(USUAL) or self._fits(trial.params):
                misses = 0 if self.run_trial(trial) else misses + 1
            else:
                self.shared.study.tell(trial, state=TrialState.FAIL)
                misses += 1
        Finals(self).go()
        self.clock.keep()

    @property
    def first_new_seed(self) -> int:
        """The number of the first run that the search does not use: trials have the first ones, finalists the next."""
        return self.runs + ROUNDS

    def _is_done(self) -> bool:
        """Return whether there are enough trials, no others to try, or no time for the shortest."""
        count, first = len(self.shared.tried()), self.tunable.first
        if (self.most is not None and count >= self.most) or (
            self.tunable.space.keys() <= {MODEL} and count >= len(first)
        ):
            return True
        return self.shared.best() is not None and not self._fits(first[0])

    def _goes_on_from_worse(self, trial: Trial) -> bool:
        """Return whether a trial chosen beforehand goes on where another has done worse than the defaults.

        So the rates that small encoders often want cost one trial where a model does not want them.
        """
        if trial.user_attrs.get(USUAL) is not False or runs_of(trial):
            return False
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        known = [one for one in self.shared.trials(*states) if runs_of(one)]
        model = self.tunable.model(trial.params)
        usual = [one for one in known if one.user_attrs.get(USUAL) and self.tunable.model(one.params) == model]
        return any(
            lies_between(one.params, start.params, trial.params) and self._is_worse(runs_of(one), runs_of(start))
            for start in usual
            for one in known
        )

    def _is_worse(self, runs: list[Run], than: list[Run]) -> bool:
        """Return whether runs are worse in the mean than the same runs of another trial."""
        pairs = zip(runs, than, strict=False)
        return mean(self.tunable.sign * (one.figure - other.figure) for one, other in pairs) < 0

    def _fits(self, params: Mapping[str, Any]) -> bool:
        """Return whether there is time for a run of a trial, the finals, and the seeds of the winner, whoever it is."""
        return self.clock.left > self.run_seconds(params) + Finals(self).seconds() + self.kept_seconds(params)

    def run_seconds(self, params: Mapping[str, Any]) -> float:
        """Return about how many seconds a run takes, by how long others of the same model took."""
        return MARGIN * self._pace(params) * self.tunable.run_seconds(params)

    def kept_seconds(self, params: Mapping[str, Any] | None = None) -> float:
        """Return the seconds that are kept back for the winner, be it the best one so far or a trial of `params`."""
        leading = [one.params for one in (self.shared.best(), winner(self.shared)) if one is not None]
        candidates = leading if params is None else [*leading, params]
        each = (self._pace(one) * self.tunable.retraining_seconds(one) for one in candidates)
        return MARGIN * self.seeds * max(each, default=0.0)

    def _pace(self, params: Mapping[str, Any]) -> float:
        """Return how much longer runs of a model take than was thought: the median of those that are done.

        Of runs with the same batch size, where there are any: the fewer rows a step has, the longer an epoch takes.
        """
        model, found, alike = self.tunable.model(params), [], []
        for one in self.shared.tried():
            if self.tunable.model(one.params) == model:
                ratios = [run.seconds / self.tunable.run_seconds(one.params) for run in runs_of(one)]
                found += ratios
                alike += ratios if one.params.get(ROWS) == params.get(ROWS) else []
        return max(0.5, median(alike or found)) if found else 1.0

    def run_trial(self, trial: Trial) -> bool:
        """Train a trial run by run, and write down after each what it found; return whether it has a run."""
        study, usual = self.shared.study, bool(trial.user_attrs.get(USUAL))
        runs, why = runs_of(trial), ""
        for number, run in enumerate(runs):  # of a process that was killed
            report(trial, run, number)
        for number in range(len(runs), self.runs):
            if runs and not usual and not self._fits(trial.params):
                why = "no time for another run"
                break
            try:
                runs.append(self._run(trial, number))
            except OutOfTimeError:
                why = "the time was up"
                break
            except TrainingError as error:
                why = str(error)
                note(f"trial {trial.number}: {why}; {described(self.tunable, trial)}")
                break
            trial.set_user_attr(RUNS, [run.as_json() for run in runs])
            report(trial, runs[-1], number)
            self._say(trial, runs)
            if not usual and len(runs) < self.runs and trial.should_prune():
                why = "worse than the best"
                break
        trial.set_user_attr(WHY, why)
        if why:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, mean(run.figure for run in runs))
        return bool(runs)

    def _run(self, trial: Trial, number: int) -> Run:
        what = f"trial {trial.number}, run {number + 1} of {self.runs}"
        kept = 0.0 if self.shared.best() is None else self.kept_seconds()
        return self.run_watched(trial.params, number, what, kept=kept)

    def run_watched(self, params: Mapping[str, Any], number: int, what: str, *, kept: float) -> Run:
        """Train run `number` of a trial; raises OutOfTimeError where no more than `kept` seconds are left."""
        return self.tunable.run(params, number, Watch(self.clock, self.console, kept, what))

    def _say(self, trial: Trial, runs: list[Run]) -> None:
        best = self.shared.best()
        figures = ", ".join(f"{run.figure:.4f}" for run in runs)
        beside = "" if best is None else f" (best: {best.value:.4f}, trial {best.number})"
        note(
            f"trial {trial.number}: {self.tunable.metric} {figures}{beside}; {self.clock.left / 60:.1f} min left; "
            f"{described(self.tunable, trial)}"
        )


def report(trial: Trial, run: Run, number: int) -> None:
    """Give optuna the figures of a run on the parts of dev: the pairs that trials are compared by."""
    for place, part in enumerate(run.parts):
        trial.report(part, number * len(run.parts) + place)


def lies_between(params: Mapping[str, Any], start: Mapping[str, Any], end: Mapping[str, Any]) -> bool:
    """Return whether each parameter lies between those of two other trials, or is one of the two.

    >>> lies_between({"rate": 3.0, "rows": 1}, {"rate": 1.0, "rows": 1}, {"rate": 6.0, "rows": 0.5})
    True
    >>> lies_between({"rate": 0.5, "rows": 1}, {"rate": 1.0, "rows": 1}, {"rate": 6.0, "rows": 0.5})
    False
    """

    def between(one: Any, low: Any, high: Any) -> bool:
        ordered = all(isinstance(each, int | float) for each in (one, low, high))
        return min(low, high) <= one <= max(low, high) if ordered else one in (low, high)

    return all(between(one, start[name], end[name]) for name, one in params.items())


def described(tunable: Tunable, trial: FrozenTrial | Trial) -> str:
    """Return the settings of a trial in a line."""
    if trial.user_attrs.get(USUAL):
        return f"{tunable.model(trial.params)}, the defaults"
    found = flat(tunable.settings(trial.params))
    shown = [f"{name.rpartition('.')[2]} {value}" for name, value in found.items()]
    return ", ".join([tunable.model(trial.params), *shown])


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted names.

    >>> flat({"schedule": {"epochs": 3}})
    {'schedule.epochs': 3}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {above + name: value}
    return found
