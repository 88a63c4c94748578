"""Turns two RUN folders into what differs between them: settings, what they were made of, figures, course."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.errors import ModelError, UsageError
from bertwright.files import read_json
from bertwright.log import Lines, ResultTable
from bertwright.nested import read_toml
from bertwright.result import Result
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.train.callbacks.track import flat
from bertwright.train.diagnosis.folder_check import diagnose_run
from bertwright.verbs.calls.folder_kind import kind_of_folder, task_of_run

OF_MANIFEST = ("data", "fingerprint", "language", "unigram_entropy", "precision", "processes", "machine", "versions")
"""What of manifest.json is compared."""
Row = tuple[str, Any, Any]
"""A name, and its value in both runs; None where a run has none."""


def show_differences(first: Path, second: Path) -> Result:
    """Return what differs in settings and figures of two runs of one kind; raises ModelError where one is damaged."""
    for run in (first, second):
        if (kind := kind_of_folder(run)) != "run":
            raise UsageError(f"two things are compared where both are RUN folders, and {run} is a {kind} folder")
    tasks = [task_of_run(run) or "pretrain" for run in (first, second)]
    if tasks[0] != tasks[1]:
        raise UsageError(f"{first} is a run of {tasks[0]} and {second} one of {tasks[1]}; give two of the same kind")
    try:
        settings = list(differences(*(settings_of(run) for run in (first, second))))
        lines = [read_metrics(run / "metrics.jsonl") for run in (first, second)]
        figures = list(rows_of(*(figures_of(run, one) for run, one in zip((first, second), lines, strict=True))))
        course = rows_along(*lines)
        checks = {str(run): diagnose_run(run, one) for run, one in zip((first, second), lines, strict=True)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"{first} or {second} is damaged ({error!r}); bertwright verify says what is wrong") from error
    names = [first.name, second.name] if first.name != second.name else [str(first), str(second)]
    blocks: list[Any] = [
        ResultTable("settings that differ", ["", *names], [[name, text(one), text(two)] for name, one, two in settings])
        if settings
        else Lines(["no setting differs"]),
        ResultTable("figures", ["", *names, "difference"], [figure_row(*row) for row in figures]),
    ]
    if course:
        blocks.append(ResultTable("held-out MLM loss along training", ["after tokens", *names, "difference"], course))
    blocks += [Lines([f"{name}: {check}"], wrap=True) for name, check in checks.items() if check is not None]
    found: dict[str, Any] = {"settings": as_json(settings), "figures": as_json(figures)}
    found["loss_check"] = {name: str(check) for name, check in checks.items() if check is not None}
    return Result({"kind": "runs", "runs": [str(first), str(second)], **found}, *blocks)


def settings_of(run: Path) -> dict[str, Any]:
    """Return the settings of a run, and what it was made of, under joined names."""
    manifest = read_json(run / "manifest.json") if (run / "manifest.json").is_file() else {}
    made_of = {name: manifest[name] for name in OF_MANIFEST if name in manifest}
    return {**dict(flat(read_toml(run / "config.toml"), ".")), **dict(flat(made_of, "."))}


def differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[Row]:
    """Yield what has another value, or is in one of them alone."""
    for name in dict.fromkeys([*one, *two]):
        if one.get(name) != two.get(name):
            yield name, one.get(name), two.get(name)


def figures_of(run: Path, lines: list[dict[str, Any]]) -> dict[str, float]:
    """Return the numbers of result.json; of a run that is not done those of its last line and its last evaluation."""
    if (run / "result.json").is_file():
        found: Mapping[str, Any] = read_json(run / "result.json")
    else:
        found = {**(lines[-1] if lines else {})}
        found = {**found, "valid": next((line["valid"] for line in reversed(lines) if line.get("valid")), {})}
    return {name: value for name, value in flat(found) if isinstance(value, (int, float)) and value is not True}


def rows_of(one: Mapping[str, float], two: Mapping[str, float]) -> Iterator[Row]:
    """Yield the figures that both have, in the order of the first."""
    for name, value in one.items():
        if name in two:
            yield name, value, two[name]


def rows_along(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> list[list[str]]:
    """Return the held-out loss of both at up to five numbers of tokens that both have seen, on straight lines."""
    known = [
        [line for line in lines if "mlm_loss" in line.get("valid", {}) and "tokens" in line] for lines in (one, two)
    ]
    if min(map(len, known)) < 2:
        return []
    first = max(lines[0]["tokens"] for lines in known)
    last = min(lines[-1]["tokens"] for lines in known)
    if first >= last:
        return []
    places = np.linspace(first, last, 5)
    curves = [
        np.interp(places, [line["tokens"] for line in lines], [line["valid"]["mlm_loss"] for line in lines])
        for lines in known
    ]
    return [
        [f"{place:,.0f}", f"{a:.3f}", f"{b:.3f}", f"{b - a:+.3f}"] for place, a, b in zip(places, *curves, strict=True)
    ]


def figure_row(name: str, one: float, two: float) -> list[str]:
    """Return a figure of both runs and their difference as texts."""
    apart = f"{two - one:+,}" if isinstance(two - one, int) else f"{two - one:+.4g}"
    return [name, text(one), text(two), "" if one == two else apart]


def text(value: Any) -> str:
    """Return a value as a table shows it.

    >>> text(1234567), text(0.0012345678), text(None), text(True)
    ('1,234,567', '0.001235', '-', 'True')
    """
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def as_json(rows: list[Row]) -> dict[str, list[Any]]:
    """Return rows as JSON has them."""
    return {name: [one, two] for name, one, two in rows}
