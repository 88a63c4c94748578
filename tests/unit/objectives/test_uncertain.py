"""Masks by uncertainty: entropies by their definition, draws in proportion to them, words kept whole."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats

from bertwright.errors import ConfigError
from bertwright.objectives.base import PretrainingObjective
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.masking import masked_slots, select_tokens
from bertwright.objectives.uncertain import UncertainTokens, entropies
from bertwright.types import Batch, MaskedBatch, Scores

VOCAB, MASK = 50, 4


def rows(count: int, *, tokens: int, word: int = 1) -> Batch:
    """Rows [CLS] text [SEP] of `tokens` tokens of text, in words of `word` tokens."""
    width = tokens + 2
    ids = torch.randint(5, VOCAB, (count, width), generator=torch.Generator().manual_seed(0))
    text = ((torch.arange(width) > 0) & (torch.arange(width) < width - 1)).expand(count, width)
    starts = text & ((torch.arange(width) - 1) % word == 0)
    return Batch(ids, torch.zeros_like(ids), torch.ones_like(text), text, starts)


def built(**settings: object) -> PretrainingObjective:
    config = ObjectiveConfig.model_validate({"names": ("uncertain",), **settings})
    return build_objective(config, vocab_size=VOCAB, mask_id=MASK)


def test_entropies_are_those_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertwright.objectives.uncertain.AT_ONCE", 4 * VOCAB)
    logits = 3 * torch.randn((3, 5, VOCAB), generator=torch.Generator().manual_seed(1))
    expected = stats.entropy(logits.double().softmax(-1).numpy(), axis=-1)
    np.testing.assert_allclose(entropies(logits).numpy(), expected, atol=1e-5)
    assert entropies(torch.zeros((1, 2, VOCAB))).tolist()[0] == pytest.approx([np.log(VOCAB)] * 2)


def inclusion(shares: list[float], drawn: int) -> np.ndarray:
    """The chance of each place to be among the first `drawn` of successive draws in proportion to shares."""
    chances = np.zeros(len(shares))
    for order in permutations(range(len(shares)), drawn):
        left, chance = sum(shares), 1.0
        for place in order:
            chance *= shares[place] / left
            left -= shares[place]
        chances[list(order)] += chance
    return chances


@pytest.mark.parametrize("word", [1, 2])
def test_tokens_and_words_are_drawn_in_proportion(word: int) -> None:
    """40,000 rows, two draws each: a chance of 0.3 that is 5% off is 600 rows off, 6.5 sigma; 5 sigma fail."""
    units, count = 6, 40_000
    batch = rows(count, tokens=units * word, word=word)
    shares = [0.5, 1.0, 2.0, 4.0, 0.0, 1.5]
    of_token = torch.tensor([0.0, *(share for share in shares for _ in range(word)), 0.0]).expand(count, -1)
    if word == 2:  # the mean over a word counts, not its first token
        of_token = of_token * torch.tensor([0.0, *([0.5, 1.5] * units), 0.0])
    rate = 2 * word / (units * word + 2)
    generator = torch.Generator().manual_seed(2)
    positions, weights = select_tokens(batch, rate=rate, whole_word=word > 1, generator=generator, shares=of_token)
    assert weights.sum(1).unique().tolist() == [2 * word]
    seen = torch.bincount(((positions - 1) // word).flatten(), minlength=units).numpy() / word
    expected = inclusion(shares, 2) * count
    assert seen[4] == 0
    spread = expected * (1 - expected / count)
    known = expected > 0
    assert (np.abs(seen - expected)[known] < 5 * np.sqrt(spread[known])).all()


def scored_and_scores(objective: PretrainingObjective, batch: Batch, sharp: torch.Tensor) -> tuple[MaskedBatch, Scores]:
    """What the model scores, and logits that are certain at the positions `sharp` [S] bool alone."""
    first = objective.auxiliary_batch(batch, torch.Generator().manual_seed(3), 0.0)
    assert first is not None
    certain = sharp[first.masked_positions]
    logits = torch.zeros((*first.masked_positions.shape, VOCAB))
    logits[..., 7] = 30.0 * certain
    return first, Scores(logits, None)


def test_the_model_scores_text_as_it_is_and_masks_fall_where_it_is_uncertain() -> None:
    batch = rows(400, tokens=40)
    objective = built(options={"uncertain": {"random_share": 0.0, "scored": 1.0}})
    sharp = torch.arange(42) < 28  # 27 tokens of text the model is sure of, and 13 that it is not
    first, scores = scored_and_scores(objective, batch, sharp)
    assert torch.equal(first.input_ids, batch.input_ids)
    assert torch.equal(first.masked_weights.bool(), first.masked_positions > 0)
    example = objective.corrupt(batch, torch.Generator().manual_seed(4), 0.0, (first, scores))
    chosen = example.masked_positions[example.masked_weights > 0]
    assert len(chosen) == 400 * 6  # 15% of 42 tokens
    assert (~sharp[chosen]).all()
    assert not torch.equal(example.input_ids, batch.input_ids)
    true = batch.input_ids.gather(1, example.masked_positions) * example.masked_weights.long()
    assert torch.equal(example.masked_labels, true)


def test_a_share_stays_random() -> None:
    """One draw a row, 0.3 of it uniform over 40 tokens, of which 27 have no entropy."""
    batch = rows(4000, tokens=40)
    objective = built(options={"uncertain": {"random_share": 0.3, "scored": 1.0}}, mask_rate=1 / 42)
    sharp = torch.arange(42) < 28
    example = objective.corrupt(
        batch, torch.Generator().manual_seed(5), 0.0, scored_and_scores(objective, batch, sharp)
    )
    certain = int(sharp[example.masked_positions[example.masked_weights > 0]].sum())
    expected = 0.3 * 27 / 40
    assert abs(certain - 4000 * expected) < 5 * np.sqrt(4000 * expected * (1 - expected))


def test_whole_words_stay_whole_and_only_scored_tokens_are_masked() -> None:
    batch = rows(300, tokens=40, word=4)
    objective = built(whole_word=True, mask_rate=0.3, options={"uncertain": {"scored": 0.5}})
    first, scores = scored_and_scores(objective, batch, torch.zeros(42, dtype=torch.bool))
    example = objective.corrupt(batch, torch.Generator().manual_seed(6), 0.0, (first, scores))
    scored, chosen = (
        torch.zeros((300, 42)).scatter_add_(1, one.masked_positions, one.masked_weights)[:, 1:41].view(300, 10, 4)
        for one in (first, example)
    )
    assert ((chosen.sum(2) == 4) | (chosen.sum(2) == 0)).all()
    assert (chosen <= scored).all()
    assert example.masked_positions.shape[1] == masked_slots(42, 0.3)


def test_operations_count_the_pass_before() -> None:
    objective = built(mask_rate=0.2, options={"uncertain": {"scored": 0.5}})
    counted: list[int] = []

    def flops_of(*, masked: int) -> int:
        counted.append(masked)
        return 300 + masked

    assert objective.flops(flops_of, length=100, progress=0.0) == 320 + 350 // 3
    assert sorted(counted) == [20, 50]


def test_without_scores_and_on_held_out_text_masks_fall_anywhere() -> None:
    batch, objective = rows(8, tokens=40), built()
    assert isinstance(objective, UncertainTokens)
    assert objective.asks_model
    plain = replace(objective.mlm).corrupt(batch, torch.Generator().manual_seed(7), 0.0)
    assert torch.equal(objective.corrupt(batch, torch.Generator().manual_seed(7), 0.0).input_ids, plain.input_ids)


def test_more_masks_than_scored_tokens_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"objective\.options\.uncertain\.scored.*--mask-rate"):
        built(mask_rate=0.3, final_mask_rate=0.15, options={"uncertain": {"scored": 0.2}})
    phases = [{"rate": 0.15, "share": 0.4}, {"rate": 0.6, "share": 0.3}, {"rate": 0.05, "share": 0.3}]
    with pytest.raises(ConfigError, match=r"objective\.options\.uncertain\.scored"):
        built(mask_phases=phases, options={"uncertain": {"scored": 0.5}})
