"""Measures steps, fine-tuning and predicting beside the peers, in paired turns, and packed rows beside padded ones."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from gpu_parts.part import GIGABYTE, Part, missing_peer
from turns import Side, take_turns

from bertwright.nested import merge

HERE = Path(__file__).parent
OURS, TRAINER, FINETUNE = (
    HERE / "our_side.py",
    HERE.parent / "peers" / "trainer.py",
    HERE.parent / "peers" / "finetune.py",
)
TURNS = 3
FULL_ROWS: dict[str, Any] = {"data": {"fill_rows": True, "pack": True}}
"""Rows full of text, as the Trainer's are; but a token attends to its own document alone."""
LIKE_THE_PEER = merge(FULL_ROWS, {"objective": {"next_sentence": False}, "model": {"attention_dropout": 0.0}})
"""Of recipe classic: masked words alone, 15% of them, dropout 0.1 but for attention, as the Trainer has it here."""


def steps_of(part: Part, size: str) -> int:
    """Return the steps of a turn, by the memory of the card, which grows with its speed."""
    return 3 if part.toy else (200 if size == "mini" else 40) * part.rows(128) // 256


def our_step(part: Part, size: str, length: int, rows: int, *, recipe: str, settings: dict[str, Any]) -> list[Any]:
    """Return the command of our side."""
    phases = {"schedule": {"phases": [{"length": length, "rows": rows, "share": 1.0}]}}
    whole = merge(settings, {"size": part.size(size), "engine": {"compile": not part.toy}} | phases)
    words = [OURS, "step", "--data", part.data, "--recipe", recipe, "--settings", json.dumps(whole)]
    return [*words, "--warm", 3 if part.toy else 10, "--turn-steps", steps_of(part, size)]


def their_step(part: Part, size: str, length: int, rows: int, *, architecture: str) -> list[Any]:
    """Return the command of the Trainer: bf16, fused AdamW, compiled, batches made ahead in two processes."""
    words = [TRAINER, "--data", part.data, "--size", part.size(size), "--length", length, "--rows", rows]
    words += ["--architecture", architecture, "--turn-steps", steps_of(part, size)]
    return [*words, "--attention-dropout", 0, *([] if part.toy else ["--compile", "--workers", 2])]


def step(part: Part, size: str, lengths: Sequence[int], *, recipe: str = "classic", architecture: str = "bert") -> None:
    """Measure steps of a size at some lengths beside the Trainer's on the same rows, all sides in turn."""
    settings = LIKE_THE_PEER if recipe == "classic" else FULL_ROWS
    commands: dict[str, list[Any]] = {}
    for length in map(part.length, lengths):
        rows = part.rows(length)
        commands[f"ours {length}"] = our_step(part, size, length, rows, recipe=recipe, settings=settings)
        if not missing_peer():
            commands[f"peer {length}"] = their_step(part, size, length, rows, architecture=architecture)
    sides = take_turns(commands, 2 if part.toy else TURNS, seconds=part.seconds_left)
    part.tell(sides={name: side.figures() for name, side in sides.items()})
    for length in map(part.length, lengths):
        ours, peer = sides[f"ours {length}"], sides.get(f"peer {length}")
        what = f"{recipe} {part.size(size)}, {part.rows(length)} rows of {length}"
        beside(part, what, ours, peer, name="tokens", unit="tokens/s")
        if ours.turns:
            flops, tokens = ours.rate("flops") or 0.0, ours.rate("tokens") or 1.0
            theirs = peer and peer.rate("tokens")
            part.cell(f"{what}: MFU", part.mfu(flops), peer=part.mfu(theirs * flops / tokens) if theirs else None)
        if ours.memory:
            memory = {"peer": round(peer.memory / GIGABYTE, 1)} if peer and peer.turns else {}
            part.cell(f"{what}: memory", round(ours.memory / GIGABYTE, 1), **memory, unit="GB")


def beside(part: Part, what: str, ours: Side, peer: Side | None, *, name: str, unit: str) -> None:
    """Add the cell of a rate of ours beside the peer's, with what the warm-up of each took, and what failed."""
    rates = [rate_of(ours, name), missing_peer() if peer is None else rate_of(peer, name)]
    ready = [f"{side.ready:.0f} s" if side and side.ready else "-" for side in (ours, peer)]
    part.cell(what, rates[0], peer=rates[1], unit=unit, also=f"warm after {ready[0]}, peer {ready[1]}")


