"""What predictors of every kind have in common: questions in, predictions out, in order and a chunk at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from bertwright.errors import UsageError
from bertwright.inference.base import Predictions, Predictor
from bertwright.inference.embedder import Embedder
from bertwright.inference.predictors import SimilarityPredictor, TaskPredictor
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.multiple_choice.task import Choose
from bertwright.tasks.regression.task import Regress
from bertwright.tasks.text_encoder import TextEncoder


class Lengths(Predictor):
    """Predicts how long a text is, three at a time."""

    head_type, pairs, chunk = "row", False, 3

    def predict(self, questions: Sequence[tuple[str, ...]]) -> Predictions:
        """Return the length of each text."""
        return [{"text": text, "length": len(text)} for (text,) in questions]


def test_chunks_keep_the_order_of_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("".join("x" * length + "\n" for length in range(8)))
    predictor = Lengths()
    lines = predictor.input_file(file, ColumnsConfig())
    chunks = list(predictor.stream(predictor.questions(["first"], located=lines)))
    assert [len(chunk) for chunk in chunks] == [3, 3, 3]
    assert [one["length"] for chunk in chunks for one in chunk] == [5, *range(8)]
    assert lines.progress == pytest.approx(1.0)


def test_similarity_embeds_each_text_once() -> None:
    seen: list[str] = []

    def vectors(texts: list[str]) -> np.ndarray:
        seen.extend(texts)
        return np.array([[1.0, 0.0] if text == "a" else [0.0, 1.0] for text in texts])

    embedder = SimpleNamespace(vectors=vectors, folder=Path("model"))
    predictor = SimilarityPredictor(cast(Embedder, embedder))
    found = predictor.predict([("a", "b"), ("a", "a")])
    assert [one["similarity"] for one in found] == [0.0, 1.0]
    assert sorted(seen) == ["a", "b"]
    with pytest.raises(UsageError):
        predictor.predict([("a",)])


def test_questions_are_those_of_the_task() -> None:
    def of(task: Any) -> TaskPredictor:
        return TaskPredictor(task, cast(TextEncoder, None), lambda rows: np.zeros(0))

    assert list(of(Regress.from_labels(["score"])).questions(["a", "b"])) == [("a",), ("b",)]
    assert list(of(Regress.from_labels(["score"])).questions(["a", "b"], pair=True)) == [("a", "b")]
    assert list(of(Choose.from_labels(["choice"])).questions(["context", "one", "two"])) == [("context", "one", "two")]
