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

    Two texts are joined as the tokenizer joins them: see `PairFrame`.
    Its positions are those of every mask token, or where not `masked` that of [CLS]. Raises InputError where a row is
    longer than `max_length` tokens.
    """
    special, pair = tokenizer.special, tokenizer.pair_frame
    between = [special.sep] * (pair.separators - 1)
    rows: list[list[int]] = []
    first_lengths: list[int] = []
    for number, texts in enumerate(questions, start=1):
        segments = [[*_with_masks(text, tokenizer), special.sep] for text in texts]
        first = [special.cls, *segments[0]]
        rows.append([*first, *(token for segment in segments[1:] for token in [*between, *segment])])
        first_lengths.append(len(first) if pair.second_type else len(rows[-1]))
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
    """Return the ids of `text`, that of the mask where it has [MASK].

    A tokenizer that knows its mask inside running text decides itself what becomes of blanks beside it; where one does
    not, the parts of the text are encoded one by one.
    """
    mask = tokenizer.tokens[tokenizer.special.mask]
    if mask in tokenizer.reserved:
        return tokenizer.encode(text.replace(MASK, mask))
    first, *others = text.split(MASK)
    ids = tokenizer.encode(first)
    for part in others:
        ids += [tokenizer.special.mask, *tokenizer.encode(part)]
    return ids
