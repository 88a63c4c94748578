"""Turns texts given by a person into batches of padded rows, texts of like length together, each remembering its place.

These are the rows of prediction: nothing is cut, since an answer about half a text is no answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bertwright.errors import InputError
from bertwright.tokenizer.load import Tokenizer

ROWS = 32
"""Rows a batch: enough to fill the matrix units of a CPU, few enough for long rows in little memory."""


MASK = "[MASK]"
"""What a person writes, whatever the tokenizer calls its mask token."""


@dataclass(frozen=True)
class TextRow:
    """One text, or one pair, as the model reads it: [CLS] A [SEP] or [CLS] A [SEP] B [SEP]."""

    place: int
    input_ids: list[int]
    token_type_ids: list[int]


@dataclass(frozen=True)
class TextBatch:
    """Rows padded to the longest of them: tensors [B, S] on the model's device, and where each row came from."""

    places: list[int]
    input_ids: Tensor
    token_type_ids: Tensor
    attention_mask: Tensor


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
    return TextRow(place=place, input_ids=ids, token_type_ids=types)


def _with_masks(text: str, tokenizer: Tokenizer) -> list[int]:
    """Put the mask id between the parts of `text`: not every tokenizer recognises [MASK] inside running text."""
    first, *others = text.split(MASK)
    ids = tokenizer.encode(first)
    for part in others:
        ids += [tokenizer.special.mask, *tokenizer.encode(part)]
    return ids


def batches_of(rows: Sequence[TextRow], model: nn.Module, *, pad: int) -> Iterator[TextBatch]:
    """Yield `rows` in batches of like length, shortest first, on the device of `model`."""
    device = next(model.parameters()).device
    ordered = sorted(rows, key=lambda row: len(row.input_ids))
    for start in range(0, len(ordered), ROWS):
        chosen = ordered[start : start + ROWS]
        longest = len(chosen[-1].input_ids)
        ids = [row.input_ids + [pad] * (longest - len(row.input_ids)) for row in chosen]
        types = [row.token_type_ids + [0] * (longest - len(row.token_type_ids)) for row in chosen]
        lengths = torch.tensor([len(row.input_ids) for row in chosen])
        yield TextBatch(
            places=[row.place for row in chosen],
            input_ids=torch.tensor(ids, device=device),
            token_type_ids=torch.tensor(types, device=device),
            attention_mask=(torch.arange(longest)[None] < lengths[:, None]).to(device),
        )
