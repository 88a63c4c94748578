"""Turns the words after `bertwright predict` into a call of the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter


def predict_command(
    *texts: str,
    model: Path,
    pair: Annotated[bool, Parameter(negative="")] = False,
    input: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    output: Path | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    encoding: str | None = None,
    top_k: int = 5,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
) -> None:
    """Ask a model what its head is for: the word behind [MASK], whether one text follows another, or its task.

    Example: bertwright predict --model run/model "Return the [MASK] of the list."

    A fine-tuned model: bertwright predict --model runs/sentiment/model --input reviews.txt --output answers.jsonl

    A translation a line: bertwright predict --model runs/en-de/model --input news.en > news.de

    A model of sentence vectors says how alike two texts are.

    Two texts without [MASK] are a pair: bertwright predict --model run/model "It was late." "She went home."
    (of a ModernBERT pre-trained with next sentences: --model run/model-nsp)

    Parameters
    ----------
    texts
        Texts with [MASK] in place of the word to guess, or two texts without; for a fine-tuned model, any texts: for
        answer a question and its context, for choose a context and its choices.
    model
        Hugging Face BERT or ModernBERT folder, or an ONNX folder of `bertwright export`, which needs no torch.
    pair
        The two texts are one pair, even where they have [MASK]; models that have learned from pairs need not be told.
    input
        File of questions, one a line, a tab between the texts of a pair; - for stdin. Or a table, .tsv .csv .jsonl
        .parquet, one a row; for answer also SQuAD .json, for tag also .conll or a table of words that are cut. The n-th
        answer is of the n-th line.
    output
        Write the answers there as JSON lines instead of printing a table.
    text_column
        Column of the text in a table, or of the first text of a pair; told by its name where not given. In .conll the
        number of the column of words.
    pair_column
        Column of the second text of a pair.
    encoding
        Encoding of the files, such as gb18030 or cp1252; where not given, one other than UTF-8 is found and said.
    top_k
        Words to show for each [MASK].
    precision
        For fine-tuned models. fp32: float32 throughout. bf16: bfloat16 throughout. auto: the labels of float32, most
        of them found by bfloat16 where the processor has it.
    """
    from bertwright.verbs.predict import predict, predict_to_file

    asked: dict[str, Any] = {
        "pair": pair,
        "input": input,
        "text_column": text_column,
        "pair_column": pair_column,
        "encoding": encoding,
        "top_k": top_k,
        "precision": precision,
    }
    if output is None:
        predict(model, texts, **asked)
    else:
        predict_to_file(model, texts, output=output, **asked)
