"""Turns a row into masks as training draws them, several times: 15% of its tokens, 80% [MASK] / 10% random / 10% kept.

The draws are made by the functions of training itself, `objectives/masking.py`.
"""

from __future__ import annotations

import torch

from bertwright.inspection.guesses import readable
from bertwright.inspection.word_rows import WordRow
from bertwright.objectives.masking import corrupt_tokens, select_tokens
from bertwright.rng import key_of
from bertwright.tokenizer.load import Tokenizer
from bertwright.types import Batch

RATE, MASK_SHARE, RANDOM_SHARE = 0.15, 0.8, 0.1
"""As published in 2018."""
Drawn = list[tuple[int, str, str]]
"""Of each token that is predicted its position, what became of it ("mask", "random" or "kept"), and what stands
there."""


def drawn_masks(row: WordRow, tokenizer: Tokenizer, *, count: int, seed: int = 0) -> list[Drawn]:
    """Return `count` draws of the masks of a row; the same for the same seed."""
    generator = torch.Generator().manual_seed(key_of("inspect", seed))
    ids = row.ids.repeat(count, 1)
    starts = torch.zeros_like(row.special)
    starts[[word.tokens[0] for word in row.words]] = True
    batch = Batch(
        ids,
        row.types.expand_as(ids),
        torch.ones_like(ids, dtype=torch.bool),
        maskable=(~row.special).expand_as(ids),
        word_starts=starts.expand_as(ids),
    )
    positions, weights = select_tokens(batch, rate=RATE, whole_word=False, generator=generator)
    hidden = corrupt_tokens(
        ids, positions, weights, mask_id=row.mask, vocab_size=tokenizer.vocab_size, mask_share=MASK_SHARE,
        random_share=RANDOM_SHARE, generator=generator,
    )  # fmt: skip
    return [
        [
            (place, _kind(int(after[place]), int(row.ids[place]), row.mask), readable(tokenizer, int(after[place])))
            for place, weight in zip(places.tolist(), used.tolist(), strict=True)
            if weight
        ]
        for places, used, after in zip(positions, weights, hidden, strict=True)
    ]


def _kind(after: int, before: int, mask: int) -> str:
    return "mask" if after == mask else "kept" if after == before else "random"
