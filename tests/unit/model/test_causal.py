"""Causal batches: no token sees a later one, whichever way scores are computed, and a phase is one graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention.flex_attention import create_mask

from bertwright.model import encoder
from bertwright.model.build import build_encoder, named_size
from bertwright.model.encoder import Encoder
from bertwright.model.layers import attention
from bertwright.model.layers.attention import Attention
from bertwright.model.layers.attention_mask import build_mask, mask_mod
from bertwright.objectives.causal import CausalPhases, next_tokens
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.train.step import forward_loss_of
from bertwright.types import Batch

VOCAB, LENGTH = 131, 24
LOCAL: dict[str, Any] = {"architecture": "modern", "global_every": 2, "local_window": 6, "layers": 3}
MODELS: list[dict[str, Any]] = [{}, {"architecture": "modern"}, LOCAL, {"architecture": "deberta"}]
LENGTHS = torch.tensor([LENGTH, 9, 17])


def model_of(**over: Any) -> Encoder:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "dropout": 0.0, "attention_dropout": 0.0}
    return build_encoder(named_size("tiny", vocab_size=VOCAB, **{**shape, **over})).eval()


def batch_of(*, packed: bool = False) -> Batch:
    torch.manual_seed(1)
    here = torch.arange(LENGTH) < LENGTHS[:, None]
    ids = torch.randint(5, VOCAB, here.shape) * here
    documents = (torch.arange(LENGTH) // 7 + 1) * here if packed else None
    text = here & (torch.arange(LENGTH) % 7 > 0)
    return Batch(ids, ids * 0, here, text, text, None, documents)


def hidden_of(model: Encoder, batch: Batch, **over: Any) -> torch.Tensor:
    rows = batch.input_ids, batch.token_type_ids, batch.attention_mask
    return model.encode(*rows, documents=batch.documents, causal=True, **over)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("over", MODELS)
def test_what_a_token_sees_ends_with_itself(over: dict[str, Any], packed: bool) -> None:
    """By the gradient: of token 10, the tokens it depends on are those before it, of its document, and no padding."""
    model, batch = model_of(**over), batch_of(packed=packed)
    seen: list[torch.Tensor] = []
    model.get_submodule("embeddings").register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    hidden = hidden_of(model, batch)
    (gradient,) = torch.autograd.grad((hidden[:, 10] * torch.randn(32)).sum(), seen[0])
    for row, length in enumerate(LENGTHS.tolist()):
        if length > 10:
            first = 7 if packed else 0
            assert gradient[row].abs().sum(-1).nonzero()[:, 0].tolist() == [*range(first, 11)]


@pytest.mark.parametrize("over", MODELS)
def test_a_row_is_its_beginning_and_its_padding_changes_nothing(over: dict[str, Any]) -> None:
    model, batch = model_of(**over), batch_of()
    with torch.inference_mode():
        whole = hidden_of(model, batch)
        for row, length in enumerate(LENGTHS.tolist()):
            ids = batch.input_ids[row : row + 1, :length]
            alone = model.encode(ids, ids * 0, ids >= 0, causal=True)
            torch.testing.assert_close(whole[row, :length], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("over", MODELS)
def test_long_rows_and_asked_positions_give_the_same(
    over: dict[str, Any], packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = model_of(**over), batch_of(packed=packed)
    at = torch.tensor([[3, 20, 0], [8, 1, 2], [16, 5, 4]])
    with torch.inference_mode():
        expected = hidden_of(model, batch)
        torch.testing.assert_close(
            hidden_of(model, batch, at=at), attention.gather_positions(expected, at), atol=1e-5, rtol=0
        )
        monkeypatch.setattr(encoder, "LONG", 16)
        monkeypatch.setattr(attention, "CHUNK", 1)
        long, asked = hidden_of(model, batch), hidden_of(model, batch, at=at)
    here = batch.attention_mask
    torch.testing.assert_close(long[here], expected[here], atol=1e-5, rtol=0)
    torch.testing.assert_close(asked, attention.gather_positions(expected, at), atol=1e-5, rtol=0)


@pytest.mark.parametrize("window", [None, 6])
def test_the_rule_of_blocks_is_that_of_the_bias(window: int | None) -> None:
    documents = batch_of(packed=True).documents
    assert documents is not None
    bias = build_mask(documents > 0, documents, window=window, causal=True).bias
    rule = create_mask(mask_mod(documents, window, causal=True), 3, None, LENGTH, LENGTH, device="cpu")
    assert torch.equal(rule, bias == 0)


def test_the_kernel_for_causal_rows_agrees_with_the_bias() -> None:
    """That of `scaled_dot_product_attention`, which a GPU runs without the numbers of a mask."""
    layer = Attention(named_size("tiny", vocab_size=VOCAB), bias=True).eval()
    torch.manual_seed(2)
    query, key, value = torch.randn((3, 3, layer.heads, LENGTH, 64))
    bias = build_mask(batch_of().attention_mask, causal=True).bias
    assert bias.shape == (1, 1, LENGTH, LENGTH)
    with torch.inference_mode():
        torch.testing.assert_close(
            layer._by_kernel(query, key, value, None, causal=True),
            layer._on_cpu(query, key, value, bias),
            atol=1e-5, rtol=0,
        )  # fmt: skip


@pytest.mark.parametrize("over", MODELS)
def test_scores_are_of_all_positions_but_the_last(over: dict[str, Any]) -> None:
    model, batch = model_of(**over), batch_of()
    with torch.inference_mode():
        scores = model(next_tokens(batch))
        expected = model.mlm_logits(hidden_of(model, batch))
    assert scores.nsp is None
    torch.testing.assert_close(scores.mlm, expected[:, :-1], atol=1e-5, rtol=0)


def test_a_phase_is_one_graph() -> None:
    """Two batches of a causal phase, then three of a masked one whose number of masks changes: two graphs in all."""
    model = model_of(**LOCAL).train()
    masked = build_objective(
        ObjectiveConfig(next_sentence=False, mask_rate=0.4, final_mask_rate=0.15), vocab_size=VOCAB, mask_id=4
    )
    objective = CausalPhases(masked, lambda progress: progress < 0.4)
    graphs: list[int] = []

    def counted(module: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(1)
        return module.forward

    torch.compiler.reset()
    forward_loss = torch.compile(
        forward_loss_of(model, objective, torch.no_grad), fullgraph=True, dynamic=False, backend=counted
    )
    batch = batch_of()
    for step in range(5):
        example = objective.corrupt(batch, torch.Generator().manual_seed(step), step / 5)
        for slots in example.dynamic_slots:
            torch._dynamo.mark_dynamic(slots, 1)
        found = forward_loss(replace(example)).total
        torch.testing.assert_close(found, objective.loss(model(example), example).total, atol=1e-4, rtol=0)
        assert len(graphs) == (1 if step < 2 else 2)
