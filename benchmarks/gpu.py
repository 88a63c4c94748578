"""Measures and checks everything that a CUDA card changes, in nine minutes, from a clone alone and without a network.

    python benchmarks/gpu.py --out gpu-results               # all parts in the order of their importance
    python benchmarks/gpu.py --out gpu-results --part base-512 --part packed
    python benchmarks/gpu.py --out gpu-results --part adapt  # longer ones, by name alone: adapt, fast-base, modern

It makes its own data. Every part is a process with a time limit, and fails by itself; the last parts are left out
where the minutes are used up, and that is said. OUT/results.json and OUT/table.txt are written anew after each part,
OUT/parts holds what each one found and its log. Without a card everything runs on the CPU at toy size (--toy), a
rehearsal whose figures mean nothing. Peers need transformers and accelerate; without them their cells say so. Ends with
0 if every part ran, else with 1. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

SLACK = 3
"""Times as long as on a card that a part may take at toy size, on a CPU that may have other work."""
USUAL = {
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "0",
    "GOMP_SPINCOUNT": "20000",
}
"""What parts find in their environment, where it is not set: no network, one card (the Trainer would take all), and
threads that sleep soon where they wait for others."""


@dataclass(frozen=True)
class Stage:
    """A part as the driver sees it.

    work      its function, as "module:function" of gpu_parts, and the arguments beside the part
    least     seconds below which it is not worth starting
    limit     seconds after which it is ended
    together  whether it may run beside others: it measures no time
    command   what is run instead of its function
    """

    name: str
    work: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    least: float = 20
    limit: float = 90
    together: bool = False
    command: tuple[str, ...] = ()


STAGES = (
    Stage("card", "card:card", least=5, limit=60),
    Stage("data", "making:data", least=20, limit=150),
    Stage("parity", "same:parity", limit=100, together=True),
    Stage("resume", "same:resume", limit=100, together=True),
    Stage("reads", "same:reads", limit=100, together=True),
    Stage("base-128", "speed:step", {"size": "base", "lengths": [128]}, least=60, limit=160),
    Stage("base-512", "speed:step", {"size": "base", "lengths": [512]}, least=60, limit=160),
    Stage("memory", "room:memory", limit=90),
    Stage("finetune", "speed:finetune", least=30, limit=90),
    Stage("predict", "speed:predict", limit=60),
    Stage("checkpoint", "saving:stall", least=35, limit=70),
    Stage("mini", "speed:step", {"size": "mini", "lengths": [128, 512]}, least=50, limit=120),
    Stage("packed", "speed:packed", least=45, limit=120),
)
"""The parts of the nine minutes, the most important first."""
MODERN = {"size": "base", "lengths": [128, 512], "recipe": "fast", "architecture": "modernbert"}
LONGER = (
    Stage("modern", "speed:step", MODERN, limit=400),
    Stage("fast-base", "long:fast_base", limit=400),
    Stage("adapt", "long:adapt", limit=600),
)
"""Parts that run by name alone."""


@dataclass
class Outcome:
    """What became of a part: done, failed, out of time, or left out, and why."""

    state: str
    why: str = ""
    seconds: float = 0.0


class Running:
    """A part at work, in a process group of its own."""

    def __init__(self, stage: Stage, out: Path, *, limit: float, toy: bool) -> None:
        self.stage, self.log, self.limit = stage, out / "parts" / f"{stage.name}.log", limit
        inside = [__file__, "--inside", stage.name, "--out", str(out), "--minutes", str(limit / 60)]
        inside += ["--toy"] if toy else []
        (out / "parts" / f"{stage.name}.json").unlink(missing_ok=True)
        environment = {**USUAL, "TORCHINDUCTOR_CACHE_DIR": str(out / "work" / "compiled"), **os.environ}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                stage.command or [sys.executable, *inside],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self.began = time.monotonic()

    def outcome(self) -> Outcome:
        """Wait for its end, no longer than its limit from its start, and return what became of it."""
        try:
            code = self.process.wait(max(0.0, self.began + self.limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.end()
            return Outcome("out of time", f"ended after {self.limit:.0f} s", round(time.monotonic() - self.began, 1))
        self.end()
        seconds = round(time.monotonic() - self.began, 1)
        return Outcome("failed", last_line(self.log), seconds) if code else Outcome("done", seconds=seconds)

    def end(self) -> None:
        """End it and all that it started."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


