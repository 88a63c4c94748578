"""Sharded weights are gathered in the type of the products; gradients of a small model leave in several messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from bertwright.model.bert import BertForPreTraining
from bertwright.model.build import named_size
from bertwright.train.parallel.wrap import BUCKETS, bucket_megabytes, shard
from bertwright.types import MaskedBatch


@pytest.fixture
def process(tmp_path: Path) -> Iterator[None]:
    """This process as the only one of a run of several."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_gathered_as_asked_and_gradients_kept_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = BertForPreTraining(named_size("tiny", vocab_size=64, dropout=0.0, attention_dropout=0.0))
    plain = BertForPreTraining(named_size("tiny", vocab_size=64, dropout=0.0, attention_dropout=0.0))
    plain.load_state_dict(model.state_dict())
    shard(model, dtype=dtype)
    seen: list[torch.dtype] = []
    block = model.block(0)
    block.attention.register_forward_pre_hook(lambda *_: seen.append(block.attention.query.weight.dtype))
    ids = torch.arange(24).view(2, 12)
    at, used = torch.arange(1, 9).view(2, 4), torch.ones(2, 4)
    batch = MaskedBatch(ids, torch.zeros_like(ids), torch.ones_like(ids, dtype=torch.bool), at, at, used)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        found, wanted = model(batch), plain(batch)
    assert seen == [dtype]
    found.mlm.float().logsumexp(-1).sum().backward()
    wanted.mlm.float().logsumexp(-1).sum().backward()
    tolerance = 1e-5 if dtype is torch.float32 else 0.1
    gradients = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    assert gradients
    for name, parameter in model.named_parameters():
        assert parameter.dtype is torch.float32
        if name in gradients:
            assert parameter.grad is not None
            assert parameter.grad.dtype is torch.float32
            ours = parameter.grad.full_tensor()  # type: ignore[attr-defined]
            scale = gradients[name].norm().clamp(min=1e-3)
            assert (ours - gradients[name]).norm() <= tolerance * scale, name


@pytest.mark.parametrize(("width", "expected"), [(64, 1.0), (2048, 4 * 2048 * 2048 / 2**20 / BUCKETS), (16384, 25.0)])
def test_buckets_are_a_share_of_the_gradients_within_bounds(width: int, expected: float) -> None:
    model = nn.Linear(width, width, bias=False, device="meta")
    assert bucket_megabytes(model) == pytest.approx(expected)
