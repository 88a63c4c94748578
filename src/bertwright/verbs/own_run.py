"""Turns a model and a DATA folder into the rows it is evaluated on: those of its own run, if that was on this data.

A run evaluates its model on rows of its own length, so many of them, of pairs or of single segments. `evaluate` on the
same data takes the same rows, or says why its figures are others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bertwright.data.pretraining.dataset import folder_names
from bertwright.errors import BertwrightError
from bertwright.files import read_json
from bertwright.hub.nsp_folder import FOLDER
from bertwright.train.setup.pretrain_config import PretrainConfig, resume_settings

Kind = Literal["mlm", "nsp"]
LENGTH, ROWS = 128, 4096
"""Of the rows on which a model is evaluated that has no run on the data."""
MODELS = ("model", FOLDER)
"""Folders of a run that hold its model."""
BROKEN = (BertwrightError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class OwnRun:
    """A run that trained the model on the data, and its last figures on held-out rows of that data."""

    folder: Path
    config: PretrainConfig
    figures: Mapping[str, float]
    precision: str


@dataclass(frozen=True)
class HeldOutRows:
    """Held-out rows: how long, how many at most, and whether whole words are masked in them; pairs for "nsp"."""

    kind: Kind
    length: int
    count: int
    whole_word: bool

    def __str__(self) -> str:
        """Return them in words."""
        pairs = "sentence pairs" if self.kind == "nsp" else "single segments"
        masks = "whole words" if self.whole_word else "single tokens"
        return f"up to {self.count:,} rows of {self.length} tokens, {pairs}, {masks} masked"


def rows_of_run(run: OwnRun) -> HeldOutRows:
    """Return the rows on which a run has evaluated its model."""
    config = run.config
    return HeldOutRows(
        "nsp" if "nsp" in config.objective.chosen else "mlm",
        config.schedule.phases[0].length,
        config.engine.evaluation_rows,
        config.objective.whole_word,
    )


def choose_rows(
    kind: Kind, run: OwnRun | None, *, length: int | None, count: int | None, whole_word: bool | None
) -> HeldOutRows:
    """Return the rows to evaluate on: what is not given is as in the `run`, or as for any model where there is none."""
    usual = HeldOutRows(kind, LENGTH, ROWS, False) if run is None else rows_of_run(run)
    return HeldOutRows(
        kind,
        usual.length if length is None else length,
        usual.count if count is None else count,
        usual.whole_word if whole_word is None else whole_word,
    )


def find_own_run(model: Path, fingerprint: str) -> OwnRun | None:
    """Return the run that wrote a MODEL folder, if it evaluated on the data of this fingerprint; None elsewhere."""
    run = model.resolve().parent
    if model.resolve().name not in MODELS or not all((run / name).is_file() for name in ("config.toml", "result.json")):
        return None
    try:
        config, manifest = resume_settings(run, {}), read_json(run / "manifest.json")
        valid = _figures_on(fingerprint, manifest, config, read_json(run / "result.json")["valid"])
        return None if valid is None else OwnRun(run, config, valid, str(manifest["precision"]))
    except BROKEN:  # a run of another kind, or not whole: its model is evaluated all the same
        return None


def _figures_on(
    fingerprint: str, manifest: Mapping[str, Any], config: PretrainConfig, valid: Mapping[str, float]
) -> dict[str, float] | None:
    """Return what of the figures of a run is about the data of a fingerprint; None where nothing is."""
    if manifest["fingerprint"] == fingerprint:
        return dict(valid)
    prints = [one["fingerprint"] for one in manifest.get("mixture", {}).values()]
    if fingerprint not in prints:
        return None
    name = folder_names(config.folders(Path(manifest["data"])))[prints.index(fingerprint)]
    return {figure.removeprefix(f"{name}/"): value for figure, value in valid.items() if figure.startswith(f"{name}/")}


def compared(rows: HeldOutRows, run: OwnRun, figures: Mapping[str, float]) -> str:
    """Return the figures that the run itself printed, beside these, and why they are others where they may be."""
    known = {name: run.figures[name] for name in figures if name in run.figures}
    if not known:
        return ""
    printed = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in known.items())
    theirs = rows_of_run(run)
    if rows == theirs:
        why = "" if run.precision == "fp32" else f"; the run computed in {run.precision}, and here it is float32"
        return f"the same rows and masks as in {run.folder}, which ended with {printed}{why}"
    same = " (leave out --length, --num-rows and --whole-word)" if rows.kind == theirs.kind else ""
    return (
        f"{run.folder} ended with {printed}, on other rows: {theirs}; here {rows}. "
        f"`evaluate {theirs.kind}`{same} takes its rows"
    )
