"""Turns a row into the likeliest tokens at its masks, also where more of its words are masked, one or two at a time."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from bertwright.inspection.forward import Look, layer_logits
from bertwright.inspection.word_rows import WordRow
from bertwright.model.encoder import Encoder
from bertwright.tokenizer.load import Tokenizer

MOST = 5
"""Tokens that are shown at a mask."""
PAIRED_WORDS = 14
"""Words of a row up to which every two of them are masked together."""
TOGETHER = 32
"""Variants that are computed at once."""
Guesses = dict[str, list[list[tuple[str, float]]]]
"""By which further words are masked, "" for none, "3", or "3,5": for each masked token the likeliest, with their
probabilities."""


def guesses_of(model: Encoder, tokenizer: Tokenizer, row: WordRow, *, pairs: bool = True) -> Guesses:
    """Return the likeliest tokens at each mask of a row, and of the row with one more word masked, or with `pairs` two.

    Words that hold a mask already are left out.
    """
    free = [number for number, word in enumerate(row.words) if not set(word.tokens) & set(row.masks)]
    both = list(combinations(free, 2)) if pairs and len(free) <= PAIRED_WORDS else []
    variants = [key for key in [(), *((number,) for number in free), *both] if key or row.masks]
    found: Guesses = {}
    for begin in range(0, len(variants), TOGETHER):
        some = variants[begin : begin + TOGETHER]
        rows = [row.hidden(key) for key in some]
        probabilities = _probabilities(model, rows, words=tokenizer.vocab_size)
        for key, one, of_row in zip(some, rows, probabilities, strict=True):
            found[",".join(map(str, key))] = [likeliest(p, tokenizer) for p in of_row[: len(one.masks)]]
    return found


@torch.no_grad()
def _probabilities(model: Encoder, rows: list[WordRow], *, words: int) -> Tensor:
    """Return [N, M, V]: the probability of each token at the masks of variants of one row; unused slots hold any."""
    device = model.word_embeddings.weight.device
    most = max(len(row.masks) for row in rows)
    at = torch.tensor([row.masks + [0] * (most - len(row.masks)) for row in rows], device=device)
    ids = torch.stack([row.ids for row in rows]).to(device)
    types = torch.stack([row.types for row in rows]).to(device)
    hidden = model.encode(ids, types, torch.ones_like(ids, dtype=torch.bool), at)
    return model.mlm_logits(hidden).float().softmax(-1)[..., :words]


def likeliest(probabilities: Tensor, tokenizer: Tokenizer, *, most: int = MOST) -> list[tuple[str, float]]:
    """Return the likeliest tokens of probabilities [V], the likeliest first, as a person reads them."""
    values, ids = probabilities.topk(min(most, len(probabilities)))
    return [
        (readable(tokenizer, token), round(value, 4))
        for token, value in zip(ids.tolist(), values.tolist(), strict=True)
    ]


def readable(tokenizer: Tokenizer, token: int) -> str:
    """Return a token as a person reads it: WordPiece's ## kept, byte-level ones decoded, special ones by their name."""
    name = tokenizer.tokens[token]
    return name if name.startswith("##") else tokenizer.decode([token]).strip() or name


def layers_of(model: Encoder, tokenizer: Tokenizer, row: WordRow, found: Look) -> list[dict[str, Any]]:
    """Return what each layer alone would predict at each mask of a row.

    {"of", "id": the last layer's word and token, "p", "rank": its probability and rank (from 1) at each layer,
    "words": the three likeliest at each}.
    """
    if not row.masks:
        return []
    at = torch.tensor([row.masks], device=found.hidden[0].device)
    shares = layer_logits(model, found, at)[:, 0].float().softmax(-1)[..., : tokenizer.vocab_size].cpu()
    answers = []
    for slot in range(len(row.masks)):
        of_layers = shares[:, slot]
        best = int(of_layers[-1].argmax())
        answers.append(
            {
                "of": readable(tokenizer, best),
                "id": best,
                "p": [round(value, 4) for value in of_layers[:, best].tolist()],
                "rank": [1 + int((layer > layer[best]).sum()) for layer in of_layers],
                "words": [likeliest(layer, tokenizer, most=3) for layer in of_layers],
            }
        )
    return answers
