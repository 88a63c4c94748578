"""Measures how many questions a second a model answers: in float32, as `predict` does, and exported, side by side.

A turn is the whole way from texts to answers, opening the model left out; sides take turns, figures are medians.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from bertwright.device import has_bfloat16, pick_device
from bertwright.hub.onnx.onnx_folder import is_onnx_folder
from bertwright.hub.task_folder import head_type_of
from bertwright.inference.base import Predictions, Predictor
from bertwright.inference.predictors import open_predictor
from bertwright.inference.questions import Question
from bertwright.log import ResultTable, note
from bertwright.result import Result
from bertwright.rng import stream
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.verbs.calls.measuring.bench_result import bench_result
from bertwright.verbs.export import export


def bench_predict(
    model: Path | str,
    *,
    input: Path | None = None,
    encoding: str | None = None,
    sentences: int = 1000,
    turns: int = 3,
    out: Path | None = None,
) -> Result:
    """Measure answers a second with a MODEL or ONNX folder, on the lines of `input`, and how far the sides agree.

    Without `input` the questions are `sentences` runs of 4 to 60 of the model's own words. A fine-tuned model is asked
    in float32, as `predict` does, and exported where onnxruntime is installed; a pre-trained one fills masks.
    """
    folder = Path(model)
    with tempfile.TemporaryDirectory() as scratch:
        sides = _sides(folder, Path(scratch))
        predictor = next(iter(sides.values()))
        questions = _questions(folder, input, sentences, predictor=predictor, encoding=encoding)
        note(f"{len(questions):,} questions, {', '.join(sides)}; {turns} turns")
        speeds, answers = _timed(sides, questions, turns)
    medians = {name: round(median(of), 1) for name, of in speeds.items()}
    figures: dict[str, Any] = {
        "what": f"predict with {folder}, {len(questions):,} questions{f' of {input}' if input else ''}",
        "sentences_per_second": medians.get("predict", next(iter(medians.values()))),
        "sides": medians,
        "turns": {name: [round(speed, 1) for speed in of] for name, of in speeds.items()},
        "agreement": _agreement(answers),
    }
    return bench_result(figures["what"], figures, _table(figures), pick_device(), out)


def _sides(folder: Path, scratch: Path) -> dict[str, Predictor]:
    """Return the predictors that are measured; the others are compared with the first."""
    if is_onnx_folder(folder):
        return {"ONNX": open_predictor(folder)}
    if not folder.is_dir() or head_type_of(folder) is None:
        return {"predict": open_predictor(folder)}
    sides = {"float32": open_predictor(folder, precision="fp32")}
    if has_bfloat16(pick_device()):
        sides["predict"] = open_predictor(folder)
        sides["bfloat16"] = open_predictor(folder, precision="bf16")
    if find_spec("onnx") and find_spec("onnxruntime"):
        export(folder, scratch / "float32")
        export(folder, scratch / "int8", quantize="int8")
        for name in ("float32", "int8"):
            sides[f"ONNX {name}"] = open_predictor(scratch / name)
    return sides


def _questions(
    folder: Path, input: Path | None, sentences: int, *, predictor: Predictor, encoding: str | None
) -> list[Question]:
    if input is not None:
        file = predictor.input_file(Path(input), ColumnsConfig(encoding=encoding))
        return list(predictor.questions((), located=file))
    texts = own_words(load_tokenizer(folder), sentences)
    return [(text,) for text in texts] if predictor.head_type else [f"[MASK] {text}" for text in texts]


def own_words(tokenizer: Tokenizer, sentences: int) -> list[str]:
    """Return so many runs of 4 to 60 words of a vocabulary, the same each time."""
    random = stream("bench predict", 0)
    words = [token for token in tokenizer.tokens if token.isalpha()] or tokenizer.tokens
    lengths = random.integers(4, 61, size=sentences).tolist()
    return [" ".join(words[place] for place in random.integers(len(words), size=length)) for length in lengths]


def _timed(
    sides: dict[str, Predictor], questions: Sequence[Question], turns: int
) -> tuple[dict[str, list[float]], dict[str, Predictions]]:
    """Return questions a second of each turn of each side, and its answers; a first turn of 64 warms up."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    answers: dict[str, Predictions] = {}
    for predictor in sides.values():
        predictor.predict(questions[:64])
    for _ in range(turns):
        for name, predictor in sides.items():
            began = time.perf_counter()
            answers[name] = [one for chunk in predictor.stream(questions) for one in chunk]
            speeds[name].append(len(questions) / (time.perf_counter() - began))
    return speeds, answers


def _agreement(answers: dict[str, Predictions]) -> dict[str, dict[str, float]]:
    """Return for each side but the first the share of labels like its, and the largest change of a probability."""
    first, *others = answers
    if "label" not in answers[first][0] or not others:
        return {}
    return {
        name: {
            "labels": sum(a["label"] == b["label"] for a, b in _both(answers, first, name)) / len(answers[first]),
            "largest_change": max(
                abs(a["probabilities"][label] - b["probabilities"][label])
                for a, b in _both(answers, first, name)
                for label in a["probabilities"]
            ),
        }
        for name in others
    }


def _both(answers: dict[str, Predictions], first: str, other: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return list(zip(answers[first], answers[other], strict=True))


def _table(figures: dict[str, Any]) -> ResultTable:
    """Return speed and agreement of each side, a row a side."""
    speeds: dict[str, float] = figures["sides"]
    first = next(iter(speeds.values()))
    rows = []
    for name, speed in speeds.items():
        agreed = figures["agreement"].get(name)
        cells = ["", ""] if agreed is None else [f"{agreed['labels']:.2%}", f"{agreed['largest_change']:.4f}"]
        rows.append([name, f"{speed:,.0f}", f"{speed / first:.2f}", *cells])
    header = ["", "questions a second", "times the first", "labels that agree", "largest change"]
    return ResultTable(figures["what"], header, rows)
