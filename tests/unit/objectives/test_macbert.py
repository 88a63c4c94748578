"""Similar words in place of [MASK]: in the published shares, word by word, random where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from bertwright.errors import ConfigError
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.macbert import SimilarWords
from bertwright.objectives.masking import first_slots, runs_open
from bertwright.types import Batch

VOCAB, MASK, WORDS, SIMILAR = 4000, 4, 1000, 10
LEAST_P, SIGMAS = 1e-4, 5.0


def table() -> torch.Tensor:
    """Return similar tokens that say whose they are: 1000 + 3 id + 0, 1, 2; tokens of 800 and more have none."""
    ids = torch.arange(VOCAB)[:, None]
    similar = WORDS + 3 * ids + torch.arange(SIMILAR) % 3
    return similar.masked_fill((ids < 5) | (ids >= 800), -1)


def batch() -> Batch:
    """Return 200 rows of words of two tokens, of which a fifth has no similar ones."""
    ids = torch.randint(5, WORDS, (200, 128), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, -1] = 2, 3
    maskable = torch.ones(ids.shape, dtype=torch.bool)
    maskable[:, [0, -1]] = False
    starts = torch.zeros(ids.shape, dtype=torch.bool)
    starts[:, 1:-1:2] = True
    return Batch(ids, torch.zeros_like(ids), torch.ones_like(maskable), maskable, starts)


def test_eight_in_ten_words_are_similar_one_random_one_kept() -> None:
    """5 standard deviations of 40,000 words are 0.01: shares that are off by 0.02 are found out with power 0.999."""
    objective, rows = SimilarWords(VOCAB, MASK, similar=table()), batch()
    generator, kinds, places, random, mixed = torch.Generator().manual_seed(1), np.zeros(3), np.zeros(3), [], 0
    for _ in range(22):
        example = objective.corrupt(rows, generator)
        shown, true = example.input_ids.gather(1, example.masked_positions), example.masked_labels
        used = example.masked_weights > 0
        near = (shown >= WORDS + 3 * true) & (shown < WORDS + 3 * true + 3)
        kind = torch.where(shown == true, 2, torch.where(near, 0, 1))
        known = used & (true < 800)
        word = first_slots(rows.word_starts.gather(1, example.masked_positions) | runs_open(example.masked_positions))
        both = known & known.gather(1, word)
        mixed += int((kind != kind.gather(1, word))[both].sum())
        kinds += np.bincount(kind[known & (word == torch.arange(word.shape[1]))].numpy(), minlength=3)
        places += np.bincount((shown - WORDS - 3 * true)[known & near].numpy(), minlength=3)
        unknown = used & (true >= 800) & (shown != true)
        random.append(shown[unknown])
    total = kinds.sum()
    assert total > 30_000
    expected = np.array([0.8, 0.1, 0.1])
    assert (np.abs(kinds - total * expected) < SIGMAS * np.sqrt(total * expected * (1 - expected))).all()
    assert mixed < total * 10 / VOCAB
    assert stats.chisquare(places, places.sum() * np.array([0.4, 0.3, 0.3])).pvalue > LEAST_P
    drawn = torch.cat(random).numpy()
    assert stats.kstest(drawn / VOCAB, "uniform").pvalue > LEAST_P
    assert (drawn == MASK).mean() < 10 / VOCAB


def test_the_model_never_sees_the_mask_but_by_chance() -> None:
    example = SimilarWords(VOCAB, MASK, mask_share=1.0, random_share=0.0, similar=table()).corrupt(
        batch(), torch.Generator().manual_seed(2)
    )
    used = example.masked_weights > 0
    shown = example.input_ids.gather(1, example.masked_positions)[used]
    assert (shown == MASK).sum() < 8
    assert (shown == example.masked_labels[used]).sum() < 8


def test_a_corpus_is_needed() -> None:
    with pytest.raises(ConfigError, match="macbert"):
        build_objective(ObjectiveConfig(names=("macbert",)), vocab_size=VOCAB, mask_id=MASK)
    found = build_objective(ObjectiveConfig(names=("macbert", "nsp")), vocab_size=VOCAB, mask_id=MASK, similar=table)
    assert found.rows == "pairs"
    assert "similar" in found.describe()
