"""Turns questions into what a model's head is for: the word behind a [MASK], whether a text follows, or its task.

Nothing here imports torch before a model needs it: an exported one does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from bertwright.corpus.readers.characters import replace_surrogates
from bertwright.errors import UsageError
from bertwright.inference.base import Predictions
from bertwright.inference.inputs import InputFile
from bertwright.inference.predictors import open_predictor
from bertwright.inference.text_rows import MASK
from bertwright.reports.predictions import print_predictions, write_predictions
from bertwright.tasks.columns import ColumnsConfig
from bertwright.types import listed

if TYPE_CHECKING:
    from bertwright.device import Precision


def predict(
    model: Path | str,
    texts: Sequence[str] = (),
    *,
    pair: bool = False,
    input: Path | str | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    encoding: str | None = None,
    output: Path | str | None = None,
    top_k: int = 5,
    precision: Precision = "auto",
) -> Predictions:
    """Answer questions with the model of a Hugging Face or ONNX folder; print them as a table, or write JSON lines.

    A fine-tuned model does its task with texts or, with `pair`, two of them; an encoder-decoder translates, and a model
    of sentence vectors says how alike two texts are (see `open_predictor`).

    A text with [MASK] gives {"text", "predictions": for each [MASK] a list of [token, probability]}; a pair (two texts
    without [MASK], two texts with `pair`, or a line of `input` with a tab) gives {"first", "second", "next": the
    probability that the second follows}. `input` is a file of one question a line, a table of one a row (`text_column`
    and `pair_column` where the names of its columns do not say which they are), or "-" for stdin; the n-th prediction
    is that of the n-th line or row. Raises UsageError where a text is neither, CorpusError where a file cannot be read,
    and ModelError where the model lacks the head it needs.

    `precision` "auto" gives the labels of float32, and probabilities within 0.02, most of them by bfloat16 where the
    processor has it. `predict_to_file` is for more predictions than memory holds.
    """
    columns, predictions = ColumnsConfig(text=text_column, pair=pair_column, encoding=encoding), Predictions()
    chunks, file = stream_predictions(
        model, texts, pair=pair, input=input, columns=columns, top_k=top_k, precision=precision
    )
    if output is not None:
        write_predictions(_keep(chunks, predictions), Path(output), file=file)
        return predictions
    for chunk in chunks:
        predictions += chunk
        if "translation" in chunk[0]:  # a line each, so they are shown as they come
            print_predictions(chunk)
    if predictions and "translation" not in predictions[0]:
        print_predictions(predictions)
    return predictions


def predict_to_file(
    model: Path | str,
    texts: Sequence[str] = (),
    *,
    output: Path | str,
    pair: bool = False,
    input: Path | str | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    encoding: str | None = None,
    top_k: int = 5,
    precision: Precision = "auto",
) -> int:
    """Write the predictions of `predict` as they come, in the order of the questions and in bounded memory.

    The file is there whole or not at all; returns how many there are.
    """
    columns = ColumnsConfig(text=text_column, pair=pair_column, encoding=encoding)
    chunks, file = stream_predictions(
        model, texts, pair=pair, input=input, columns=columns, top_k=top_k, precision=precision
    )
    return write_predictions(chunks, Path(output), file=file)


def stream_predictions(
    model: Path | str,
    texts: Sequence[str] = (),
    *,
    pair: bool = False,
    input: Path | str | None = None,
    columns: ColumnsConfig,
    top_k: int = 5,
    precision: Precision = "auto",
) -> tuple[Iterator[Predictions], InputFile | None]:
    """Return the predictions of `predict`, chunk after chunk, and the file they are about, which knows its progress."""
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
    return predictor.stream(chain([first], questions)), file


def _keep(chunks: Iterable[Predictions], predictions: Predictions) -> Iterator[Predictions]:
    """Yield the chunks, and add each to `predictions`."""
    for chunk in chunks:
        predictions += chunk
        yield chunk
