"""Long rows on a CPU: scores of some queries at a time, the same answers and gradients, and memory that stays small."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from bertwright.model import encoder
from bertwright.model.build import build_encoder, named_size
from bertwright.model.layers import attention
from bertwright.model.layers.onednn_block import can_pack, pack

MODERN: dict[str, Any] = {"architecture": "modern", "global_every": 2, "local_window": 16}
LENGTH = 70


def model_of(over: dict[str, Any]) -> encoder.Encoder:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "layers": 3, "max_positions": LENGTH}
    return build_encoder(
        named_size("tiny", vocab_size=97, **{**shape, "dropout": 0.0, "attention_dropout": 0.0, **over})
    )


def as_long(patch: pytest.MonkeyPatch) -> None:
    """Take rows of over 16 tokens for long ones, in chunks of 16 queries."""
    patch.setattr(encoder, "LONG", 16)
    patch.setattr(attention, "CHUNK", 1)


def inputs(rows: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(5, 97, (rows, LENGTH))
    return ids, torch.zeros_like(ids), torch.arange(LENGTH) < torch.tensor([[LENGTH], [41]])[:rows]


@pytest.mark.parametrize("requested", [True, False])
@pytest.mark.parametrize("documents", [True, False])
@pytest.mark.parametrize("over", [{}, MODERN])
def test_answers_and_gradients_of_all_scores_together(
    over: dict[str, Any], documents: bool, requested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (ids, types, mask) = model_of(over), inputs()
    packed = (torch.arange(LENGTH) // 30 + 1) * mask if documents else None
    at = torch.tensor([[0, 7, 69], [0, 40, 3]]) if requested else None
    used, some = mask if at is None else mask.gather(1, at), torch.randn(32)

    def run() -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
        hidden = model.encode(ids, types, mask, at, packed)
        loss = (hidden[used] @ some).square().sum()  # of normalised states, neither sum nor length moves
        return hidden[used].detach(), torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)

    expected = run()
    as_long(monkeypatch)
    found = run()
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    for one, other in zip(found[1], expected[1], strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert float((one - other).norm()) <= 1e-5 * max(1.0, float(other.norm()))


def test_units_are_dropped_alike_forward_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores computed again in the backward pass drop what the forward pass dropped: a step along the gradient
    helps."""
    as_long(monkeypatch)
    model, (ids, types, mask) = model_of({"attention_dropout": 0.3}).double().train(), inputs()

    def loss() -> torch.Tensor:
        torch.manual_seed(3)
        return model.encode(ids, types, mask)[mask].square().mean()

    weight = model.get_parameter("blocks.0.attention.value.weight")
    (gradient,) = torch.autograd.grad(loss(), [weight])
    step = 1e-5 * gradient / gradient.norm()
    with torch.no_grad():
        weight.add_(step)
        up = loss()
        weight.sub_(2 * step)
        down = loss()
    assert float(up - down) == pytest.approx(2e-5 * float(gradient.norm()), rel=1e-3)


def test_packed_weights_read_long_rows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    if not can_pack(torch.device("cpu"), torch.float32):
        pytest.skip("torch has no products of packed weights here")
    model, (ids, types, mask) = model_of({}).eval(), inputs()
    with torch.inference_mode():
        expected = model.encode(ids, types, mask)[mask]
        pack(model)
        as_long(monkeypatch)
        torch.testing.assert_close(model.encode(ids, types, mask)[mask], expected, atol=1e-5, rtol=1e-5)


def test_no_tensor_grows_with_the_square_of_a_long_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """In evaluation and, between forward and backward pass, in training."""
    as_long(monkeypatch)
    kept: list[int] = []
    for over in ({}, MODERN):
        model, (ids, types, mask) = model_of(over), inputs(rows=1)

        def note(tensor: torch.Tensor) -> torch.Tensor:
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model.encode(ids, types, mask)
    assert 0 < max(kept) < LENGTH * LENGTH * 2


PROGRAM = """
import resource, torch
from bertwright.model.layers.attention import Attention
from bertwright.model.config import BertConfig
from bertwright.model.layers.attention_mask import LongRowMask
part = Attention(BertConfig(vocab_size=9, hidden_size=48, layers=1, heads=12, intermediate_size=48), bias=True).eval()
def peak_of(length):
    with torch.inference_mode():
        for _ in range(2):
            part(torch.randn(1, length, 48), LongRowMask(torch.ones(1, length, dtype=torch.bool), None, None))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
first = peak_of(64)
print((peak_of(2048) - first) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in other units")
def test_the_process_grows_by_a_few_chunks_alone() -> None:
    """Blocks of 16 MB, asked for and freed again and again, add up to all scores (201 MB) where each finds new room."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert float(done.stdout) < 100
