"""What models of any kind that are ready to answer have in common: questions in, predictions out, chunk by chunk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from bertwright.inference.questions import InputFile, Located, Question, task_questions
from bertwright.tasks.columns import ColumnsConfig

Predictions = list[dict[str, Any]]
"""One object a question, as `predict` writes it."""


class Predictor(ABC):
    """A model ready to answer; `open_predictor` returns one for a folder of any kind.

    head_type  what its head is about: "row", "token", "span", "choice" or "ranking" of a task, "vector", "translation";
               None where it fills masks and says whether one text follows another
    pairs      whether it has learned from pairs of texts; None where that is not known
    chunk      questions answered together: enough to find texts of similar length, few enough for any memory

    >>> # needs a model
    >>> predictor = open_predictor(Path("runs/sentiment/model"))  # doctest: +SKIP
    >>> predictor.predict([("A fine film.",)])[0]["label"]  # doctest: +SKIP
    'positive'
    """

    head_type: str | None = None
    pairs: bool | None = None
    chunk: int = 4096

    @abstractmethod
    def predict(self, questions: Sequence[Any]) -> Predictions:
        """Return the predictions of a model for questions of its kind (see `questions`), in order."""

    def questions(
        self, texts: Sequence[str], *, pair: bool = False, located: Iterable[Located] = ()
    ) -> Iterator[Question]:
        """Yield the questions that texts, or with `pair` two of them, and a file ask; raises as `task_questions`."""
        yield from task_questions(texts, pair=pair, located=located, head_type=self.head_type, pairs=self.pairs)

    def input_file(self, file: Path, columns: ColumnsConfig, *, pair: bool = False) -> InputFile:
        """Return the questions of a file to this model."""
        return InputFile(file, head_type=self.head_type, pairs=True if pair else self.pairs, columns=columns)

    def stream(self, questions: Iterable[Question]) -> Iterator[Predictions]:
        """Yield the predictions for questions, a chunk at a time, in order."""
        rest = iter(questions)
        while chunk := list(islice(rest, self.chunk)):
            yield self.predict(chunk)
