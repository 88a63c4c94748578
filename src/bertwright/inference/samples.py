"""Turns held-out sentences into fixed ones with a word masked, and a model's predictions of it, to watch it learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bertwright.corpus.shards import Shards
from bertwright.inference.pretrained_predictor import fill_mask
from bertwright.inference.text_rows import MASK
from bertwright.model.encoder import Encoder
from bertwright.rng import stream
from bertwright.tokenizer.load import Tokenizer

COUNT = 6
SHORTEST, LONGEST = 8, 28
"""Tokens of a sentence worth showing."""


@dataclass(frozen=True)
class MaskedSample:
    """A sentence with [MASK] in it, and the word that stood there."""

    text: str
    label: str


def choose_samples(shards: Shards, tokenizer: Tokenizer, *, count: int = COUNT) -> list[MaskedSample]:
    """Return up to `count` sentences of a split, the same for every run on it, one whole word masked in each.

    The word masked is the longest that is a single token, has only letters, and is neither first nor last.
    """
    found: list[MaskedSample] = []
    for document in stream("samples", shards.fingerprint).permutation(shards.document_count)[:200]:
        ends = shards.sentence_ends(int(document))
        starts = np.concatenate([[0], ends[:-1]])
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            if SHORTEST <= end - start <= LONGEST and (
                sample := _mask_one(shards, int(document), start, end, tokenizer)
            ):
                found.append(sample)
                break
        if len(found) == count:
            break
    return found


def _mask_one(shards: Shards, document: int, start: int, end: int, tokenizer: Tokenizer) -> MaskedSample | None:
    ids = shards.tokens(document, start, end).tolist()
    words = shards.word_starts(document, start, end)
    whole = [i for i in range(2, len(ids) - 2) if words[i] and words[i + 1] and tokenizer.tokens[ids[i]].isalpha()]
    if tokenizer.special.unk in ids or not whole:
        return None
    place = max(whole, key=lambda i: len(tokenizer.tokens[ids[i]]))
    text = f"{tokenizer.decode(ids[:place])} {MASK} {tokenizer.decode(ids[place + 1 :])}"
    return MaskedSample(text=text, label=tokenizer.tokens[ids[place]])


def predict_samples(
    model: Encoder, tokenizer: Tokenizer, samples: list[MaskedSample], *, top_k: int = 5
) -> list[dict[str, Any]]:
    """Return for each sample its text, the word that stood there ("truth") and the model's `top_k` predictions.

    A prediction is [token, probability]; the keys are those of metrics.jsonl.
    """
    training = model.training
    model.eval()
    with torch.inference_mode():
        guesses = fill_mask(model, tokenizer, [sample.text for sample in samples], top_k=top_k) if samples else []
    model.train(training)
    return [
        {"text": sample.text, "truth": sample.label, "predictions": predictions}
        for sample, predictions in zip(samples, guesses, strict=True)
    ]
