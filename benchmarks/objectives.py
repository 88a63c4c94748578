"""Pre-trains one model an objective in the same wall-clock time, and compares them on the same held-out text and tasks.

    python benchmarks/objectives.py --data data --out objectives.jsonl --runs runs --pairs blimp.jsonl.zst --minutes 5
    python benchmarks/objectives.py --data data --out objectives.jsonl --runs runs --pairs blimp.jsonl.zst \
        --minutes 20 --seeds 0 1 2 --compile --only "masks and NSP" span --tasks tasks --task sst2 conll2003

Every run is a `pretrain` of its own, uncompiled, so that none reads code that another has compiled; or, with --compile,
compiled, after 20 steps that are thrown away and whose compiled code the timed run reads. Held-out text is masked
alike for all: 15%, 80/10/10, single tokens, and whole words. One JSON line a run, written when it is evaluated; runs
that stand in the file are left out, and those that are trained (in RUNS) are only evaluated, so that the same command
goes on where it stopped. Prints a table: means over seeds and, of several, their standard deviations. What an
objective cannot be asked (a discriminator scores no words) is null, with the reason.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertwright.hub.encoder_folder import GENERATOR

PHASES = "[{length = 128, rows = 32, share = 0.25, causal = true}, {length = 128, rows = 32, share = 0.75}]"
MASK_PHASES = "[{rate = 0.3, share = 0.6}, {rate = 0.15, share = 0.3}, {rate = 0.05, share = 0.1}]"
ELECTRA = (
    *("--model.architecture", "electra", "--model.init", "noise", "--model.neighbour-start", "true"),
    *("--model.sinusoidal-start", "true"),
)
VARIANTS: dict[str, tuple[str, ...]] = {
    "masks and NSP": ("--objective.names", '["mlm", "nsp"]'),
    "masks alone": ("--objective.names", '["mlm"]'),
    "whole words": ("--objective.names", '["mlm", "nsp"]', "--objective.whole-word", "true"),
    "span": ("--objective.names", '["span", "nsp"]'),
    "span, boundary": ("--objective.names", '["span", "nsp"]', "--objective.options.span.boundary", "true"),
    "ngram": ("--objective.names", '["ngram", "nsp"]'),
    "macbert": ("--objective.names", '["macbert", "nsp"]'),
    "30, 15, 5%": ("--objective.names", '["mlm", "nsp"]', "--objective.mask-phases", MASK_PHASES),
    "uncertain": ("--objective.names", '["uncertain", "nsp"]'),
    "masks and SOP": ("--objective.names", '["mlm", "sop"]'),
    "causal first": ("--objective.names", '["mlm", "nsp"]', "--schedule.phases", PHASES),
    "rtd": ("--objective.names", '["rtd"]', *ELECTRA),
    "masks alone, start of rtd": ("--objective.names", '["mlm"]', *ELECTRA[2:]),
}
"""Flags of `pretrain` over the recipe, by name; the last one is what rtd is to be compared with."""
KINDS = {"sst2": ("classify", "tsv", "accuracy"), "chnsenticorp": ("classify", "tsv", "accuracy"),
         "conll2003": ("tag", "conll", "f1"), "msra_ner": ("tag", "conll", "f1")}  # fmt: skip
"""Of each task: the kind of `finetune`, the suffix of its files, and its figure."""
HELD_OUT = {"single": ("--no-whole-word",), "whole_words": ("--whole-word",)}
"""Flags of `evaluate mlm`, which masks as the run did where none is given."""


def call(*words: Any) -> dict[str, Any]:
    """Return what a verb prints as JSON; raises RuntimeError with its last line where it fails."""
    given = [sys.executable, "-m", "bertwright", *(str(word) for word in words), "--json"]
    ran = subprocess.run(given, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(ran.stderr.strip().splitlines()[-1] if ran.stderr.strip() else f"exit code {ran.returncode}")
    figures: dict[str, Any] = json.loads(ran.stdout)
    return figures


def asked(*words: Any) -> dict[str, Any]:
    """Return the figures of a verb, or why there are none."""
    try:
        return call(*words)
    except RuntimeError as error:
        return {"refused": str(error)}


def trained(options: argparse.Namespace, name: str, seed: int) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a run and its result; trains it where that is not done."""
    budget = ("--steps", options.steps) if options.steps else ("--minutes", options.minutes)
    words = [options.data.name, options.recipe, options.size, f"{budget[1]:g}", budget[0][2:], f"seed {seed}", name]
    words += ["compiled"] if options.compile else []
    run = options.runs / " ".join(words).translate(str.maketrans(" ", "-", ",%"))
    if not (run / "result.json").exists():
        shutil.rmtree(run, ignore_errors=True)
        given = ["--data", options.data, "--recipe", options.recipe, "--size", options.size, "--seed", seed]
        given += ["--engine.compile", str(options.compile).lower(), *VARIANTS[name]]
        if options.compile:
            with tempfile.TemporaryDirectory() as folder:
                call("pretrain", *given, "--steps", 20, "--out", Path(folder) / "run")
        call("pretrain", *given, *budget, "--out", run)
    result: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return run, result


