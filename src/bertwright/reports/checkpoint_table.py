"""Turns RUN/checkpoints/step-N into tables of its step, its figures, and its files with their checksums."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertwright.checksums import DIGEST
from bertwright.errors import ModelError
from bertwright.files import human_bytes, read_json
from bertwright.log import Facts, ResultTable
from bertwright.result import Result

SHOWN: dict[str, tuple[str, str]] = {
    "step": ("step", ",d"),
    "tokens": ("tokens", ",d"),
    "epochs": ("epochs", ".3f"),
    "minutes": ("seconds", ".1f"),
    "loss, mean of late": ("mean_loss", ".4f"),
    "factor on the rate": ("rate_factor", ".4f"),
}
"""Rows of the table: the name in position.json, and how it is written."""
OF_RUN = ("size", "seed", "precision", "data fingerprint")
"""What the checkpoint keeps of its run, to be compared when it is resumed."""


def show_checkpoint(folder: Path) -> Result:
    """Return what a checkpoint holds; its checksums are those written down, `verify` compares them.

    Raises ModelError where its manifest.json or position.json is damaged.
    """
    try:
        saved, files = read_json(folder / "position.json"), read_json(folder / "manifest.json")["files"]
        facts = _facts(saved)
        rows = [[name, human_bytes(one["bytes"]), str(one[DIGEST])] for name, one in files.items()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"the checkpoint {folder} is damaged ({error}); take the one before") from error
    return Result(
        {"kind": "checkpoint", **saved, "files": files},
        Facts(f"{folder}, a checkpoint", facts),
        ResultTable("files", ["file", "size", "XXH3"], rows),
    )


def _facts(saved: Mapping[str, Any]) -> dict[str, str]:
    position, run = saved["position"], saved.get("identity") or {}
    facts = {
        name: format(position[key] / 60 if name == "minutes" else position[key], shape)
        for name, (key, shape) in SHOWN.items()
        if position.get(key) is not None
    }
    if saved.get("held_out") is not None:
        facts["held-out loss"] = f"{saved['held_out']:.4f}"
    if run.get("start"):
        facts["went on from"] = went_on_from(run["start"])
    return facts | {name: str(run[name]) for name in OF_RUN if name in run}


def went_on_from(start: Mapping[str, str]) -> str:
    """Return in words which model a run went on from.

    >>> went_on_from({"model_type": "bert", "sha256": "64feddf70ee5" + 52 * "0"})
    'bert, SHA-256 64feddf70ee5'
    """
    return f"{start['model_type']}, SHA-256 {start['sha256'][:12]}"
