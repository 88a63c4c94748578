"""Counts the tokens of a text with a model's vocabulary, extended ones and a new one; goes on from a model with each.

    python benchmarks/vocabularies.py tokens --tokenizer MINILM --text builtin:python-docs --out vocabularies.jsonl
    python benchmarks/vocabularies.py runs --model RUN/model --text builtin:python-docs --out vocabularies.jsonl

`tokens`: a line for the vocabulary as it is, with 500, 2,000 and 8,000 pieces added, and a new one of each kind.
`runs`: a line for each run of 100 steps of `adapt` from MODEL: its vocabulary kept, 2,000 pieces added that begin as
means or from neighbours, a new vocabulary that begins in both ways. Losses are of whole words, 15% masked, in nats a
byte of the same held-out documents. Lines that stand in the file are left out, so that a run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.verbs.prepare import prepare
from bertwright.verbs.pretrain import pretrain

SIZES = (500, 2_000, 8_000)
ADDED, NEW = 2_000, 8_192
"""Pieces added, and tokens of a new vocabulary, for the runs."""
VOCABULARIES: dict[str, dict[str, Any]] = {
    "kept": {},
    **{f"+{size}": {"extend_vocab": size} for size in SIZES},
    **{f"new {kind}": {"new_tokenizer": True, "vocab_size": NEW, "kind": kind} for kind in ("wordpiece", "unigram")},
}
RUNS = {
    "kept": ("kept", "mean"),
    "extended, mean": (f"+{ADDED}", "mean"),
    "extended, neighbours": (f"+{ADDED}", "neighbours"),
    "new, mean": ("new wordpiece", "mean"),
    "new, neighbours": ("new wordpiece", "neighbours"),
}


def count_tokens(given: argparse.Namespace, name: str, folder: Path) -> dict[str, Any]:
    """Return what a vocabulary makes of the text."""
    began = time.perf_counter()
    report = prepare(given.text, folder / "data", tokenizer=given.tokenizer, language=given.language,
                     **VOCABULARIES[name])  # fmt: skip
    figures = ("vocab_size", "tokens", "tokens_per_word", "bytes_per_token", "unknown_rate", "vocabularies")
    kept = {figure: report[figure] for figure in figures if figure in report}
    return {**kept, "text_bytes": report["text_bytes"], "seconds": round(time.perf_counter() - began, 1)}


def go_on(given: argparse.Namespace, name: str, folder: Path) -> dict[str, Any]:
    """Return the held-out figures of a run before its first step and after its last."""
    vocabulary, vectors = RUNS[name]
    report = prepare(given.text, folder / "data", tokenizer=given.model, language=given.language,
                     valid_fraction=0.05, **VOCABULARIES[vocabulary])  # fmt: skip
    settings = {"objective": {"whole_word": True}, "engine": {"evaluation_rows": 512}, "seed": given.seed}
    figures = pretrain(
        folder / "data", folder / "run", init_from=given.model, new_vectors=vectors, steps=given.steps,
        settings=settings,
    )  # fmt: skip
    first = next(line for line in read_metrics(folder / "run" / "metrics.jsonl") if line.get("valid"))
    return {
        "steps": figures["steps"], "vocab_size": report["vocab_size"], "bytes_per_token": report["bytes_per_token"],
        "parameters": figures["parameters"], "begins": {"step": first["step"], **first["valid"]},
        "own_vocabulary": first.get("own_vocabulary"),
        "ends": figures["valid"], "seconds": figures["seconds"], "tokens": figures["tokens"],
    }  # fmt: skip


def missing(out: Path, wanted: list[str], key: dict[str, Any]) -> Iterator[str]:
    """Yield the names whose line is not yet in the file."""
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {line["name"] for line in lines if all(line.get(name) == value for name, value in key.items())}
    yield from (name for name in wanted if name not in done)


def main() -> None:
    """Measure what is asked for and not yet there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tokens", "runs"])
    parser.add_argument("--text", required=True)
    parser.add_argument("--language", default="en")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if (given.what == "tokens") != (given.tokenizer is not None) or (given.what == "runs") != (given.model is not None):
        parser.error("tokens goes with --tokenizer, and runs with --model")
    key = {"what": given.what, "text": Path(given.text).name}
    key |= {"seed": given.seed, "asked": given.steps} if given.what == "runs" else {}
    measure, names = (count_tokens, VOCABULARIES) if given.what == "tokens" else (go_on, RUNS)
    for name in missing(given.out, list(names), key):
        with tempfile.TemporaryDirectory() as scratch:
            found = measure(given, name, Path(scratch))
        with given.out.open("a") as file:
            file.write(json.dumps({**key, "name": name, **found}) + "\n")


if __name__ == "__main__":
    main()
