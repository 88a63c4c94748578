"""Runs that take minutes of their own: `fast` at base for three minutes, and going on from a model on another text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from gpu_parts.making import other_text
from gpu_parts.part import Part

from bertwright.verbs.pretrain import pretrain

HERE = Path(__file__).parent


def fast_base(part: Part) -> None:
    """Train recipe fast at base for three minutes; tell the curve of the loss, tokens/s and MFU."""
    run, length = part.folder / "fast-base", part.length(128)
    settings: dict[str, Any] = {
        "size": part.size("base"),
        "schedule": {
            "minutes": 0.3 if part.toy else 3.0,
            "phases": [{"length": length, "rows": part.rows(length), "share": 1.0}],
        },
        "engine": {"evaluations": 10, "evaluation_rows": 64 if part.toy else 512},
    }
    figures = pretrain(part.data, run, recipe="fast", settings=settings, overwrite=run.exists())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    curve = [
        {name: line[name] for name in ("step", "seconds", "tokens", "loss", "valid", "mfu") if name in line}
        for line in lines
    ]
    part.tell(curve=curve, result={name: figures[name] for name in ("steps", "seconds", "valid", "tokens_per_second")})
    _summary(part, f"fast {figures.get('size', part.size('base'))}, {settings['schedule']['minutes']} minutes", figures)


def adapt(part: Part) -> None:
    """Go on from a base model, trained first for a while, on text of another domain for three minutes."""
    out, length = part.folder / "adapt.jsonl", part.length(128)
    out.unlink(missing_ok=True)
    words: list[Any] = ["--make", part.size("base"), "--make-minutes", 0.15 if part.toy else 2]
    words += ["--data", other_text(part), "--general", part.data, "--minutes", 0.15 if part.toy else 3]
    words += ["--rows", part.rows(length), "--length", length, "--out", out]
    command = [sys.executable, HERE.parent / "adapt.py", *words]
    subprocess.run([str(word) for word in command], check=True)
    line = json.loads(out.read_text(encoding="utf-8").splitlines()[-1])
    part.tell(line=line)
    _summary(part, f"adapt, {part.size('base')}, {line['minutes']} minutes", line)
    for name, text in line["before_after"]["texts"].items():
        before, after = (text[when]["nats_per_token"] for when in ("before", "after"))
        part.cell(f"held-out loss on {name}, {text['role']}", after, unit="nats", also=f"before: {before}")


def _summary(part: Part, what: str, figures: dict[str, Any]) -> None:
    """Add what a run reached."""
    flops = figures["mfu"] * figures["peak_flops"]
    part.cell(f"{what}: held-out loss", round(figures["valid"]["mlm_loss"], 4), unit="nats",
              also=f"{figures['steps']:,} steps")  # fmt: skip
    part.cell(f"{what}: speed", round(figures["tokens_per_second"], 1), unit="tokens/s", also=f"MFU {part.mfu(flops)}")
