"""A block with its weights laid out beforehand answers as the block it was made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bertwright.model.build import build_encoder
from bertwright.model.config import BertConfig
from bertwright.model.deberta import DebertaConfig
from bertwright.model.encoder import Encoder
from bertwright.model.layers.onednn_block import PackedBlock, can_pack, pack

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not can_pack(CPU, torch.float32), reason="this torch has no products of oneDNN")


SHAPE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "layers": 3, "heads": 4, "intermediate_size": 64, "max_positions": 40,
}  # fmt: skip


def model(shape: BertConfig | None = None) -> Encoder:
    torch.manual_seed(0)
    drawn = build_encoder(shape or BertConfig(**SHAPE)).eval()
    with torch.no_grad():
        for parameter in drawn.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return drawn


@pytest.mark.parametrize("at", [None, torch.tensor([[0, 4], [2, 2], [1, 3]])])
@pytest.mark.parametrize(
    "shape",
    [
        BertConfig(**SHAPE),
        BertConfig(**SHAPE, hidden_act="gelu_new"),
        BertConfig(**SHAPE, hidden_act="relu"),
        DebertaConfig(**SHAPE, position_buckets=8),
    ],
)
@torch.inference_mode()
def test_the_same_states(shape: BertConfig, at: torch.Tensor | None) -> None:
    plain, packed = model(shape), model(shape)
    pack(packed)
    assert all(isinstance(block, PackedBlock) for block in packed.blocks)
    ids = torch.randint(5, 97, (3, 11))
    mask = torch.arange(11) < torch.tensor([[11], [7], [5]])
    states = [one.encode(ids, torch.zeros_like(ids), mask, at) for one in (plain, packed)]
    real = mask if at is None else torch.ones_like(at, dtype=torch.bool)
    torch.testing.assert_close(states[1][real], states[0][real], atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not can_pack(CPU, torch.bfloat16), reason="this processor has no products of bfloat16")
@torch.inference_mode()
def test_bfloat16_is_no_further_from_float32_than_unpacked() -> None:
    ids = torch.randint(5, 97, (64, 11))
    mask = torch.ones_like(ids, dtype=torch.bool)
    exact, half, packed = model(), model().to(torch.bfloat16), model().to(torch.bfloat16)
    pack(packed)
    off = [(one.encode(ids, 0 * ids, mask).float() - exact.encode(ids, 0 * ids, mask)).norm() for one in (half, packed)]
    assert 0 < off[1] < 1.1 * off[0]


def test_bfloat16_is_left_as_it_is_where_the_processor_has_no_products_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert can_pack(CPU, torch.float32)
    assert not can_pack(CPU, torch.bfloat16)
