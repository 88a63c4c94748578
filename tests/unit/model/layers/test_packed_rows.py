"""Packed rows in the model: each document is scored as in a row of its own, and both forms of the mask agree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention.flex_attention import create_mask

from bertwright.batch_layout import RowLayout
from bertwright.model.bert import positions_in
from bertwright.model.build import build_encoder, named_size
from bertwright.model.encoder import Encoder
from bertwright.model.layers.attention import Attention
from bertwright.model.layers.attention_mask import build_mask, kernel_mask, mask_mod
from bertwright.types import MaskedBatch

SIZES = [[5, 3, 6], [9, 7], [16], [2, 2, 2, 2]]
LENGTH = 16
MODELS = [
    {},
    {"architecture": "modern"},
    {"architecture": "modern", "global_every": 2, "local_window": 4, "layers": 2},
    {"architecture": "modern", "global_every": 2, "local_window": 4, "layers": 3},
]


def packed_documents() -> torch.Tensor:
    rows = torch.zeros((len(SIZES), LENGTH), dtype=torch.int64)
    for row, sizes in enumerate(SIZES):
        rows[row, : sum(sizes)] = torch.repeat_interleave(torch.arange(1, len(sizes) + 1), torch.tensor(sizes))
    return rows


def packed_example(masked: int = 6) -> MaskedBatch:
    torch.manual_seed(1)
    documents = packed_documents()
    ids = torch.randint(131, documents.shape)
    positions = torch.stack([torch.randperm(sum(sizes))[:masked].sort().values for sizes in SIZES])
    weights = torch.ones(positions.shape)
    return MaskedBatch(ids, ids * 0, documents > 0, positions, ids.gather(1, positions), weights, documents=documents)


def model_of(**over: Any) -> Encoder:
    torch.manual_seed(0)
    return build_encoder(named_size("tiny", vocab_size=131, **over)).eval()


@pytest.mark.parametrize("over", MODELS)
def test_a_document_is_scored_as_if_alone(over: dict[str, Any]) -> None:
    """Through `forward`, whose last block computes asked positions alone, and at every position."""
    model, masked = model_of(**over), packed_example()
    with torch.inference_mode():
        hidden = model.encode(
            masked.input_ids, masked.token_type_ids, masked.attention_mask, documents=masked.documents
        )
        everywhere = model.mlm_logits(hidden)
        scores = model(masked)
        assert everywhere.isfinite().all()
        for row, sizes in enumerate(SIZES):
            alone = [
                model.mlm_logits(model.encode(ids[None], ids[None] * 0, ids[None] >= 0))[0]
                for ids in masked.input_ids[row, : sum(sizes)].split(sizes)
            ]
            expected = torch.cat(alone)
            torch.testing.assert_close(everywhere[row, : sum(sizes)], expected, atol=1e-5, rtol=0)
            torch.testing.assert_close(scores.mlm[row], expected[masked.masked_positions[row]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("over", MODELS)
def test_one_document_a_row_packed_is_the_row_itself(over: dict[str, Any]) -> None:
    model, masked = model_of(**over), packed_example()
    mask = masked.attention_mask
    with torch.inference_mode():
        plain = model.encode(masked.input_ids, masked.token_type_ids, mask)
        packed = model.encode(masked.input_ids, masked.token_type_ids, mask, documents=mask.long())
    torch.testing.assert_close(packed[mask], plain[mask], atol=1e-5, rtol=0)


def test_gradients_stay_in_the_document() -> None:
    model, masked = model_of().train(), packed_example()
    seen: list[torch.Tensor] = []
    model.get_submodule("embeddings").register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    hidden = model.encode(masked.input_ids, masked.token_type_ids, masked.attention_mask, documents=masked.documents)
    (gradient,) = torch.autograd.grad(hidden[0, 6].square().sum(), seen[0])
    assert gradient[0].abs().sum(-1).nonzero()[:, 0].tolist() == [5, 6, 7]
    assert not gradient[1:].any()


def test_positions_start_anew() -> None:
    expected = [[*range(5), *range(3), *range(6), 0, 1], [*range(9), *range(7)], [*range(16)], [0, 1] * 4 + [*range(8)]]
    assert positions_in(packed_documents()).tolist() == expected


@pytest.mark.parametrize("window", [None, 4])
def test_the_rule_of_blocks_is_that_of_the_bias(window: int | None) -> None:
    documents = packed_documents()
    rows, length = documents.shape
    bias = build_mask(documents > 0, documents, window=window).bias
    rule = create_mask(mask_mod(documents, window), rows, None, length, length, device="cpu")
    assert torch.equal(rule, bias == 0)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's compiler
@pytest.mark.parametrize("window", [None, 4])
def test_attention_by_blocks_is_that_by_bias(window: int | None) -> None:
    documents = packed_documents()
    layer = Attention(named_size("tiny", vocab_size=131), bias=True).eval()
    torch.manual_seed(2)
    query, key, value = torch.randn((3, len(SIZES), layer.heads, LENGTH, 64))
    seen = kernel_mask("flex", documents > 0, documents, RowLayout(), window=window)
    assert seen.blocks is not None
    with torch.inference_mode():
        by_blocks = layer._attend(query, key, value, seen)
        by_bias = layer._on_cpu(query, key, value, build_mask(documents > 0, documents, window=window).bias)
    torch.testing.assert_close(by_blocks, by_bias, atol=1e-5, rtol=0)
