"""Measures distillation from end to end: teachers over the defaults, students, quality and speed side by side.

    python benchmarks/distill.py --model MODEL --tasks TASKS --out OUT
    python benchmarks/distill.py --model MODEL --tasks TASKS --out OUT --variants projected general --data DATA

TASKS is a folder with sst2/, subjectivity/, agnews/ and conll2003/. SST-2 is chosen on its dev and looked at on its
test; CoNLL-2003, of which there is no test here, on a tenth of its training file and on its dev. Each part is a JSON
line in OUT/results.jsonl, with its figures and its seconds; parts that stand there are left out, and a run that was
stopped goes on from its checkpoint, so that the same command goes on where it stopped. The line of a student says which
fraction of its teacher's figure it keeps, and how many times as fast it is, in float32 and in 8-bit integers, all
measured in one run, the models taking turns. `--rows N` takes the first N rows or sentences of each file: a trial.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bertwright.device import machine, pick_device
from bertwright.verbs.distill import distill
from bertwright.verbs.finetune import finetune

KEEPS, TIMES = 0.97, 2.0
"""What is to be kept of the teacher's figure, and at how many times its speed."""


@dataclass(frozen=True)
class TaskFiles:
    """A task, its files below TASKS, texts without labels, and the figure it is measured by."""

    task: str
    metric: str
    train: str
    dev: str | None
    test: str
    texts: tuple[str, ...]


TASKS = {
    "sst2": TaskFiles(
        "classify", "accuracy", "sst2/train.tsv", "sst2/dev.tsv", "sst2/test.tsv", ("subjectivity/train.tsv",)
    ),
    "conll2003": TaskFiles("tag", "f1", "conll2003/train.conll", None, "conll2003/dev.conll", ("agnews/train.tsv",)),
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """How a student comes about: its flags, its texts, and whether a student of general use comes before."""

    flags: dict[str, Any]
    texts: bool = True
    general: bool = False


VARIANTS = {
    "projected": Variant({}),
    "projected, labelled rows alone": Variant({}, texts=False),
    "projected, states too": Variant({"hidden": 0.1, "relations": 1.0}),
    "general": Variant({}, general=True),
    "drawn": Variant({"start": "noise"}),
}


class Parts:
    """The file of JSON lines, a part each."""

    def __init__(self, file: Path) -> None:
        """Read the parts that are done."""
        self.file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        self.done: dict[str, dict[str, Any]] = {one["part"]: one for one in map(json.loads, lines)}

    def run(self, part: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the figures of a part, done now or before."""
        if part not in self.done:
            began = time.perf_counter()
            figures = work()
            line = {"part": part, "seconds": round(time.perf_counter() - began, 1), **figures}
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            self.done[part] = line
            print(json.dumps(line), flush=True)
        return self.done[part]


def resumes(out: Path) -> dict[str, Any]:
    """Return the flag that goes on with a run that was stopped, or replaces one that never began."""
    if not out.exists():
        return {}
    begun = any((out / "checkpoints").glob("step-*"))
    return {"resume": True} if begun and (out / "config.toml").is_file() else {"overwrite": True}


def first_rows(file: Path, rows: int | None, out: Path) -> Path:
    """Return a file, or its first rows or sentences in a file of their own."""
    if rows is None:
        return file
    lines, short = (
        file.read_text(encoding="utf-8").splitlines(keepends=True),
        out / f"{rows}-{file.parent.name}-{file.name}",
    )
    if file.suffix == ".tsv":
        chosen = lines[: rows + 1]
    else:
        blanks = [number for number, line in enumerate(lines) if not line.strip()]
        chosen = lines[: blanks[min(rows, len(blanks)) - 1] + 1]
    out.mkdir(parents=True, exist_ok=True)
    short.write_text("".join(chosen), encoding="utf-8")
    return short


def teacher_of(files: TaskFiles, args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Fine-tune the model over the defaults; return its figures."""
    result = finetune(
        files.task, args.model, first_rows(args.tasks / files.train, args.rows, args.out / "files"),
        args.tasks / files.dev if files.dev else None, out, test=args.tasks / files.test, **resumes(out),
    )  # fmt: skip
    return {split: result[split] for split in ("dev", "test")} | {"trained_seconds": result["seconds"]}


def general_student(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Pre-train a student of general use; return its losses."""
    shape = {"layers": args.layers, "width": args.width}
    result = distill("pretrain", args.model, out, data=args.data, minutes=args.minutes, **shape, **resumes(out))
    return {"valid": result["valid"], "steps": result["steps"], "tokens": result["tokens"]}


def student_of(
    files: TaskFiles, variant: Variant, args: argparse.Namespace, out: Path, *, teacher: Path, general: Path
) -> dict[str, Any]:
    """Distill a student of a task; return its figures beside the teacher's."""
    shape = {} if variant.general else {"layers": args.layers, "width": args.width}
    texts = (
        [first_rows(args.tasks / text, args.rows, args.out / "files") for text in files.texts] if variant.texts else []
    )
    result = distill(
        files.task, teacher, out, train=first_rows(args.tasks / files.train, args.rows, args.out / "files"),
        dev=args.tasks / files.dev if files.dev else None, test=args.tasks / files.test, text=texts,
        student=general if variant.general else None, epochs=args.epochs, int8=True,
        **{**shape, **variant.flags, **({"learning_rate": args.learning_rate} if args.learning_rate else {})},
        **resumes(out),
    )  # fmt: skip
    kept = result["kept"]
    met = kept[f"student_{files.metric}"] >= KEEPS and kept["student_speed"] >= TIMES
    return {
        "student": result["student"], "texts": result["texts"], "sides": result["sides"], "kept": kept,
        "trained_seconds": result["seconds"], "keeps_97_percent_at_twice_the_speed": met,
    }  # fmt: skip


def main() -> None:
    """Run the parts that are not done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="MiniLM, 6 layers of 384, or another encoder")
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="for `general`: text prepared with the model's tokenizer")
    parser.add_argument("--names", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--variants", nargs="+", default=["projected"], choices=list(VARIANTS))
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=288)
    parser.add_argument("--epochs", type=float, default=6.0)
    parser.add_argument("--learning-rate", type=float, help="of students; by their width where not given")
    parser.add_argument("--minutes", type=float, default=20.0, help="of pre-training a student of general use")
    parser.add_argument("--rows", type=int, help="of each training file, for a trial")
    args = parser.parse_args()
    parts = Parts(args.out / "results.jsonl")
    parts.run("machine", lambda: dict(machine(pick_device())))
    general = args.out / "general"
    if any(VARIANTS[name].general for name in args.variants):
        if args.data is None:
            parser.error("general needs --data, prepared with --tokenizer MODEL")
        parts.run("general student", lambda: general_student(args, general))
    for name in args.names:
        files, teacher = TASKS[name], args.out / f"{name}-teacher"
        parts.run(f"{name}, teacher", partial(teacher_of, files, args, teacher))
        models = {"teacher": teacher / "model", "general": general / "model"}
        for chosen in args.variants:
            out = args.out / f"{name}-{chosen.replace(', ', '-').replace(' ', '-')}"
            parts.run(f"{name}, {chosen}", partial(student_of, files, VARIANTS[chosen], args, out, **models))
    seconds = sum(float(one["seconds"]) for one in parts.done.values())
    print(json.dumps({"part": "all", "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    main()
