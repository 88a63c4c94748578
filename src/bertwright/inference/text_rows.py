"""Turns texts given by a person into rows of token ids, [MASK] in them masked.

These are the rows of prediction: nothing is cut, since an answer about half a text is no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import InputError
from bertwright.tokenizer.load import Tokenizer

MASK = "[MASK]"
"""What a person writes, whatever the tokenizer calls its mask token."""


@dataclass(frozen=True)
class TextRow:
    """One text, or one pair, as the model reads it: [CLS] A [SEP] or [CLS] A [SEP] B [SEP]."""

    input_ids: list[int]
    token_type_ids: list[int]


def frame(place: int, segments: Sequence[str], *, tokenizer: Tokenizer, positions: int) -> TextRow:
    """Return the row of one or two segments, [MASK] in them masked; raises InputError where it is past `positions`."""
    special = tokenizer.special
    ids, types = [special.cls], [0]
    for kind, segment in enumerate(segments):
        tokens = [*_with_masks(segment, tokenizer), special.sep]
        ids += tokens
        types += [kind] * len(tokens)
    if len(ids) > positions:
        raise InputError(
            f'text {place + 1} ("{segments[0][:40]}...") is {len(ids):,} tokens long but the model reads {positions}; '
            "split or shorten it"
        )
    return TextRow(input_ids=ids, token_type_ids=types)


def _with_masks(text: str, tokenizer: Tokenizer) -> list[int]:
    """Put the mask id between the parts of `text`: not every tokenizer recognises [MASK] inside running text."""
    first, *others = text.split(MASK)
    ids = tokenizer.encode(first)
    for part in others:
        ids += [tokenizer.special.mask, *tokenizer.encode(part)]
    return ids


def labelled(rows: Sequence[TextRow], *, tokenizer: Tokenizer, mask: bool) -> LabelledRows:
    """Return rows as batches are cut from, asked about at every mask token, or with `mask` false at [CLS]."""
    special = tokenizer.special
    asked = [[at for at, index in enumerate(row.input_ids) if index == special.mask] if mask else [0] for row in rows]
    firsts = [row.token_type_ids.index(1) if 1 in row.token_type_ids else len(row.input_ids) for row in rows]
    counts = np.array([len(places) for places in asked], dtype=np.int64)
    return LabelledRows(
        ids=np.array([index for row in rows for index in row.input_ids], dtype=np.uint32),
        lengths=np.array([len(row.input_ids) for row in rows], dtype=np.int64),
        first_lengths=np.array(firsts, dtype=np.int64),
        positions=np.array([place for places in asked for place in places], dtype=np.int64),
        num_targets=counts,
        targets=np.zeros(int(counts.sum()), dtype=np.int64),
        pad=special.pad,
    )
