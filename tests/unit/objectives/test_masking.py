"""Masking: the shares of the 2018 paper on 10^5 draws or more, words kept whole, at least one token a row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from bertwright.config import compose
from bertwright.errors import ConfigError
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.masking import _fill_in_order, masked_slots, most_rounds, select_tokens
from bertwright.objectives.mlm import MaskedLanguageModel
from bertwright.types import Batch, MaskedBatch

VOCAB, MASK, FIRST_ID = 1000, 4, 5
SIGMAS = 5.0
LEAST_P = 1e-4


def make_batch(lengths: list[tuple[int, int]], *, width: int, word: int = 1, seed: int = 0) -> Batch:
    """Return rows [CLS] A [SEP] B [SEP] of the given segment lengths (B may be 0) with words of `word` tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(FIRST_ID, VOCAB, (len(lengths), width), generator=generator)
    maskable = torch.zeros(ids.shape, dtype=torch.bool)
    words = torch.zeros(ids.shape, dtype=torch.bool)
    attention = torch.zeros(ids.shape, dtype=torch.bool)
    for row, (a, b) in enumerate(lengths):
        used = a + 2 + (b + 1 if b else 0)
        attention[row, :used] = True
        for at, length in ((1, a), (a + 2, b)):
            maskable[row, at : at + length] = True
            words[row, at : at + length : word] = True
        ids[row, [0, a + 1, used - 1]] = torch.tensor([2, 3, 3])
    ids[~attention] = 0
    return Batch(ids, torch.zeros_like(ids), attention, maskable, words)


