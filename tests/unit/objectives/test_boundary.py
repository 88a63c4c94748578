"""The span boundary objective: which states it reads, what it makes of them, and its loss, all written out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from bertwright.config import compose
from bertwright.model.build import build_encoder, named_size
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.span import PLACES, BoundaryHead, SpanMasking, boundaries_of, runs_and_places
from bertwright.types import Batch, MaskedBatch, Scores

ROWS, LENGTH, VOCAB, MASK = 6, 64, 90, 4


def batch() -> Batch:
    ids = torch.randint(5, VOCAB, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, 30], ids[:, -1] = 2, 3, 3
    maskable = (ids != 2) & (ids != 3)
    starts = maskable.clone()
    starts[:, 2::3] = False  # words of one and two tokens
    starts[:, [1, 31]] = True
    return Batch(ids, torch.zeros_like(ids), torch.ones_like(maskable), maskable, starts)


def example(rate: float = 0.4) -> MaskedBatch:
    return SpanMasking(VOCAB, MASK, rate=rate, boundary=True).corrupt(batch(), torch.Generator().manual_seed(1))


def runs_of(example: MaskedBatch, row: int) -> list[list[int]]:
    """Return the slots of each run of a row, one after the other."""
    runs: list[list[int]] = []
    for slot in range(int(example.masked_weights[row].sum())):
        follows = slot and example.masked_positions[row, slot] == example.masked_positions[row, slot - 1] + 1
        runs[-1].append(slot) if follows else runs.append([slot])
    return runs


def test_boundaries_stand_before_and_after_each_run() -> None:
    found = example()
    assert found.boundaries is not None
    run, place = runs_and_places(found)
    for row in range(ROWS):
        runs = runs_of(found, row)
        positions = found.masked_positions[row]
        assert len(runs) > 1
        expected = [[int(positions[slots[0]]) - 1, int(positions[slots[-1]]) + 1] for slots in runs]
        assert found.boundaries[row].T[: len(runs)].tolist() == expected
        assert not found.boundaries[row].T[len(runs) :].any()
        hidden = set(positions[found.masked_weights[row] > 0].tolist())
        assert not hidden & {place for pair in expected for place in pair}
        for number, slots in enumerate(runs):
            assert run[row, slots].tolist() == [number] * len(slots)
            assert place[row, slots].tolist() == list(range(len(slots)))


def test_runs_past_the_last_slot_are_left_out() -> None:
    positions = torch.tensor([[1, 3, 5, 7]])
    assert boundaries_of(positions, torch.ones(1, 4)).tolist() == [[[0, 2, 4], [2, 4, 6]]]


@pytest.mark.parametrize("architecture", ["bert", "modern"])
def test_scores_are_those_of_both_ends_and_the_place(architecture: str) -> None:
    """From all hidden states of a row, the three inputs side by side, a slot at a time; the MLM logits stay."""
    torch.manual_seed(2)
    shape = named_size("tiny", vocab_size=VOCAB, architecture=architecture, hidden_size=64, heads=1)
    model, found = build_encoder(shape).eval(), example()
    head = BoundaryHead(64, 64)
    with torch.no_grad():
        scores, alone = model(found, head), model(found)
        hidden = model.encode(found.input_ids, found.token_type_ids, found.attention_mask)
        matrix = torch.cat([head.before.weight, head.after.weight, torch.eye(64)], 1)
        for row in range(ROWS):
            for slots in runs_of(found, row):
                first, last = (int(found.masked_positions[row, slot]) for slot in (slots[0], slots[-1]))
                for place, slot in enumerate(slots):
                    ends = torch.cat([hidden[row, first - 1], hidden[row, last + 1], head.places.weight[place]])
                    inner = head.first_norm(functional.gelu(matrix @ ends + head.before.bias))
                    vector = head.norm(functional.gelu(head.dense(inner)))
                    expected = model.word_embeddings.weight @ vector + model.mlm_head.bias
                    torch.testing.assert_close(scores.boundary[row, slot], expected, atol=1e-5, rtol=1e-4)
    assert alone.boundary is None
    torch.testing.assert_close(scores.mlm, alone.mlm, atol=1e-6, rtol=1e-6)


def test_the_loss_is_the_mean_over_masked_tokens_that_are_asked() -> None:
    """A run of 25 tokens: the last five are not asked; parts of a batch add up to the loss of the whole."""
    found = example()
    long = torch.arange(1, 1 + found.masked_positions.shape[1]).expand(2, -1)
    assert long.shape[1] > PLACES
    rows = replace(
        found.cut(slice(0, 2)), masked_positions=long, masked_weights=torch.ones(long.shape), normalizer=None
    )
    rows = replace(rows, boundaries=boundaries_of(long, rows.masked_weights))
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((2, long.shape[1], VOCAB), generator=generator)
    objective = SpanMasking(VOCAB, MASK, boundary=True)
    loss = objective.loss(Scores(logits, None, boundary=logits.flip(2)), rows)
    logs = logits.flip(2).log_softmax(-1).gather(2, rows.masked_labels[:, :, None])[:, :PLACES, 0]
    part = loss.parts["boundary"]
    assert part.count == 2 * PLACES
    assert part.sum is not None
    assert part.sum.item() == pytest.approx(-float(logs.sum()), rel=1e-5)
    plain = objective.loss(Scores(logits, None), rows)
    assert loss.total.item() == pytest.approx(plain.total.item() - float(logs.sum()) / long.numel(), rel=1e-5)
    total = 0.0
    for one in (slice(0, 1), slice(1, 2)):
        total += objective.loss(Scores(logits[one], None, boundary=logits[one].flip(2)), rows.cut(one)).total.item()
    assert total == pytest.approx(loss.total.item(), rel=1e-5)


def test_the_head_is_an_option() -> None:
    settings = {"names": ("span",), "options": {"span": {"boundary": True}}}
    with_head = build_objective(compose(ObjectiveConfig, settings), vocab_size=VOCAB, mask_id=MASK)
    without = build_objective(ObjectiveConfig(names=("span",)), vocab_size=VOCAB, mask_id=MASK)
    assert with_head.new_head(64, 32) is not None
    assert without.new_head(64, 32) is None
    assert with_head.flops(lambda masked: masked, length=100, progress=0.0) == 30
    assert without.flops(lambda masked: masked, length=100, progress=0.0) == 15
    assert without.corrupt(batch(), torch.Generator()).boundaries is None
