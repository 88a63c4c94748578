"""Turns questions into what a model's head is for: the word behind a [MASK], whether a text follows, or its task.

Nothing here imports torch before a model needs it: an exported one does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, tee
from pathlib import Path
from typing import Any, Literal

from bertwright.corpus.readers.characters import replace_surrogates
from bertwright.errors import UsageError
from bertwright.flags import with_flags
from bertwright.inference.base import Predictions
from bertwright.inference.predictors import open_predictor
from bertwright.inference.questions import InputFile
from bertwright.inference.text_rows import MASK
from bertwright.reports.predictions import shown, write_predictions
from bertwright.result import ResultList
from bertwright.tasks.columns import ColumnsConfig
from bertwright.types import listed

Precision = Literal["auto", "bf16", "fp32"]


@with_flags("predict")
def predict(
    model: Path | str,
    texts: Sequence[str] = (),
    *,
    pair: bool = False,
    input: Path | str | None = None,
    output: Path | str | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    encoding: str | None = None,
    top_k: int = 5,
    precision: Precision = "auto",
) -> ResultList[dict[str, Any]]:
    """Do with a model what its head is for: the word behind [MASK], whether one text follows another, or its task.

    Returns an object for each question, in order. A text with [MASK] gives {"text", "predictions": for each [MASK] a
    list of [token, probability]}; a pair gives {"first", "second", "next": the probability that the second follows}; a
    fine-tuned model what its task is about, such as {"text", "label", "probability"} (see `open_predictor`). A model
    of sentence vectors gives the similarity of two texts.

    Parameters
    ----------
    model
        Hugging Face BERT or ModernBERT folder, or an ONNX folder of `bertwright export`, which needs no torch.
    texts
        Texts with [MASK] in place of the word to guess, or two texts without, which are a pair; for a fine-tuned model,
        any texts: for answer a question and its context, for choose a context and its choices.
    pair
        The two texts are one pair, even where they have [MASK]; models that have learned from pairs do not need it.
    input
        File of questions, one a line, a tab between the texts of a pair; - for stdin. Or a table, .tsv .csv .jsonl
        .parquet, one a row; for answer also SQuAD .json, for tag also .conll or a table of words that are cut. The n-th
        prediction is that of the n-th line or row.
    output
        Write the predictions there as JSON lines instead of printing a table.
    text_column
        Column of the text in a table, or of the first text of a pair; found by its name where not given. In .conll the
        number of the column of words.
    pair_column
        Column of the second text of a pair.
    encoding
        Encoding of the files, such as gb18030 or cp1252; where not given, one other than UTF-8 is detected and
        reported.
    top_k
        Words to show for each [MASK].
    precision
        For fine-tuned models. fp32: float32 throughout. bf16: bfloat16 throughout. auto: the labels of float32, and
        probabilities within 0.02, most of them by bfloat16 where the processor has it.

    Raises
    ------
    UsageError
        Where a text is none of what the model reads.
    CorpusError
        Where a file cannot be read.
    ModelError
        Where the model lacks the head it needs, or its folder is damaged.

    Examples
    --------
    >>> # needs a model
    >>> predict("run/model", ["Return the [MASK] of the list."])[0]["predictions"][0][0]  # doctest: +SKIP
    ("length", 0.31)
    """
    columns = ColumnsConfig(text=text_column, pair=pair_column, encoding=encoding)
    chunks, file = stream_predictions(
        model, texts, pair=pair, input=input, columns=columns, top_k=top_k, precision=precision
    )
    if output is not None:
        chunks, kept = tee(chunks)
        write_predictions(chunks, Path(output), file=file)
        return ResultList(chain.from_iterable(kept))
    return shown([*chain.from_iterable(chunks)])


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