def last_line(log: Path) -> str:
    """Return the last line that a part has said."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def run_stages(
    stages: Sequence[Stage], out: Path, *, minutes: float, toy: bool, told: Callable[[dict[str, Outcome]], None]
) -> dict[str, Outcome]:
    """Run the parts in order within the minutes; return what became of each. `told` hears of it after each one."""
    ends, outcomes = time.monotonic() + 60 * minutes, dict[str, Outcome]()
    left = list(stages)
    while left:
        wave = [left.pop(0)]
        while not toy and wave[0].together and left and left[0].together:
            wave.append(left.pop(0))
        seconds = ends - time.monotonic()
        running: list[Running] = []
        for stage in wave:
            if outcomes.get("data", Outcome("done")).state != "done" and stage.name != "card":
                outcomes[stage.name] = Outcome("left out", "there are no data")
            elif seconds < stage.least:
                outcomes[stage.name] = Outcome("left out", f"{seconds:.0f} s were left, and it needs {stage.least:.0f}")
            else:
                print(f"{stage.name} ...", file=sys.stderr, flush=True)
                limit = min(stage.limit * (SLACK if toy else 1), seconds)
                running.append(Running(stage, out, limit=limit, toy=toy))
        try:
            for one in running:
                outcomes[one.stage.name] = one.outcome()
        finally:
            for one in running:
                one.end()
        told(outcomes)
    return outcomes


def report(out: Path, outcomes: dict[str, Outcome], *, began: float, toy: bool) -> str:
    """Write results.json and table.txt from what the parts have left; return the table."""
    found = {name: part_file(out, name) for name in outcomes}
    parts = {
        name: {"state": one.state, "why": one.why, "seconds": one.seconds, **found[name]}
        for name, one in outcomes.items()
    }
    whole = {"toy": toy, "seconds": round(time.monotonic() - began, 1), "parts": parts}
    write(out / "results.json", json.dumps(whole, indent=1) + "\n")
    table = table_of(parts, toy=toy)
    write(out / "table.txt", table)
    return table


def part_file(out: Path, name: str) -> dict[str, Any]:
    """Return what a part has written so far; nothing where it has not."""
    try:
        return dict(json.loads((out / "parts" / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def write(file: Path, text: str) -> None:
    """Write a file so that it is never there in part."""
    beside = file.with_suffix(".part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, file)


def table_of(parts: dict[str, dict[str, Any]], *, toy: bool) -> str:
    """Return all cells as lines: the part, what was measured, ours, the peer's, how many times that, and remarks."""
    header = ["part", "what", "ours", "peer", "times", "", "remarks"]
    rows = [header]
    for name, part in parts.items():
        for cell in part.get("cells", []):
            verdict = {True: "ok", False: "NOT OK"}.get(cell.get("good"), "")
            values = [shown(cell.get(key, "")) for key in ("ours", "peer", "times")]
            values[0] = f"{values[0]} {cell.get('unit', '')}".strip()
            rows.append([name, cell["what"], *values, verdict, cell.get("also", "")])
        if part["state"] != "done":
            rows.append([name, part["state"].upper(), "", "", "", "", part["why"]])
    widths = [max(len(row[at]) for row in rows) for at in range(len(header) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]
    said = ["toy size, on the CPU: a rehearsal, whose figures mean nothing", ""] if toy else []
    return "\n".join([*said, *head(parts.get("card", {})), *(line.rstrip() for line in lines)]) + "\n"


def head(card: dict[str, Any]) -> list[str]:
    """Return lines on the machine and the versions."""
    if "versions" not in card:
        return []
    versions = ", ".join(f"{name} {number or '-'}" for name, number in card["versions"].items())
    card_said = ", ".join(f"{name} {value}" for name, value in (card.get("nvidia_smi") or {}).items())
    peak = card.get("maker_flops")
    return [
        f"{card['name']} ({card['device']}, {card['precision']}), {card['cores']} cores, CUDA {card['cuda']}",
        *([card_said] if card_said else []),
        *([f"peak {peak / 1e12:,.0f} TFLOP/s, dense: {card['maker_source']}"] if peak else []),
        f"{versions}; commit {card['commit'] or 'unknown'}",
        "",
    ]


def shown(value: Any) -> str:
    """Return a value as the table has it.

    >>> shown(12345.67), shown(0.000012), shown("no card")
    ('12,346', '1.2e-05', 'no card')
    """
    if isinstance(value, float) and value:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def work_inside(stage: Stage, out: Path, *, minutes: float, toy: bool) -> None:
    """Do the work of a part, in its own process, which will be ended after so many minutes."""
    ends = time.monotonic() + 60 * minutes
    from gpu_parts.part import Part

    sys.path.append(str(Path(__file__).parent / "peers"))
    module, _, function = stage.work.partition(":")
    part = Part(out / "work", toy, out / "parts" / f"{stage.name}.json", ends)
    getattr(import_module(f"gpu_parts.{module}"), function)(part, **stage.arguments)


def chosen(names: Sequence[str]) -> list[Stage]:
    """Return the parts to run: all of the nine minutes, or those named, with the card and the data before them."""
    stages = {stage.name: stage for stage in (*STAGES, *LONGER)}
    if not names:
        return list(STAGES)
    return [stages[name] for name in dict.fromkeys(["card", "data", *names])]


def has_data(out: Path, *, toy: bool) -> bool:
    """Say whether an earlier call has left data of this size, whole."""
    return part_file(out, "data").get("toy") == toy and (out / "work" / "task" / "model" / "config.json").is_file()


def main() -> int:
    """Run what is asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [stage.name for stage in (*STAGES, *LONGER)]
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder of the results")
    parser.add_argument("--minutes", type=float, help="for all parts together: 9, and as many as named ones may take")
    parser.add_argument("--part", action="append", default=[], choices=names, help="this part alone; several times")
    parser.add_argument("--toy", action="store_true", help="toy size, as without a card")
    parser.add_argument("--inside", choices=names, help=argparse.SUPPRESS)
    given = parser.parse_args()
    out = given.out.resolve()
    if given.inside:
        stage = next(one for one in (*STAGES, *LONGER) if one.name == given.inside)
        work_inside(stage, out, minutes=given.minutes, toy=given.toy)
        return 0
    for folder in ("parts", "work"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    stages, began = chosen(given.part), time.monotonic()
    minutes = given.minutes or (sum(stage.limit for stage in stages) / 20 if given.part else 9)
    outcomes, toy = dict[str, Outcome](), given.toy

    def told(more: dict[str, Outcome]) -> None:
        outcomes.update(more)
        report(out, outcomes, began=began, toy=toy)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_stages(stages[:1], out, minutes=minutes, toy=toy, told=told)
        toy = toy or part_file(out, "card").get("device") != "cuda"
        if given.part and "data" not in given.part and has_data(out, toy=toy):
            stages = [stage for stage in stages if stage.name != "data"]
        run_stages(stages[1:], out, minutes=minutes - (time.monotonic() - began) / 60, toy=toy, told=told)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    for stage in stages:
        outcomes.setdefault(stage.name, Outcome("left out", "the benchmark was stopped"))
    print(report(out, outcomes, began=began, toy=toy))
    return 0 if all(one.state == "done" for one in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
