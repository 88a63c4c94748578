"""Shows on a card that has little memory left that a step is computed in the parts that fit, and learns the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from gpu_parts.part import GIGABYTE, Part

from bertwright.device import pick_device
from bertwright.errors import OutOfMemoryError
from bertwright.nested import merge, read_toml
from bertwright.train.setup import step_parts
from bertwright.verbs.pretrain import pretrain

STEPS = 12


def memory(part: Part) -> None:
    """Train with all of the memory, then with little: refused as it is, and with --batch-size auto in parts."""
    rows, length = (16, 32) if part.toy else (256, 128)
    settings: dict[str, Any] = {
        "size": part.size("mini"),
        "model": {"dropout": 0.0, "attention_dropout": 0.0},  # on a GPU each part has a dropout of its own
        "schedule": {"steps": STEPS, "phases": [{"length": length, "rows": rows, "share": 1.0}]},
        "engine": {"compile": False, "log_every": 1, "evaluations": 1, "evaluation_rows": 16, "precision": "fp32"},
    }
    whole = losses(part, "room-whole", settings)
    used, total = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0, 0
    what = f"{settings['size']}, {rows} rows of {length}"
    if pick_device().type == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        part.cell(f"{what}: memory of the whole step", round(used / GIGABYTE, 2), unit="GB")
        fraction, step_parts.SPARE = 0.6 * used / total, 0.0  # a share of the whole card would be more than that
        torch.cuda.set_per_process_memory_fraction(fraction)
        part.tell(bytes_whole=used, bytes_allowed=round(fraction * total))
        try:
            losses(part, "room-refused", settings)
            part.cell(f"{what}: with 60% of that", "it ran", good=False)
        except OutOfMemoryError as error:
            part.cell(f"{what}: with 60% of that", "named", also=str(error), good=True)
    wanted = "auto" if pick_device().type == "cuda" else 4  # nothing is too large for a CPU here
    cut = losses(part, "room-auto", merge(settings, {"engine": {"parts": wanted}}))
    parts = read_toml(part.folder / "room-auto" / "config.toml")["engine"]["parts"]
    apart = max(abs(one - other) for one, other in zip(whole, cut, strict=True))
    part.cell(
        f"{what}: parts {wanted}, {STEPS} steps", round(apart, 6), unit="nats from the whole step's",
        also=f"in {parts} parts", good=apart < 0.005,
    )  # fmt: skip


def losses(part: Part, name: str, settings: dict[str, Any]) -> list[float]:
    """Return the loss of each step of a run of recipe classic."""
    run: Path = part.folder / name
    pretrain(part.data, run, recipe="classic", settings=settings, overwrite=run.exists())
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
