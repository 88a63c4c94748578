"""Runs the best trials of a search again, with seeds that chose none of them, and lets these runs choose the winner.

The best of many trials owes part of its figure to its seeds. So it is run again beside the next best and the defaults,
which win where nothing is better than they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial

from bertwright.errors import TrainingError
from bertwright.log import note
from bertwright.search.clock import OutOfTimeError
from bertwright.search.shared_study import USUAL, SharedStudy

if TYPE_CHECKING:
    from bertwright.search.trials import Search

FINALISTS, FEWEST = 3, 2
"""Trials that are run again, the defaults among them; the fewest where there is no time for two runs of each."""
ROUNDS = 3
"""Runs of each, at most."""
SHARE = 1 / 3
"""Share of the time of the search that they take, at most."""


@dataclass
class Finals:
    """The finals of a search, in one process."""

    search: Search

    def seconds(self) -> float:
        """Return the seconds that are kept for the finals while trials run: none where they have no time."""
        search, best = self.search, self.search.shared.best()
        each = search.run_seconds(search.tunable.first[0] if best is None else best.params)
        room = self._room(each)
        return 0.0 if room < FEWEST else min(room, FINALISTS * ROUNDS) * each / search.processes

    def _room(self, each: float) -> float:
        """Return how many runs of so many seconds the finals have time for, in all processes."""
        search = self.search
        return SHARE * (search.clock.limit - search.kept_seconds()) * search.processes / each

    def finalists(self) -> list[FrozenTrial]:
        """Return the trials that are run again, the best first; none where there are no two, or no time."""
        shared = self.search.shared
        ranked = [one for one in shared.ranked() if one.number not in shared.failed()]
        if len(ranked) < FEWEST:
            return []
        room = self._room(self.search.run_seconds(ranked[0].params))
        count = FINALISTS if room >= 2 * FINALISTS else FEWEST if room >= FEWEST else 0
        usual = next((one for one in ranked if one.user_attrs.get(USUAL)), None)
        chosen = ranked[:count]
        return chosen if usual is None or usual in chosen or not count else [*chosen[:-1], usual]

    def go(self) -> None:
        """Run finalists, those with the fewest runs first, until each has its runs or the time is up."""
        search = self.search
        while (claimed := self._claim()) is not None:
            trial, number = claimed
            what = f"trial {trial.number} again, run {number + 1} of {ROUNDS}"
            try:
                run = search.run_watched(trial.params, search.runs + number, what, kept=self._kept())
            except OutOfTimeError:
                search.shared.give_up(trial, number)
                break
            except TrainingError as error:
                search.shared.give_up(trial, number, why=str(error))
                note(f"trial {trial.number} again: {error}")
                continue
            search.shared.keep_further(trial, number, run)
            note(f"{what}: {search.tunable.metric} {run.figure:.4f} (in the search {trial.value:.4f})")

    def _claim(self) -> tuple[FrozenTrial, int] | None:
        """Return the next run, a finalist and a number from 0, which is this process's from now on; None at the end."""
        shared = self.search.shared
        with shared.alone():
            finalists = self.finalists()
            taken = {one.number: shared.taken(one) for one in finalists}
            if not taken:
                return None
            trial = min(finalists, key=lambda one: len(taken[one.number]))
            number = next(number for number in range(ROUNDS + 1) if number not in taken[trial.number])
            if number >= ROUNDS or self.search.clock.left <= self.search.run_seconds(trial.params) + self._kept():
                return None
            shared.claim(trial, number)
        return trial, number

    def _kept(self) -> float:
        """Return the seconds that are kept back for the winner, whichever finalist it is."""
        return max(self.search.kept_seconds(one.params) for one in self.finalists())


def winner(shared: SharedStudy) -> FrozenTrial | None:
    """Return the finalist with the best mean over its further runs; before there are two, the best trial, if any."""
    found = {one.number: one for one in shared.ranked() if one.number not in shared.failed()}
    further = {number: runs for number in found if (runs := shared.further_runs(number))}
    if len(further) < FEWEST:
        return shared.best()
    means = {number: shared.sign * mean(run.figure for run in runs) for number, runs in further.items()}
    return found[max(means, key=lambda number: (means[number], -number))]
