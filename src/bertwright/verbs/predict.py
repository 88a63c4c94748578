"""Turns questions into what a model's head is for: the word behind a [MASK], whether a text follows, or its task.

The work is in verbs/calls/predict_stream.py, which is imported by a call: --help does not wait for readers and arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, tee
from pathlib import Path
from typing import Any, Literal

from bertwright.flags import with_flags
from bertwright.result import ResultList


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
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    explain: bool = False,
) -> ResultList[dict[str, Any]]:
    """Do with a model what its head is for: the word behind [MASK], whether one text follows another, or its task.

    Returns an object for each question, in order. A text with [MASK] gives {"text", "predictions": for each [MASK] a
    list of [token, probability]}; a pair gives {"first", "second", "next": the probability that the second follows}; a
    fine-tuned model what its task is about, such as {"text", "label", "probability"} (see `open_predictor`). A model
    of sentence vectors gives the similarity of two texts.

    Parameters
    ----------
    model
        Hugging Face folder of an encoder, or an ONNX folder of `bertwright export`, which needs no torch.
    texts
        Texts with [MASK] in place of the word to guess, or two texts without, which are a pair; for a fine-tuned model,
        any texts: for answer a question and its context, for choose a context and its choices, for rank a query and
        its passages.
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
    explain
        Show what each word contributes to a prediction, in log-odds (or in the unit of a score), compared with the same
        text with all words masked: by integrated gradients, and by masking one word at a time. Of models that fill
        masks, tell next sentences, classify, regress, tag, answer, choose or rank.

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
    from bertwright.reports.predictions import shown, write_predictions
    from bertwright.verbs.calls.predict_stream import stream_predictions

    chunks, file = stream_predictions(
        model, texts, pair=pair, input=input, text_column=text_column, pair_column=pair_column, encoding=encoding,
        top_k=top_k, precision=precision, explain=explain,
    )  # fmt: skip
    if output is not None:
        chunks, kept = tee(chunks)
        write_predictions(chunks, Path(output), file=file)
        return ResultList(chain.from_iterable(kept))
    return shown([*chain.from_iterable(chunks)])
