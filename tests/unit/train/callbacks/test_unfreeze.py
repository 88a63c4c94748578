"""Gradual unfreezing: groups thaw one by one, evenly over a share of the run, and frozen ones do not move."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bertwright.train.callbacks.unfreeze import UnfreezeCallback


@pytest.mark.parametrize(
    ("progress", "thawed"), [(0.0, 0), (0.16, 0), (0.17, 1), (0.33, 1), (0.34, 2), (0.5, 3), (0.9, 3)]
)
def test_groups_thaw_in_order(progress: float, thawed: int) -> None:
    groups = [[nn.Parameter(torch.zeros(1))] for _ in range(3)]
    UnfreezeCallback(groups, share=0.5).thaw(progress)
    assert [group[0].requires_grad for group in groups] == [place < thawed for place in range(3)]


def test_the_optimizer_passes_over_what_is_frozen() -> None:
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([first, second], lr=0.1, fused=True)
    callback = UnfreezeCallback([[second]], share=0.5)
    for progress, moves in ((0.0, False), (0.6, True)):
        before = second.detach().clone()
        callback.thaw(progress)
        ((first * second).sum() + first.sum()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert torch.equal(before, second.detach()) != moves
