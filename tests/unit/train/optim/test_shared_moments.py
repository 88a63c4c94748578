"""Moments shared out among processes: the steps of one, bit for bit, and each moment in one process alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from bertwright.model.bert import BertForPreTraining
from bertwright.model.build import named_size
from bertwright.train.optim import shared_moments
from bertwright.train.optim.config import OptimizerConfig
from bertwright.train.optim.optimizers import build_optimizers
from bertwright.train.optim.shared_moments import owners_of, share_moments
from bertwright.train.parallel.group import Group

STEPS = 3


class Threads:
    """Stands for the messages of two processes, which are threads here."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=60)
        self.rank = threading.local()
        self.sent: Tensor = torch.empty(0)

    def broadcast(self, values: Tensor, source: int, *, async_op: bool) -> Threads:
        assert async_op
        if self.rank.value == source:
            self.sent = values.clone()
        self.barrier.wait()
        values.copy_(self.sent)
        self.barrier.wait()
        return self

    def wait(self) -> None:
        pass


def model_after(name: str, group: Group | None) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a model after some steps with random gradients, the same for all, and the moments kept here by name."""
    model = BertForPreTraining(named_size("tiny", vocab_size=64), drawn=False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    (optimizer,) = build_optimizers(model, OptimizerConfig(name=name, learning_rate=0.01))
    if group is not None:
        share_moments(optimizer, group)
    for _ in range(STEPS):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        optimizer.zero_grad()
    return model, {n: optimizer.state[p]["exp_avg"] for n, p in model.named_parameters() if p in optimizer.state}


@pytest.mark.parametrize("name", ["adamw", "stable-adamw", "lamb"])
def test_two_processes_make_the_steps_of_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads()
    monkeypatch.setattr(shared_moments.dist, "broadcast", threads.broadcast)

    def process(rank: int) -> tuple[nn.Module, dict[str, Tensor]]:
        threads.rank.value = rank
        return model_after(name, Group(rank, 2))

    alone, moments = model_after(name, None)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(process, range(2)))
    for model, _ in both:
        for ours, theirs in zip(model.parameters(), alone.parameters(), strict=True):
            assert torch.equal(ours, theirs)
    kept = [set(found) for _, found in both]
    assert not kept[0] & kept[1]
    assert kept[0] | kept[1] == set(moments)
    for _, found in both:
        assert all(torch.equal(value, moments[each]) for each, value in found.items())


def test_shares_are_about_equal() -> None:
    """No process has more than the others by more than one parameter, and none has nothing while others have two."""
    sizes = [700, 30, 30, 500, 500, 500, 20, 400, 400, 30]
    owners = owners_of(sizes, 3)
    held = [sum(size for size, owner in zip(sizes, owners, strict=True) if owner == rank) for rank in range(3)]
    assert sum(held) == sum(sizes)
    assert max(held) - min(held) <= 400
    assert owners_of([5], 4) == [0]
