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
    """Judge a pre-trained model.

    Example:
        bertwright evaluate mlm --model runs/en/model --data data/en
        bertwright evaluate minimal-pairs --model runs/en/model --data blimp.jsonl.zst

    Parameters
    ----------
    kind
        mlm: loss (nats) and accuracy at masked tokens. nsp: does the second segment follow the first?
        minimal-pairs: how often is the good sentence of a pair likelier than the bad one?
    model
        Hugging Face BERT or ModernBERT folder.
    data
        DATA folder prepared with the same tokenizer; for minimal-pairs a .jsonl file of "good" and "bad".
    split
        valid or train.
    length
        Tokens a row.
    rows
        Rows to judge on, at most one pass over the split; for minimal-pairs, pairs, evenly spread over the file.
    whole_word
        Mask whole words instead of single tokens.
    """
    from bertwright.recipes.evaluate import evaluate

    evaluate(kind, model, data, split=split, length=length, rows=rows, whole_word=whole_word)
