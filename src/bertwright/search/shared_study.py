"""Keeps the trials of a study in STUDY/study.db, which several processes share and a killed one leaves whole.

A process holds a lock in STUDY/processes/ as long as it lives. So the trials that a dead one left half done are known,
and are begun again with the runs that they had.
"""

from __future__ import annotations

import os
import socket
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.pruners import WilcoxonPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from bertwright.config import Range
from bertwright.errors import BusyError
from bertwright.files import LOCK, locked
from bertwright.search.base import Run, Tunable
from bertwright.search.space import distribution_of

DATABASE, PROCESSES = "study.db", "processes"
NAME = "tune"
RUNS, USUAL, OWNER, WHY, RUN = "runs", "usual", "owner", "why", "run"
"""Attributes of a trial: its runs, whether it is the defaults, its process, and why it ended early; of a run of the
finals: its process, why it failed, and what it found."""
FURTHER = "further"
"""The first word of the attributes of the study that hold the runs of the finals, by trial and number."""
LOCK_SECONDS = 60.0
"""Seconds that a process waits for another one that writes to the database."""
PRUNED_BELOW = 0.05
"""The p-value of Wilcoxon's test below which a trial is worse than the best one, and not gone on with.

The parts of one run share its seed, so the test is too sure of itself: on drawn trials of 277 examples, a trial equal
to the best one is ended after one run in 7% of cases (at 0.1 in 14%), one that is two points worse in 17%.
"""


@dataclass(frozen=True)
class SharedStudy:
    """The study of a folder, for one process, called `owner`."""

    folder: Path
    study: Study
    owner: str

    def ask(self, space: Mapping[str, Range]) -> Trial:
        """Return the next trial: one that was enqueued, else one that TPE draws; it belongs to this process."""
        with self.alone():
            self.recover()
            trial = self.study.ask({name: distribution_of(one) for name, one in space.items()})
            trial.set_user_attr(OWNER, self.owner)
        return trial

    def recover(self) -> int:
        """Begin the trials of dead processes again, with the runs that they had; return how many there were."""
        left = [one for one in self.trials(TrialState.RUNNING) if not self._is_alive(one.user_attrs.get(OWNER))]
        for one in left:
            kept = {name: value for name, value in one.user_attrs.items() if name != OWNER}
            self.study.tell(one.number, state=TrialState.FAIL)
            self.study.enqueue_trial(one.params, user_attrs=kept)
        return len(left)

    def others_work(self) -> bool:
        """Return whether another living process has a trial, or a run of the finals, in work."""
        owners = {one.user_attrs.get(OWNER) for one in self.trials(TrialState.RUNNING)}
        owners |= {one[OWNER] for one in self._further().values() if RUN not in one and WHY not in one}
        return any(self._is_alive(owner) for owner in owners - {self.owner})

    def _is_alive(self, owner: str | None) -> bool:
        """Return whether a process lives, by its lock."""
        if owner in (None, self.owner):
            return owner is not None
        try:
            with locked(self.folder / PROCESSES / str(owner)):
                return False
        except BusyError:
            return True

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from asking for trials meanwhile."""
        with FileLock(self.folder / LOCK):
            yield

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in these states, in their order."""
        return self.study.get_trials(deepcopy=False, states=states)

    def tried(self) -> list[FrozenTrial]:
        """Return the trials that ended with a run at least, in their order."""
        return [one for one in self.trials(TrialState.COMPLETE, TrialState.PRUNED) if one.user_attrs.get(RUNS)]

    @property
    def sign(self) -> int:
        """1 where a larger figure is better, else -1."""
        return 1 if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else -1

    def ranked(self) -> list[FrozenTrial]:
        """Return the trials that have all their runs, the best mean first, of equal ones the earliest."""
        whole = self.trials(TrialState.COMPLETE)
        return sorted(whole, key=lambda one: (-self.sign * float(one.value or 0.0), one.number))

    def best(self) -> FrozenTrial | None:
        """Return the best trial of the search; None before the first."""
        return next(iter(self.ranked()), None)

    def further_runs(self, trial: int) -> list[Run]:
        """Return the runs of the finals that a trial, by its number, has so far."""
        return [Run.from_json(one[RUN]) for (of, _), one in self._further().items() if of == trial and RUN in one]

    def failed(self) -> set[int]:
        """Return the numbers of the trials that had a run in the finals which did not end."""
        return {of for (of, _), one in self._further().items() if WHY in one}

    def taken(self, trial: FrozenTrial) -> set[int]:
        """Return the numbers of the runs of the finals that a trial has, or that a living process has in work."""
        every = {number: one for (of, number), one in self._further().items() if of == trial.number}
        return {number for number, one in every.items() if RUN in one or self._is_alive(one[OWNER])}

    def claim(self, trial: FrozenTrial, number: int) -> None:
        """Say that this process does a run of the finals."""
        self._write_further(trial, number, {OWNER: self.owner})

    def keep_further(self, trial: FrozenTrial, number: int, run: Run) -> None:
        """Write down what a run of the finals found."""
        self._write_further(trial, number, {OWNER: self.owner, RUN: run.as_json()})

    def give_up(self, trial: FrozenTrial, number: int, *, why: str = "") -> None:
        """Say that this process no longer does a run of the finals, and `why` it failed, if it did."""
        self._write_further(trial, number, {OWNER: self.owner, WHY: why} if why else None)

    def _write_further(self, trial: FrozenTrial, number: int, value: dict[str, Any] | None) -> None:
        self.study.set_user_attr(f"{FURTHER} {trial.number} {number}", value)

    def _further(self) -> dict[tuple[int, int], dict[str, Any]]:
        """Return what is known of runs of the finals, by trial and number."""
        found = {}
        for name, value in self.study.user_attrs.items():
            word, *numbers = name.split()
            if word == FURTHER and value is not None:
                found[int(numbers[0]), int(numbers[1])] = value
        return dict(sorted(found.items()))


def runs_of(trial: FrozenTrial | Trial) -> list[Run]:
    """Return the runs of a trial so far."""
    return [Run.from_json(one) for one in trial.user_attrs.get(RUNS, ())]


@contextmanager
def opened(folder: Path, tunable: Tunable) -> Iterator[SharedStudy]:
    """Yield the study of a folder for this process, made where there is none, its first trials enqueued."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    with FileLock(folder / LOCK):
        study = _create(folder / DATABASE, tunable.sign, startup=tunable.usual + 1)
        if not study.get_trials(deepcopy=False):
            enqueue(study, tunable.first, usual=tunable.usual)
    with locked(folder / PROCESSES / owner), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield SharedStudy(folder, study, owner)


def enqueue(study: Study, first: Sequence[Mapping[str, Any]], *, usual: int) -> None:
    """Have a new study begin with these parameters, of which so many are defaults."""
    for number, params in enumerate(first):
        study.enqueue_trial(dict(params), user_attrs={USUAL: number < usual})


def _create(path: Path, sign: int, *, startup: int) -> Study:
    """Return the study in a database, a new one where it holds none; TPE draws at random before so many trials."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = WilcoxonPruner(p_threshold=PRUNED_BELOW)
    return optuna.create_study(
        study_name=NAME,
        storage=RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}}),
        sampler=TPESampler(n_startup_trials=startup),
        pruner=pruner,
        direction="maximize" if sign > 0 else "minimize",
        load_if_exists=True,
    )
