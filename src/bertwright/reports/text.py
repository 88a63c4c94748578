"""Turns token ids into text a person can check: words apart, pieces of a word together, masks marked and in colour.

Colours only add to what the characters say, so that a file or a pipe shows the same: [MASK]→cat is a hidden "cat",
dog→cat one replaced by another, cat→cat one left as it is, and + joins the pieces of a word around such a place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.text import Text

from bertwright.types import Batch, MaskedBatch

SEGMENT_STYLES = ("default", "blue")
SPECIAL_STYLE = "bold magenta"
MASKED_STYLE, RANDOM_STYLE, KEPT_STYLE = "bold white on red", "bold black on yellow", "bold black on green"
LABELS = {
    "pairs": ("B continues A", "B comes from another document"),
    "ordered_pairs": ("A stands before B", "A and B are swapped"),
}
"""What the labels of pairs mean, by the kind of rows an objective needs."""


def sentence_text(tokens: Sequence[str], ids: np.ndarray, word_starts: np.ndarray) -> str:
    """Return one sentence: a blank before each word, nothing between the pieces of a word."""
    pieces = (
        (" " if start and place else "") + tokens[token]
        for place, (token, start) in enumerate(zip(ids.tolist(), word_starts.tolist(), strict=True))
    )
    return "".join(pieces)


def legend(mask: str) -> Text:
    """Return a line that explains the marks; `mask` is the string of the mask token."""
    line = Text("A ", style=SEGMENT_STYLES[0])
    line.append("B  ", SEGMENT_STYLES[1])
    for shown, style, meaning in (
        (f"{mask}→cat", MASKED_STYLE, "hidden"),
        ("dog→cat", RANDOM_STYLE, "replaced"),
        ("cat→cat", KEPT_STYLE, "to predict, left as it is"),
    ):
        line.append(shown, style)
        line.append(f" {meaning}   ", "default")
    return line


def row_title(batch: Batch, example: MaskedBatch, row: int, *, kind: str = "pairs") -> str:
    """Return the figures of one row in a line; `kind` is that of its pairs."""
    packed = "" if batch.documents is None else f" of {int(batch.documents[row].max())} documents"
    parts = [
        f"row {row}",
        f"{int(batch.attention_mask[row].sum())} tokens{packed}",
        f"{int(example.masked_weights[row].sum())} to predict",
    ]
    if batch.next_label is not None:
        label = int(batch.next_label[row])
        parts.append(f"label {label}: {LABELS[kind][label]}")
    return ", ".join(parts)


def row_text(batch: Batch, example: MaskedBatch, row: int, *, tokens: Sequence[str], mask_id: int) -> Text:
    """Return one row of a batch as the model sees it, with the true token beside each position to predict.

    The documents of a packed row stand on lines of their own.
    """
    line = Text()
    used = int(batch.attention_mask[row].sum())
    used_slots = example.masked_weights[row] > 0
    slots = (example.masked_positions[row][used_slots].tolist(), example.masked_labels[row][used_slots].tolist())
    asked = dict(zip(*slots, strict=True))
    true, seen = batch.input_ids[row].tolist(), example.input_ids[row].tolist()
    for place in range(used):
        special = not bool(batch.maskable[row, place])
        if place and batch.documents is not None and batch.documents[row, place] != batch.documents[row, place - 1]:
            line.append("\n")
        elif place and (special or bool(batch.word_starts[row, place])):
            line.append(" ")
        elif place in asked or place - 1 in asked:
            line.append("+", "dim")
        style = SPECIAL_STYLE if special else SEGMENT_STYLES[int(batch.token_type_ids[row, place])]
        if place not in asked:
            line.append(tokens[true[place]], style)
            continue
        kept = seen[place] == true[place]
        style = MASKED_STYLE if seen[place] == mask_id else KEPT_STYLE if kept else RANDOM_STYLE
        line.append(f"{tokens[seen[place]]}→{tokens[asked[place]]}", style)
    padding = len(true) - used
    if padding:
        line.append(f" (and {padding} of padding)", "dim")
    return line
