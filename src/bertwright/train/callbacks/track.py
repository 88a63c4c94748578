"""Turns lines of metrics.jsonl into curves of TensorBoard, Weights & Biases or MLflow, in files of the run's folder.

Nothing is sent anywhere, unless WANDB_MODE or MLFLOW_TRACKING_URI say so. A run that is resumed goes on in the same
curves.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from bertwright.errors import UsageError
from bertwright.files import read_json, write_json
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.config import TrackerName

IDENTITY = "track.json"
"""File in the folder of a run with the name that a tracker knows the run by."""
PROJECT = "bertwright"


class Tracker(Protocol):
    """What writes the curves of a run."""

    def log(self, step: int, numbers: Mapping[str, float], texts: Mapping[str, str]) -> None:
        """Write the numbers and texts of a step; those of the same or later steps, written before, no longer count."""
        ...

    def close(self) -> None:
        """Write what is left, and end."""
        ...


@dataclass
class TrackCallback(Callback):
    """Gives each new line of metrics.jsonl to a tracker; stands behind the callback that writes them."""

    tracker: Tracker
    _line: Mapping[str, Any] | None = field(default=None, init=False)

    def on_step(self, report: StepReport) -> None:
        """Write the last line, if it is new."""
        line = report.notes.get("line")
        if line is None or line is self._line:
            return
        self._line = line
        values = dict(flat(line))
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
        texts = {name: text_of(value) for name, value in values.items() if name not in numbers}
        self.tracker.log(int(numbers.pop("step")), numbers, texts)

    def close(self) -> None:
        """End the tracker."""
        self.tracker.close()


def require_tracker(name: TrackerName | None) -> None:
    """Raise UsageError where the package of a tracker is missing."""
    if name is not None and find_spec(name) is None:
        raise UsageError(f"--track {name} needs the package {name}; run: pip install 'bertwright[track]'")


def tracking(name: TrackerName | None, folder: Path, settings: Mapping[str, Any]) -> list[TrackCallback]:
    """Return the callback of a tracker for the run in `folder` with these settings; none where none is named."""
    return [] if name is None else [TrackCallback(TRACKERS[name](folder, dict(flat(settings, "."))))]


def flat(values: Mapping[str, Any], between: str = "/", prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values under joined names.

    >>> dict(flat({"loss": 2.5, "valid": {"mlm_loss": 2.0}}))
    {'loss': 2.5, 'valid/mlm_loss': 2.0}
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, between, f"{prefix}{name}{between}")
        else:
            yield f"{prefix}{name}", value


def text_of(value: Any) -> str:
    """Return a value that is no number as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def known_as(folder: Path) -> str | None:
    """Return the name that a tracker knows the run in `folder` by; None where it is new."""
    return read_json(folder / IDENTITY)["run"] if (folder / IDENTITY).is_file() else None


class TensorBoard:
    """Event files in RUN/tensorboard; `tensorboard --logdir RUN` shows them."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Note the settings, of a run that is new."""
        self.folder, self.last = folder / "tensorboard", -1
        self.settings = {} if self.folder.exists() else settings
        self.writer: Any = None

    def log(self, step: int, numbers: Mapping[str, float], texts: Mapping[str, str]) -> None:
        """Write a point on each curve; a step at or before the last one begins a file that takes their place."""
        if self.writer is None or step <= self.last:
            self.close()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from torch.utils.tensorboard import SummaryWriter
            self.writer = SummaryWriter(self.folder, purge_step=step)
            rows = "".join(f"| {name} | {text_of(value)} |\n" for name, value in self.settings.items())
            if rows:
                self.writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", step)
            self.settings = {}
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        for name, text in texts.items():
            self.writer.add_text(name, text, step)
        self.writer.flush()
        self.last = step

    def close(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()


WandBMode = Literal["online", "offline", "disabled", "shared"]


class WandB:
    """An offline run in RUN/wandb, which `wandb sync` sends; one that sends at once where WANDB_MODE is online."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Begin the run, or go on with it."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.name,
            id=known_as(folder),
            resume="allow",
            dir=folder,
            mode=cast(WandBMode, os.environ.get("WANDB_MODE", "offline")),
            config=dict(settings),
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )
        write_json(folder / IDENTITY, {"run": self.run.id})
        self.run.define_metric("*", step_metric="step")

    def log(self, step: int, numbers: Mapping[str, float], texts: Mapping[str, str]) -> None:
        """Write a row of the history, whose axis is `step`: a step may come again."""
        self.run.log({"step": step, **numbers, **texts})

    def close(self) -> None:
        """Finish the run."""
        self.run.finish(exit_code=int(sys.exc_info()[0] is not None))


class MLflow:
    """A run in the folder RUN/mlruns, or where MLFLOW_TRACKING_URI says."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Begin the run with its settings, or go on with it."""
        for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "MLFLOW_ALLOW_FILE_STORE"):
            os.environ.setdefault(name, "true")
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (folder.resolve() / "mlruns").as_uri()
        import mlflow

        self.client = mlflow.MlflowClient(tracking_uri=uri)
        self.run = known_as(folder)
        if self.run is None:
            known = self.client.get_experiment_by_name(PROJECT)
            experiment = known.experiment_id if known else self.client.create_experiment(PROJECT)
            self.run = self.client.create_run(experiment, run_name=folder.name).info.run_id
            write_json(folder / IDENTITY, {"run": self.run})
            for setting, value in settings.items():
                self.client.log_param(self.run, setting, text_of(value))
        self.client.update_run(self.run, status="RUNNING")

    def log(self, step: int, numbers: Mapping[str, float], texts: Mapping[str, str]) -> None:
        """Write a point on each curve; texts are files of the run."""
        for name, value in numbers.items():
            self.client.log_metric(self.run, name, value, step=step)
        for name, text in texts.items():
            self.client.log_text(self.run, text, f"{name}/step-{step}.txt")

    def close(self) -> None:
        """Mark the run as finished, or as ended by an error."""
        self.client.set_terminated(self.run, "FINISHED" if sys.exc_info()[0] is None else "KILLED")


TRACKERS: dict[TrackerName, Any] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
"""Trackers by the names of --track, which are those of their packages."""
