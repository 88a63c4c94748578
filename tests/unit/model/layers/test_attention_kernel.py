"""Which kernel attends, by all that decides it, and what the real one of torch makes of shapes and types."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode

from bertwright.batch_layout import RowLayout
from bertwright.model.layers import attention_kernel
from bertwright.model.layers.attention_kernel import (
    AttentionCall,
    Kernel,
    attend_varlen,
    kernel_for,
    kernel_name,
    reach_of,
)
from bertwright.model.layers.attention_mask import sequence_starts

CALL = AttentionCall("cuda", (9, 0), torch.bfloat16, width=64, rows="padded", length=512)
PACKED = {"rows": "packed", "counted": True}
CASES: list[tuple[dict[str, Any], Kernel]] = [
    ({}, "varlen"),
    ({"device": "cpu", "rows": "full"}, "cpu"),
    ({"rows": "full"}, "no mask"),
    ({"rows": "full", "dropout": 0.1}, "no mask"),
    ({"rows": "full", "dtype": torch.float32}, "no mask"),
    ({"rows": "full", "scores": True}, "mask"),
    ({"rows": "full", "window": 128}, "varlen"),
    ({"rows": "full", "window": 128, "length": 64}, "no mask"),  # a window as wide as the row hides nothing
    ({"rows": "full", "window": 128, "dropout": 0.1}, "varlen"),
    ({"causal": True}, "no mask"),
    ({"causal": True, "dropout": 0.1}, "no mask"),
    ({"causal": True, "window": 128}, "varlen"),
    ({"causal": True, **PACKED}, "varlen"),
    ({"dropout": 0.1}, "varlen"),
    ({"dropout": 0.1, "width": 192}, "mask"),
    ({"dropout": 0.1, "dtype": torch.float32}, "mask"),
    ({"dtype": torch.float16, "capability": (8, 0)}, "varlen"),
    ({"dtype": torch.float16, "capability": (7, 5)}, "mask"),
    ({"dtype": torch.float32}, "mask"),
    ({"width": 20}, "mask"),
    ({"width": 512}, "mask"),
    (PACKED, "varlen"),
    ({"rows": "packed"}, "mask"),
    ({"rows": "packed", "compiled": True}, "flex"),
    ({**PACKED, "dtype": torch.float32, "compiled": True}, "flex"),
    ({**PACKED, "dtype": torch.float32}, "mask"),
    ({**PACKED, "dropout": 0.1, "compiled": True}, "varlen"),
    ({"rows": "packed", "dropout": 0.1, "compiled": True}, "mask"),
]


@pytest.mark.parametrize(("over", "kernel"), CASES)
def test_the_kernel_follows_from_what_is_known(over: dict[str, Any], kernel: Kernel) -> None:
    assert kernel_for(replace(CALL, **over)) == kernel


def test_the_name_says_where_flash_attention_runs() -> None:
    assert "FlashAttention" in kernel_name("no mask", CALL)
    assert "FlashAttention" not in kernel_name("no mask", replace(CALL, dtype=torch.float32))


def test_where_sequences_begin() -> None:
    """Of packed rows [5 + 3], [4 + padding], [8], [1 + 1 + padding]: a document does not go on in the next row."""
    documents = torch.tensor(
        [[1, 1, 1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 0, 0, 0, 0], [1] * 8, [1, 2, 0, 0, 0, 0, 0, 0]]
    )  # fmt: skip
    packed = sequence_starts(documents > 0, documents, RowLayout(sequences=9))
    assert packed.tolist() == [0, 5, 8, 12, 16, 24, 25, 26, 32, 32]
    assert packed.dtype == torch.int32
    padded = sequence_starts(documents > 0, None, RowLayout())
    assert padded.tolist() == [0, 8, 8, 12, 16, 24, 24, 26, 32]
    assert padded.dtype == torch.int32
    full = sequence_starts(documents >= 0, None, RowLayout(full=True))
    assert full.tolist() == [0, 8, 16, 24, 32]
    assert full.dtype == torch.int32


@pytest.mark.parametrize("way", ["varlen_attn", "with dropout", "of an older torch"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 8])
def test_the_real_operator_takes_what_it_is_given(
    window: int | None, causal: bool, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of tensors without numbers, as the compiler traces them: the shapes and types of answer and gradients."""
    if way == "of an older torch":
        monkeypatch.setattr(attention_kernel, "_varlen_attn", None)
    with FakeTensorMode():
        heads = [torch.empty(48, 2, 16, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
        starts = torch.empty(9, dtype=torch.int32)
        reach, dropout = reach_of(window, causal=causal), 0.1 if way == "with dropout" else 0.0
        found = attend_varlen(*heads, starts, longest=24, reach=reach, dropout=dropout)
        found.float().sum().backward()
    assert (found.shape, found.dtype) == ((48, 2, 16), torch.bfloat16)
    assert all(one.grad is not None and one.grad.shape == one.shape for one in heads)