def draw(batch: Batch, times: int, *, whole_word: bool, rate: float = 0.15) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how often each place was chosen [B, S], and how many places each draw chose [times, B]."""
    generator = torch.Generator().manual_seed(1)
    seen, counts = torch.zeros(batch.input_ids.shape), []
    for _ in range(times):
        positions, weights = select_tokens(batch, rate=rate, whole_word=whole_word, generator=generator)
        seen.scatter_add_(1, positions, weights)
        counts.append(weights.sum(1))
        assert positions.shape == (len(seen), masked_slots(seen.shape[1], rate))
    return seen, torch.stack(counts)


@pytest.mark.parametrize("whole_word", [False, True])
def test_counts_are_those_of_2018(whole_word: bool) -> None:
    batch = make_batch([(60, 65), (50, 20), (100, 0), (3, 2), (1, 1), (1, 0)], width=128)
    _seen, counts = draw(batch, 20, whole_word=whole_word)
    expected = [round(0.15 * tokens) for tokens in (128, 73, 102, 8, 5)] + [1]
    assert expected == [19, 11, 15, 1, 1, 1]
    assert (counts == torch.tensor(expected)).all()


@pytest.mark.parametrize("whole_word", [False, True])
def test_places_are_alike_and_never_special(whole_word: bool) -> None:
    batch = make_batch([(40, 20)] * 64, width=70)
    seen, counts = draw(batch, 300, whole_word=whole_word)
    assert counts.sum() >= 1e5
    assert (seen[~batch.maskable] == 0).all()
    places = seen.sum(0)[batch.maskable[0]].numpy()
    draws, share = 64 * 300, float(counts[0, 0]) / 60
    spread = draws * share * (1 - share) * 60 / 59
    chi2 = float(((places - draws * share) ** 2 / spread).sum())
    assert stats.chi2.sf(chi2, 59) > LEAST_P
    assert np.abs(places - draws * share).max() < SIGMAS * np.sqrt(spread)


@pytest.mark.parametrize("word", [2, 3, 5])
def test_whole_words_are_whole(word: int) -> None:
    batch = make_batch([(60, 60), (30, 90)] * 16, width=128, word=word)
    generator = torch.Generator().manual_seed(2)
    for _ in range(50):
        positions, weights = select_tokens(batch, rate=0.15, whole_word=True, generator=generator)
        chosen = torch.zeros(batch.input_ids.shape).scatter_add_(1, positions, weights) > 0
        for low in (slice(1, 61), slice(62, 122)):
            words = chosen[::2, low].reshape(16, -1, word)
            assert (words.all(2) == words.any(2)).all()
        total = weights.sum(1)
        assert (total <= 18).all()
        assert (total > 18 - word).all()


def test_words_of_mixed_lengths_fill_the_budget_as_one_at_a_time() -> None:
    """A plain loop over the drawn order of words chooses the same tokens."""
    batch = make_batch([(60, 60)] * 32, width=128)
    batch.word_starts[:] = (torch.rand(batch.word_starts.shape, generator=torch.Generator().manual_seed(3)) < 0.5) & (
        batch.maskable
    )
    batch.word_starts[:, [1, 62]] = True
    chosen, weights = select_tokens(batch, rate=0.15, whole_word=True, generator=torch.Generator().manual_seed(4))
    keys = torch.rand(batch.input_ids.shape, generator=torch.Generator().manual_seed(4))
    for row in range(32):
        places = batch.maskable[row].nonzero()[:, 0].tolist()
        words: list[list[int]] = []
        for place in places:
            if batch.word_starts[row, place]:
                words.append([])
            words[-1].append(place)
        order = sorted(range(len(words)), key=lambda number: float(keys[row, number]))
        expected: list[int] = []
        for number in order:
            if len(expected) + len(words[number]) <= 18:
                expected += words[number]
        assert sorted(expected) == chosen[row][weights[row] > 0].tolist()


def one_at_a_time(sizes: list[int], budget: int) -> list[bool]:
    taken = []
    for size in sizes:
        taken.append(0 < size <= budget)
        budget -= size * taken[-1]
    return taken


@pytest.mark.parametrize("length", [16, 128, 512])
def test_so_many_rounds_are_enough_for_any_row(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, of which nobody asks whether it is done; the last rows need every one of the rounds."""
    rounds = most_rounds(length)
    generator = torch.Generator().manual_seed(5)
    rows = [torch.randint(0, 1 + int(top), (length,), generator=generator).tolist() for top in (2, 4, 9, 30)]
    rows = [[size if sum(row[: place + 1]) <= length else 0 for place, size in enumerate(row)] for row in rows]
    falling = [size for misfit in range(rounds - 1, 0, -1) for size in (1, misfit)]  # one token, and one too many
    assert sum(falling) <= length
    rows.append(falling + [0] * (length - len(falling)))
    budgets = [length // 5] * 4 + [rounds - 1]
    expected = [one_at_a_time(row, budget) for row, budget in zip(rows, budgets, strict=True)]
    sizes, budget = torch.tensor(rows), torch.tensor(budgets)
    assert _fill_in_order(sizes, budget).tolist() == expected
    monkeypatch.setattr("bertwright.objectives.masking._is_done", lambda open_: False)
    assert _fill_in_order(sizes, budget).tolist() == expected
    monkeypatch.setattr("bertwright.objectives.masking.most_rounds", lambda length: rounds - 2)
    assert _fill_in_order(sizes, budget).tolist() != expected


def test_a_word_longer_than_the_budget_still_gives_one_mask_a_row() -> None:
    batch = make_batch([(4, 4)] * 8, width=16, word=4)
    seen, counts = draw(batch, 50, whole_word=True)
    assert (counts == round(0.15 * 11)).all()
    assert set(seen.sum(0).nonzero()[:, 0].tolist()) == {1, 2, 6, 7}


def corrupted(times: int, **options: float) -> list[tuple[Batch, MaskedBatch]]:
    batch = make_batch([(60, 65)] * 64, width=128)
    model = MaskedLanguageModel(vocab_size=VOCAB, mask_id=MASK, **options)
    generator = torch.Generator().manual_seed(5)
    return [(batch, model.corrupt(batch, generator, 0.0)) for _ in range(times)]


def test_eight_in_ten_masked_one_random_one_kept() -> None:
    kinds, random = np.zeros(3), []
    for batch, example in corrupted(100):
        used = example.masked_weights > 0
        shown = example.input_ids.gather(1, example.masked_positions)[used]
        true = example.masked_labels[used]
        assert (true == batch.input_ids.gather(1, example.masked_positions)[used]).all()
        masked, kept = shown == MASK, shown == true
        kinds += [int(masked.sum()), int((~masked & ~kept).sum()), int(kept.sum())]
        random.append(shown[~masked & ~kept])
        untouched = torch.ones_like(example.input_ids, dtype=torch.bool)
        untouched.scatter_(1, example.masked_positions, ~used)
        assert (example.input_ids == batch.input_ids)[untouched | ~batch.maskable].all()
    total = kinds.sum()
    assert total >= 1e5
    expected = np.array([0.8 + 0.1 / VOCAB, 0.1 * (1 - 2 / VOCAB), 0.1 + 0.1 / VOCAB])
    assert (np.abs(kinds - total * expected) < SIGMAS * np.sqrt(total * expected * (1 - expected))).all()
    counts = np.bincount(torch.cat(random).numpy(), minlength=VOCAB)
    assert counts[MASK] == 0
    assert counts[[0, 1, 2, 3]].min() > 0
    assert stats.chisquare(np.delete(counts, MASK)).pvalue > LEAST_P


def test_shares_follow_the_settings() -> None:
    (_batch, example), *_rest = corrupted(1, mask_share=1.0, random_share=0.0, rate=0.3)
    used = example.masked_weights > 0
    assert int(used.sum()) == 64 * 38
    assert (example.input_ids.gather(1, example.masked_positions)[used] == MASK).all()


def test_masks_are_drawn_afresh_and_repeat_with_the_generator() -> None:
    first, second = (example for _batch, example in corrupted(2))
    again = corrupted(1)[0][1]
    assert not torch.equal(first.masked_positions, second.masked_positions)
    assert torch.equal(first.masked_positions, again.masked_positions)
    assert torch.equal(first.input_ids, again.input_ids)


def test_chinese_words_are_whole() -> None:
    """Words of Chinese are runs of one-character tokens, told apart by word starts alone."""
    batch = make_batch([(8, 0)], width=10)
    batch.word_starts[0] = torch.tensor([0, 1, 0, 1, 0, 0, 0, 1, 0, 0], dtype=torch.bool)
    generator = torch.Generator().manual_seed(6)
    for _ in range(200):
        positions, weights = select_tokens(batch, rate=0.4, whole_word=True, generator=generator)
        assert positions[0][weights[0] > 0].tolist() in ([1, 2, 7, 8], [3, 4, 5, 6])


def test_the_rate_moves_along_the_run() -> None:
    """A straight line from one rate to the other; every slot of a full row is used at each point of it."""
    batch = make_batch([(60, 65)] * 4, width=128)
    model = MaskedLanguageModel(vocab_size=VOCAB, mask_id=MASK, rate=0.3, final_rate=0.15)
    generator = torch.Generator().manual_seed(8)
    for progress, slots in ((0.0, 39), (0.5, 29), (1.0, 20)):
        example = model.corrupt(batch, generator, progress)
        assert example.masked_positions.shape == (4, slots) == (4, model.masked_slots(128, progress))
        assert (example.masked_weights.sum(1) >= slots - 1).all()  # slots are rounded up, what is asked is rounded
    assert MaskedLanguageModel(vocab_size=VOCAB, mask_id=MASK).rate_at(0.7) == 0.15


def test_the_rate_changes_by_phase() -> None:
    """30, 15, 5%: slots and masks of each phase up to its end, whatever the rates of the run without phases are."""
    phases = ({"rate": 0.3, "share": 0.6}, {"rate": 0.15, "share": 0.3}, {"rate": 0.05, "share": 0.1})
    config = compose(ObjectiveConfig, {"names": ("mlm",), "final_mask_rate": 0.4, "mask_phases": phases})
    objective = build_objective(config, vocab_size=VOCAB, mask_id=MASK)
    batch, generator = make_batch([(60, 65)] * 4, width=128), torch.Generator().manual_seed(9)
    assert objective.has_dynamic_slots
    for progress, slots in ((0.0, 39), (0.599, 39), (0.6, 20), (0.899, 20), (0.9, 7), (1.0, 7)):
        example = objective.corrupt(batch, generator, progress)
        assert example.masked_positions.shape == (4, slots) == (4, objective.masked_slots(128, progress))
        assert (example.masked_weights.sum(1) >= slots - 1).all()
    assert "5.0%" in objective.describe(0.95)
    with pytest.raises(ConfigError, match="mask_phases"):
        compose(ObjectiveConfig, {"mask_phases": phases[:2]})
