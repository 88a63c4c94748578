"""Turns the call of `predict` into its predictions, chunk after chunk, so that memory does not grow with their number.

Nothing here imports torch before a model needs it: an exported one does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from bertwright.corpus.readers.characters import replace_surrogates
from bertwright.errors import UsageError
from bertwright.inference.base import Predictions, Predictor
from bertwright.inference.predictors import open_predictor
from bertwright.inference.questions import InputFile, Question
from bertwright.inference.text_rows import MASK
from bertwright.tasks.columns import ColumnsConfig
from bertwright.types import listed

if TYPE_CHECKING:
    from bertwright.device import Precision


def stream_predictions(
    model: Path | str,
    texts: Sequence[str] = (),
    *,
    pair: bool = False,
    input: Path | str | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    encoding: str | None = None,
    top_k: int = 5,
    precision: Precision = "auto",
    explain: bool = False,
) -> tuple[Iterator[Predictions], InputFile | None]:
    """Return the predictions of `predict`, chunk after chunk, and the file they are about, which knows its progress."""
    columns = ColumnsConfig(text=text_column, pair=pair_column, encoding=encoding)
    texts = [replace_surrogates(text) for text in listed(texts)]
    if top_k < 1:
        raise UsageError(f"--top-k {top_k} asks for no words; give 1 or more")
    if columns.names() and input is None:
        raise UsageError("--text-column and --pair-column name columns of a table; give one with --input FILE")
    predictor = open_predictor(Path(model), top_k=top_k, precision=precision)
    file = None if input is None else predictor.input_file(Path(input), columns, pair=pair)
    questions = predictor.questions(texts, pair=pair, located=file or ())
    first = next(questions, None)
    if first is None:
        example = "a TEXT" if predictor.head_type else f'a TEXT such as "Paris is the {MASK} of France."'
        raise UsageError(f"nothing to answer: give {example}, or --input FILE with one a line")
    every = chain([first], questions)
    return (_explained(Path(model), predictor, every) if explain else predictor.stream(every)), file


def _explained(model: Path, predictor: Predictor, questions: Iterator[Question]) -> Iterator[Predictions]:
    """Yield predictions, each with its "explanations", a question at a time: an explanation takes many passes."""
    from bertwright.inspection.explain import open_explainer

    explainer = open_explainer(model)
    for question in questions:
        [prediction] = predictor.predict([question])
        texts = (question,) if isinstance(question, str) else question
        yield [{**prediction, "explanations": explainer.explain(texts, prediction)}]
