"""Turns texts given by a person into rows of token ids, [MASK] in them masked.

These are the rows of prediction: nothing is cut, since an answer about half a text is no answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import InputError
from bertwright.tokenizer.load import Tokenizer

MASK = "[MASK]"
"""What a person writes, whatever the tokenizer calls its mask token."""


def text_rows(
    questions: Sequence[Sequence[str]], tokenizer: Tokenizer, *, max_length: int, masked: bool
) -> LabelledRows:
    """Return a row for each question, [CLS] A [SEP] of one text or [CLS] A [SEP] B [SEP] of two.

    Its positions are those of every mask token, or where not `masked` that of [CLS]. Raises InputError where a row is
    longer than `max_length` tokens.
    """
    special = tokenizer.special
    rows: list[list[int]] = []
    first_lengths: list[int] = []
    for number, texts in enumerate(questions, start=1):
        segments = [[*_with_masks(text, tokenizer), special.sep] for text in texts]
        rows.append([special.cls, *(token for segment in segments for token in segment)])
        first_lengths.append(1 + len(segments[0]))
        if len(rows[-1]) > max_length:
            raise InputError(
                f'text {number} ("{texts[0][:40]}...") is {len(rows[-1]):,} tokens long but the model reads '
                f"{max_length}; split or shorten it"
            )
    positions = [[at for at, token in enumerate(row) if token == special.mask] if masked else [0] for row in rows]
    counts = np.array([len(places) for places in positions], dtype=np.int64)
    return LabelledRows(
        ids=np.array([token for row in rows for token in row], dtype=np.uint32),
        lengths=np.array([len(row) for row in rows], dtype=np.int64),
        first_lengths=np.array(first_lengths, dtype=np.int64),
        positions=np.array([place for places in positions for place in places], dtype=np.int64),
        num_targets=counts,
        targets=np.zeros(int(counts.sum()), dtype=np.int64),
        pad=special.pad,
    )


def _with_masks(text: str, tokenizer: Tokenizer) -> list[int]:
    """Return the ids of `text`, the mask id for each [MASK]; not every tokenizer recognises its own in running text.

    One that does knows best what becomes of the blank before it: RoBERTa's <mask> takes it.
    """
    own = tokenizer.tokens[tokenizer.special.mask]
    if own in tokenizer.reserved:
        return tokenizer.encode(text.replace(MASK, own))
    first, *others = text.split(MASK)
    ids = tokenizer.encode(first)
    for part in others:
        ids += [tokenizer.special.mask, *tokenizer.encode(part)]
    return ids
