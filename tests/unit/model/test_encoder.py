"""The model by itself: gathered positions, padding, initial weights, linear layers, and one graph for all masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional

from bertwright.model.bert import BertForPreTraining
from bertwright.model.build import build_encoder, named_size
from bertwright.model.config import BertConfig
from bertwright.model.layers.attention_mask import MASK_VALUE, attention_bias
from bertwright.model.layers.linear import Linear
from bertwright.types import MaskedBatch, Scores


def small(**over: float) -> BertConfig:
    return named_size("tiny", vocab_size=131, layers=2, hidden_size=32, heads=2, intermediate_size=64, **over)


def example(rows: int = 4, length: int = 16, masked: int = 3) -> MaskedBatch:
    torch.manual_seed(5)
    mask = torch.arange(length)[None] < torch.randint(6, length + 1, (rows, 1))
    positions = torch.randint(6, (rows, masked))
    return MaskedBatch(
        input_ids=torch.randint(131, (rows, length)),
        token_type_ids=torch.randint(2, (rows, length)),
        attention_mask=mask,
        masked_positions=positions,
        masked_labels=torch.randint(131, (rows, masked)),
        masked_weights=torch.ones(rows, masked),
        next_label=torch.randint(2, (rows,)),
    )


def loss_of(scores: Scores, masked: MaskedBatch) -> torch.Tensor:
    assert masked.next_label is not None
    words = functional.cross_entropy(scores.mlm.flatten(0, 1), masked.masked_labels.flatten())
    return words + functional.cross_entropy(scores.nsp, masked.next_label)


MODERN: dict[str, Any] = {"architecture": "modern", "global_every": 2, "local_window": 8, "layers": 2}


@pytest.mark.parametrize("over", [{}, MODERN, {**MODERN, "next_sentence": True}])
def test_what_is_asked_does_not_change_the_answer(over: dict[str, Any]) -> None:
    """The last block computes asked positions alone; the logits, and every gradient, are those of all positions."""
    model, masked = build_encoder(named_size("tiny", vocab_size=131, **over)).eval(), example()
    everywhere = model.mlm_logits(model.encode(masked.input_ids, masked.token_type_ids, masked.attention_mask))
    expected = everywhere[torch.arange(4)[:, None], masked.masked_positions]
    scores = model(masked)
    torch.testing.assert_close(scores.mlm, expected, atol=1e-5, rtol=0)
    if scores.nsp is not None:
        whole = model.encode(masked.input_ids, masked.token_type_ids, masked.attention_mask)
        torch.testing.assert_close(scores.nsp, model.nsp_logits(whole), atol=1e-5, rtol=0)
    weights = dict(model.named_parameters())
    loss = scores.mlm.square().sum(), expected.square().sum()
    few, all_ = (torch.autograd.grad(x, list(weights.values()), allow_unused=True) for x in loss)
    for name, one, other in zip(weights, few, all_, strict=True):
        assert (one is None) == (other is None), name
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_padding_changes_nothing() -> None:
    """Whatever ids stand under the padding, and however wide it is, real tokens look the same."""
    model, masked = BertForPreTraining(small()).eval(), example()
    mask = masked.attention_mask
    other = torch.where(mask, masked.input_ids, torch.randint(131, mask.shape))
    wide = [functional.pad(t, (0, 7)) for t in (other, masked.token_type_ids, mask)]
    with torch.inference_mode():
        first = model.encode(masked.input_ids, masked.token_type_ids, mask)
        second = model.encode(*wide)[:, : mask.shape[1]]
    torch.testing.assert_close(first[mask], second[mask], atol=1e-5, rtol=0)


def test_a_local_block_sees_its_window_alone_and_padding_stays_finite() -> None:
    """Padding further than the window from any token sees nothing; its rows must not turn into NaN, in bfloat16 too."""
    shape = named_size("tiny", architecture="modern", vocab_size=131, layers=2, global_every=2, local_window=8)
    model = build_encoder(shape).eval()
    ids, mask = torch.randint(131, (1, 64)), torch.arange(64)[None] < 20
    bias = attention_bias(mask, window=8)
    seen = bias[0, 0] > MASK_VALUE / 2
    assert seen[10].nonzero()[:, 0].tolist() == list(range(6, 15))
    assert not seen[40].any()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert model.encode(ids, ids * 0, mask).isfinite().all()
    assert bias.bfloat16().isfinite().all()


def test_first_weights_are_published_ones() -> None:
    """Truncated at 2 sigma of 0.02, standard deviation 0.0176; 10^6 draws, so the sample deviation is within 1%."""
    torch.manual_seed(0)
    model = BertForPreTraining(named_size("tiny", vocab_size=8192))
    words = model.embeddings.words.weight.detach()
    assert words.numel() > 1e6
    assert float(words.abs().max()) <= 0.04
    assert float(words.std()) == pytest.approx(0.02 * 0.8796, rel=0.01)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            assert 0 < float(parameter.detach().std()) < 0.02, name


def test_linear_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs, values = Linear(24, 40), nn.Linear(24, 40), torch.randn(6, 7, 24, requires_grad=True)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(values), theirs(values))
    weights = torch.randn(6, 7, 40)
    inputs = [torch.autograd.grad((layer(values) * weights).sum(), values)[0] for layer in (ours, theirs)]
    (ours(values) * weights).sum().backward()
    (theirs(values) * weights).sum().backward()
    torch.testing.assert_close(*inputs)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_step_is_a_function_of_the_seed(dropout: float) -> None:
    model, masked = BertForPreTraining(small(dropout=dropout, attention_dropout=dropout)).train(), example()
    losses = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        losses.append(loss_of(model(masked), masked).item())
    assert losses[0] == losses[1]
    assert (losses[0] == losses[2]) == (dropout == 0.0)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's compiler
def test_modern_compiles_once_for_every_number_of_masks() -> None:
    """One graph without breaks serves 3, 5 and 4 masked slots, in bfloat16."""
    shape = named_size(
        "tiny", architecture="modern", vocab_size=131, hidden_size=32, heads=2, intermediate_size=48, global_every=2
    )
    model = build_encoder(shape).train()
    counter = CompileCounterWithBackend("aot_eager")

    def forward(asked: MaskedBatch) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            words = model(asked).mlm.float()
        return functional.cross_entropy(words.flatten(0, 1), asked.masked_labels.flatten())

    compiled = torch.compile(forward, fullgraph=True, dynamic=False, backend=counter)
    for count in (3, 5, 4):
        asked = example(masked=count)
        for slots in (asked.masked_positions, asked.masked_labels, asked.masked_weights):
            torch._dynamo.mark_dynamic(slots, 1)
        loss = compiled(asked)
        loss.backward()
        with torch.inference_mode():
            plain = functional.cross_entropy(model(asked).mlm.flatten(0, 1), asked.masked_labels.flatten())
        assert loss.item() == pytest.approx(plain.item(), abs=0.1)
    assert counter.frame_count == 1
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