def finetuned(options: argparse.Namespace, run: Path, task: str, seed: int) -> float:
    """Return the figure of a model after fine-tuning on a task: on test where there is one, else on dev."""
    kind, suffix, figure = KINDS[task]
    folder, out = options.tasks / task, run / task
    if not (out / "result.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        test = folder / f"test.{suffix}"
        files = ["--train", folder / f"train.{suffix}", "--dev", folder / f"dev.{suffix}"]
        files += ["--test", test] if test.exists() else []
        call(
            "finetune", kind, "--model", run / "model", *files, "--out", out, "--epochs", options.epochs, "--seed", seed
        )
    seen = json.loads((out / "result.json").read_text(encoding="utf-8"))["seeds"][0]
    return float(seen.get("test", seen["dev"])[figure])


def evaluated(options: argparse.Namespace, run: Path, seed: int) -> dict[str, Any]:
    """Return the figures of a model: held-out text masked in two ways, minimal pairs, tasks."""
    model = run / "model"
    asked_words = run / GENERATOR if (run / GENERATOR).is_dir() else model  # of ELECTRA, the generator knows words
    rows = ("--model", asked_words, "--data", options.data, "--length", 128, "--num-rows", 1024)
    figures: dict[str, Any] = {what: asked("evaluate", "mlm", *rows, *flags) for what, flags in HELD_OUT.items()}
    if options.pairs is not None:
        pairs = ("--model", model, "--data", options.pairs, "--num-rows", options.num_pairs)
        figures["minimal_pairs"] = asked("evaluate", "minimal-pairs", *pairs)
    return figures | {task: finetuned(options, run, task, seed) for task in options.task}


def lines_of(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of figures."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def column(lines: Sequence[dict[str, Any]], *path: str) -> str:
    """Return the mean of a figure over seeds, with its standard deviation; a dash where some have none."""
    values = []
    for line in lines:
        value: Any = line
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        values.append(value)
    if any(value is None for value in values):
        return "-"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}"


def table(lines: list[dict[str, Any]], tasks: Sequence[str]) -> str:
    """Return the table of runs that are alike but for objective and seed."""
    heads = {
        "nats, single tokens": ("single", "mlm_loss"),
        "accuracy": ("single", "mlm_accuracy"),
        "nats, whole words": ("whole_words", "mlm_loss"),
        "minimal pairs": ("minimal_pairs", "accuracy"),
        **{task: (task,) for task in tasks},
    }
    rows = ["| objective | seeds | steps | " + " | ".join(heads) + " |", "|---" * (3 + len(heads)) + "|"]
    for name in VARIANTS:
        mine = [line for line in lines if line["objective"] == name]
        if mine:
            steps = round(statistics.fmean(line["steps"] for line in mine))
            cells = " | ".join(column(mine, *path) for path in heads.values())
            rows.append(f"| {name} | {len(mine)} | {steps:,} | {cells} |")
    return "\n".join(rows)


def main() -> None:
    """Run what is asked for and not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--steps", type=int, help="steps in place of minutes, to try it out")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], help="none prints the table of what is there")
    parser.add_argument("--compile", action="store_true", help="compiled steps, compiled before the timed run")
    parser.add_argument("--recipe", default="classic-fast")
    parser.add_argument("--size", default="mini")
    parser.add_argument("--pairs", type=Path, help="file of minimal pairs, such as BLiMP")
    parser.add_argument("--num-pairs", type=int, default=4096)
    parser.add_argument("--tasks", type=Path, help="folder with a folder for each task")
    parser.add_argument("--task", nargs="+", choices=list(KINDS), default=[])
    parser.add_argument("--epochs", type=float, default=3)
    options = parser.parse_args()
    what = {
        "data": options.data.name, "recipe": options.recipe, "size": options.size, "minutes": options.minutes,
        "most_steps": options.steps, "tasks": options.task, "compiled": options.compile,
    }  # fmt: skip
    failed: list[str] = []
    for seed in options.seeds:
        for name in options.only:
            key = {**what, "objective": name, "seed": seed}
            if any(key.items() <= line.items() for line in lines_of(options.out)):
                continue
            began = time.perf_counter()
            try:
                run, result = trained(options, name, seed)
            except RuntimeError as error:  # the others are trained all the same
                failed.append(name)
                print(f"{name}, seed {seed}: {error}", file=sys.stderr, flush=True)
                continue
            kept = {figure: result.get(figure) for figure in ("steps", "tokens", "seconds")}
            line = {**key, **kept, **evaluated(options, run, seed)}
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{name}, seed {seed}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print(table([line for line in lines_of(options.out) if what.items() <= line.items()], options.task))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
