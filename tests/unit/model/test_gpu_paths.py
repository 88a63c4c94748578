"""The paths of a GPU, run on the CPU: answers and gradients are those of the ordinary path, of rows of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from bertwright.batch_layout import RowLayout
from bertwright.model import encoder
from bertwright.model.build import build_encoder, named_size
from bertwright.model.encoder import Encoder
from bertwright.model.layers import attention
from bertwright.model.layers.attention_kernel import Kernel
from bertwright.model.layers.attention_mask import MASK_VALUE
from bertwright.objectives.causal import next_tokens
from bertwright.types import Batch, MaskedBatch

VOCAB, LENGTH, MASKED = 131, 24, 5
TINY: dict[str, Any] = {"hidden_size": 32, "heads": 2, "intermediate_size": 64, "layers": 3}
MODELS: dict[str, dict[str, Any]] = {
    "bert": {},
    "modern": {"architecture": "modern"},
    "local": {"architecture": "modern", "global_every": 2, "local_window": 6},
}
DOCUMENTS = {
    "full": [[24]] * 4,
    "padded": [[24], [9], [17], [1]],
    "packed": [[24], [9, 3, 12], [5, 5, 5], [2] * 7],
}
ROWS = list(DOCUMENTS)


def batch_of(rows: str) -> Batch:
    """Return four rows of a kind, whose layout is known as where batches are made."""
    torch.manual_seed(1)
    documents = torch.zeros((4, LENGTH), dtype=torch.int64)
    for row, sizes in zip(documents, DOCUMENTS[rows], strict=True):
        row[: sum(sizes)] = torch.repeat_interleave(torch.arange(1, len(sizes) + 1), torch.tensor(sizes))
    ids, here = torch.randint(5, VOCAB, documents.shape), documents > 0
    layout = RowLayout(full=rows == "full", sequences=16 if rows == "packed" else 0)
    return Batch(ids, ids * 0, here, here, here, None, documents if rows == "packed" else None, layout)


def masked(batch: Batch) -> MaskedBatch:
    """Return a batch with five positions of each row asked, the first for unused slots."""
    lengths = batch.attention_mask.sum(1, keepdim=True)
    positions = (torch.rand(len(lengths), MASKED) * lengths).long()
    labels = batch.input_ids.gather(1, positions)
    rows = batch.input_ids, batch.token_type_ids, batch.attention_mask
    return MaskedBatch(
        *rows, positions, labels, torch.ones_like(labels).float(), documents=batch.documents, layout=batch.layout
    )


def model_of(**over: Any) -> Encoder:
    torch.manual_seed(0)
    shape = {**TINY, "dropout": 0.0, "attention_dropout": 0.0, **over}
    return build_encoder(named_size("tiny", vocab_size=VOCAB, **shape)).double().train()


def answers(model: Encoder, batch: MaskedBatch, *, causal: bool) -> list[torch.Tensor]:
    """Return the scores, the hidden states of tokens, and the gradient of each weight."""
    model.zero_grad()
    hidden = model.encode(
        batch.input_ids, batch.token_type_ids, batch.attention_mask,
        documents=batch.documents, causal=causal, layout=batch.layout,
    )[batch.attention_mask]  # fmt: skip
    scores = model(batch).mlm[batch.masked_weights > 0]
    torch.manual_seed(2)
    loss = (scores * torch.randn_like(scores)).sum() + (hidden * torch.randn_like(hidden)).sum()
    loss.backward()
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    return [scores.detach(), hidden.detach(), *gradients]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> set[Kernel]:
    """Return the kernels that masks are made for, as they come."""
    found: set[Kernel] = set()
    usual = encoder.kernel_for

    def noted(*arguments: Any, **named: Any) -> Kernel:
        kernel = usual(*arguments, **named)
        found.add(kernel)
        return kernel

    monkeypatch.setattr(encoder, "kernel_for", noted)
    return found


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", list(MODELS))
def test_a_gpu_answers_as_a_cpu(
    name: str, rows: str, causal: bool, on_gpu_paths: Callable[[], None], kernels: set[Kernel]
) -> None:
    """Through the kernels that are chosen there, whatever they are: hidden states, scores and gradients."""
    model, batch = model_of(**MODELS[name]), batch_of(rows)
    example = next_tokens(batch) if causal else masked(batch)
    expected = answers(model, example, causal=causal)
    assert kernels == {"cpu"}
    kernels.clear()
    on_gpu_paths()
    found = answers(model, example, causal=causal)
    assert kernels <= {"no mask", "varlen"}
    assert ("varlen" in kernels) == (rows == "packed" or name == "local" or (rows == "padded" and not causal))
    assert len(found) == len(expected) > 20
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("rows", ROWS)
def test_weights_are_dropped_by_each_kernel(rows: str, on_gpu_paths: Callable[[], None], kernels: set[Kernel]) -> None:
    """The mean of some draws comes nearer to what is computed without than one of them."""
    model, example = model_of(attention_dropout=0.25, layers=1), masked(batch_of(rows))
    on_gpu_paths()
    with torch.no_grad():
        expected = model.eval()(example).mlm
        kernels.clear()
        model.train()
        drawn = torch.stack([model(example).mlm for _ in range(20)])
    assert kernels == {"no mask" if rows == "full" else "varlen"}
    assert float((drawn.mean(0) - expected).abs().mean()) < float((drawn[0] - expected).abs().mean())


def test_weights_that_are_looked_at_are_written_down(on_gpu_paths: Callable[[], None], kernels: set[Kernel]) -> None:
    model, example, seen = model_of().eval(), masked(batch_of("padded")), []
    on_gpu_paths()
    for layer in model.modules():
        if isinstance(layer, attention.Attention):
            layer.observe = seen.append
    model(example)
    assert kernels == {"mask"}
    assert len(seen) == TINY["layers"]


def test_some_rows_of_a_batch_are_computed_as_in_it(on_gpu_paths: Callable[[], None]) -> None:
    """What is known of all rows holds for some of them."""
    model, example = model_of().eval(), masked(batch_of("packed"))
    on_gpu_paths()
    with torch.inference_mode():
        expected = model(example).mlm
        found = [model(replace(example.cut(slice(row, row + 2)), normalizer=None)).mlm for row in (0, 2)]
    torch.testing.assert_close(torch.cat(found), expected, atol=1e-6, rtol=1e-6)


def test_in_float16_no_mask_is_minus_infinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds nothing below -65,504: padding that sees nothing in a local block would come out as no number."""
    layer, given = attention.Attention(named_size("tiny", vocab_size=VOCAB, **TINY), bias=True).eval(), []
    monkeypatch.setattr(
        attention.functional, "scaled_dot_product_attention", lambda *heads, attn_mask, **_: given.append(attn_mask)
    )
    for dtype in (torch.float16, torch.bfloat16):
        layer._by_kernel(*torch.randn(3, 1, 2, 6, 16).to(dtype), torch.full((1, 1, 6, 6), MASK_VALUE))
    assert [mask.dtype for mask in given] == [torch.float16, torch.bfloat16]
    assert all(mask.isfinite().all() and (mask < -5e4).all() for mask in given)


def test_on_a_cpu_what_is_known_of_rows_makes_no_other_code() -> None:
    """Full rows or not, one graph; on a GPU `steady` sees to it."""
    model, counter = model_of().eval(), CompileCounter()
    compiled = torch.compile(model, backend=counter, dynamic=False, fullgraph=True)
    with torch.inference_mode():
        for layout in (RowLayout(), RowLayout(full=True), RowLayout(sequences=64)):
            compiled(replace(masked(batch_of("full")), layout=layout))
    assert counter.frame_count == 1