def rate_of(side: Side, name: str) -> float | str:
    """Return what a side did a second, or that it failed."""
    rate = side.rate(name)
    return f"failed: {side.failure}" if rate is None else round(rate, 1)


def packed(part: Part) -> None:
    """Measure packed rows beside padded ones, in real tokens."""
    length = part.length(512)
    rows, sides = part.rows(length), {}
    for name, pack in (("packed", True), ("padded", False)):
        settings = {"data": {"fill_rows": False, "pack": pack}}
        sides[name] = our_step(part, "mini", length, rows, recipe="fast", settings=settings)
    taken = take_turns(sides, 2 if part.toy else TURNS, seconds=part.seconds_left)
    part.tell(sides={name: side.figures() for name, side in taken.items()})
    what = f"fast {part.size('mini')}, {rows} rows of {length}: packed, padded beside it"
    beside(part, what, taken["packed"], taken["padded"], name="tokens", unit="real tokens/s")


def finetune(part: Part) -> None:
    """Measure fine-tuning steps beside the Trainer's, on the same file and model, 32 texts a step."""
    turn = ["--turn-steps", 5 if part.toy else 40]
    train = part.folder / "train.tsv"
    words = ["--model", part.folder / "model", "--train", train]
    commands = {"ours": [OURS, "finetune", *words, "--warm", 3 if part.toy else 10, *turn]}
    if not missing_peer():
        commands["peer"] = [FINETUNE, "classify", *words, "--dev", part.folder / "few.tsv", *turn]
    sides = take_turns(commands, 2 if part.toy else TURNS, seconds=part.seconds_left)
    part.tell(sides={name: side.figures() for name, side in sides.items()})
    examples = sum(1 for _ in train.open(encoding="utf-8")) - 1
    for one in sides["ours"].turns:
        one["examples"] = one["epochs"] * examples
    what = f"classify, {part.size('base')}, 32 texts a step"
    beside(part, what, sides["ours"], sides.get("peer"), name="examples", unit="examples/s")
    part.cell(f"{what}: MFU", part.mfu(sides["ours"].rate("flops")))


def predict(part: Part) -> None:
    """Measure predictions at our defaults beside the pipeline of transformers at its best type and batch size."""
    from bertwright.inference.predictors import open_predictor

    texts = (part.folder / "texts.txt").read_text(encoding="utf-8").splitlines()
    predictor = open_predictor(part.folder / "task" / "model")
    predictor.predict([(text,) for text in texts[:64]])
    speeds: dict[str, list[float]] = {"ours": []}
    ask = None if missing_peer() else best_pipeline(part, texts)
    answers: dict[str, list[str]] = {}
    for _ in range(2 if part.toy else TURNS):
        began = time.perf_counter()
        answers["ours"] = [one["label"] for chunk in predictor.stream([(text,) for text in texts]) for one in chunk]
        speeds["ours"].append(len(texts) / (time.perf_counter() - began))
        if ask is not None:
            speed, answers["peer"] = ask(texts)
            speeds.setdefault("peer", []).append(speed)
    part.tell(texts_per_second=speeds)
    same = sum(map(str.__eq__, answers["ours"], answers["peer"])) / len(texts) if ask else None
    part.cell(
        f"predict, {part.size('base')}, {len(texts):,} texts", round(median(speeds["ours"]), 1),
        peer=round(median(speeds["peer"]), 1) if ask else missing_peer(), unit="texts/s",
        also=f"{same:.1%} of the labels are the peer's" if ask else "", good=same > 0.99 if ask else None,
    )  # fmt: skip


def best_pipeline(part: Part, texts: list[str]) -> Any:
    """Return what asks the pipeline, at the type and batch size that are fastest on some of the texts."""
    import pipeline

    opened = pipeline.open_pipelines(str(part.folder / "task" / "model"), list(pipeline.TYPES))
    some = texts[:: max(1, len(texts) // (50 if part.toy else 500))]
    sizes = (8, 32) if part.toy else (32, 128, 512)
    swept = {
        (name, size): pipeline.speed_of(ask, some, batch=size)[0] for name, ask in opened.items() for size in sizes
    }
    name, size = max(swept, key=swept.__getitem__)
    part.tell(pipeline={"type": name, "batch": size, "swept": {f"{a} {b}": round(v, 1) for (a, b), v in swept.items()}})
    return lambda given: pipeline.speed_of(opened[name], given, batch=size)
