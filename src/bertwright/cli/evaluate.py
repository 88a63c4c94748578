"""The verb `evaluate`: figures of a trained model on held-out data."""

from __future__ import annotations

from pathlib import Path


def evaluate_command(
    kind: str,
    *,
    model: Path,
    data: Path,
    split: str = "valid",
    length: int = 128,
    rows: int = 4096,
    whole_word: bool = False,
) -> None:
    """Judge a pre-trained model on held-out data.

    Example:
        bertwright evaluate mlm --model runs/en/model --data data/en

    Parameters
    ----------
    kind
        mlm: loss (nats) and accuracy at masked tokens. nsp: does the second segment follow the first?
    model
        Hugging Face BERT folder.
    data
        DATA folder prepared with the same tokenizer.
    split
        valid or train.
    length
        Tokens a row.
    rows
        Rows to judge on, at most one pass over the split.
    whole_word
        Mask whole words instead of single tokens.
    """
    from bertwright.recipes.evaluate import evaluate

    evaluate(kind, model, data, split=split, length=length, rows=rows, whole_word=whole_word)
