"""Dropout by hash: the right share, without pattern, reproducible, and gone when judging."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binom, chi2

from bertwright.model.layers.dropout import BLOCK, Dropout, keep_mask

CPU = torch.device("cpu")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.02])
def test_share_over_4_million_units(share: float) -> None:
    """Within 5 sigma of the binomial."""
    torch.manual_seed(0)
    count = 2**22
    dropped = count - int(keep_mask(torch.Size([count]), share, device=CPU).sum())
    assert abs(dropped - share * count) < 5 * (count * share * (1 - share)) ** 0.5


def test_units_are_independent() -> None:
    """Counts in 10^5 windows of 16 units, near, a row apart and a block apart, are binomial: chi-square at 10^-5."""
    torch.manual_seed(1)
    count, size, share = 100_000, 16, 0.1
    mask = ~keep_mask(torch.Size([size * count]), share, device=CPU)
    for windows in (mask.view(count, size).sum(1), mask.view(size, count).sum(0), mask.view(-1, size, 250).sum(1)):
        seen = torch.bincount(windows.flatten(), minlength=size + 1).double()
        expected = torch.tensor(binom.pmf(range(size + 1), size, share)) * windows.numel()
        seen, expected = fold(seen), fold(expected)
        statistic = float(((seen - expected) ** 2 / expected).sum())
        assert statistic < chi2.ppf(1 - 1e-5, df=len(seen) - 1)


def fold(counts: torch.Tensor) -> torch.Tensor:
    """Join the counts from 6 up, which are rare, into one."""
    return torch.cat([counts[:6], counts[6:].sum()[None]])


def test_masks_of_different_calls_are_independent() -> None:
    """The share dropped in both of two masks is the product, within 5 sigma: over calls, and over seeds one apart."""
    count, share = 2**20, 0.1
    masks = []
    for seed in (0, 1, 2, 3):
        torch.manual_seed(seed)
        masks += [~keep_mask(torch.Size([count]), share, device=CPU) for _ in range(3)]
    sigma = (count * share**2 * (1 - share**2)) ** 0.5
    for i, first in enumerate(masks):
        for second in masks[:i]:
            for shift in (0, 1, 128):
                both = int((first & second.roll(shift)).sum())
                assert abs(both - count * share**2) < 5 * sigma


def test_each_unit_is_dropped_over_many_calls() -> None:
    """No index is favoured: over 10^4 calls each of 128 units is dropped a tenth of the time, within 5 sigma."""
    torch.manual_seed(2)
    calls = 10_000
    dropped = sum((~keep_mask(torch.Size([128]), 0.1, device=CPU)).long() for _ in range(calls))
    assert isinstance(dropped, torch.Tensor)
    assert float((dropped - 0.1 * calls).abs().max()) < 5 * (calls * 0.09) ** 0.5


def test_mean_is_kept_and_the_seed_decides() -> None:
    dropout, values = Dropout(0.1), torch.ones(1000, 1000)
    torch.manual_seed(4)
    first = dropout(values)
    torch.manual_seed(4)
    assert torch.equal(first, dropout(values))
    assert not torch.equal(first, dropout(values))
    assert first.unique().tolist() == pytest.approx([0.0, 1 / 0.9])
    assert float(first.mean()) == pytest.approx(1.0, abs=5 * (0.1 / 0.9) ** 0.5 / 1000)


def test_nothing_is_dropped_when_judging() -> None:
    values = torch.randn(8, 8)
    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0)(values) is values


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, BLOCK // 2), (3, BLOCK // 2 + 1), (5, 3, BLOCK // 4), (0, 3)])
@pytest.mark.parametrize("first_row", [0, 3, torch.tensor(3, dtype=torch.int32)], ids=["first", "later", "followed"])
def test_blocks_drop_what_the_mask_says(
    dtype: torch.dtype, shape: tuple[int, ...], first_row: int | torch.Tensor
) -> None:
    """Code that is not compiled gives every bit of what compiled code computes, forward and backward."""
    values = torch.randn(shape).to(dtype).requires_grad_()
    dropout = Dropout(0.3)
    dropout.first_row = first_row
    torch.manual_seed(5)
    dropped = dropout(values)
    gradient = torch.randn(shape).to(dtype)
    dropped.backward(gradient)
    torch.manual_seed(5)
    kept = keep_mask(values.shape, 0.3, device=CPU, first_row=first_row)
    assert torch.equal(dropped, torch.where(kept, values * (1 / 0.7), 0.0))
    assert torch.equal(values.grad, torch.where(kept, gradient * (1 / 0.7), 0.0))


def test_blocks_of_values_in_another_order() -> None:
    """The place of a unit is that in its tensor, not in memory; what is dropped is zero, though it was no number."""
    values = torch.full((4, 6), float("inf")).T
    torch.manual_seed(6)
    dropped = Dropout(0.5)(values)
    torch.manual_seed(6)
    kept = keep_mask(values.shape, 0.5, device=CPU)
    assert torch.equal(dropped, torch.where(kept, values, 0.0))
    assert bool((values == float("inf")).all())  # and what was given is as it was
