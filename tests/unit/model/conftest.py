"""What runs on a GPU, run on the CPU: the same paths of the model, a plain `varlen_attn` in place of the kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bertwright.model import encoder, modernbert
from bertwright.model.layers import attention, attention_kernel, dropout, linear


def reference_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    window_size: tuple[int, int] = (-1, -1),
    rate: float = 0.0,
) -> Tensor:
    """Compute as `torch.nn.attention.varlen.varlen_attn` says it does, one sequence after another."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert int(cu_seq_q[0]) == 0
    assert int(cu_seq_q[-1]) == len(query)
    assert query.stride(-1) == 1
    found, (left, right) = torch.zeros_like(query), window_size
    bounds = zip(
        cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), cu_seq_k[:-1].tolist(), cu_seq_k[1:].tolist(), strict=True
    )
    for q_start, q_stop, k_start, k_stop in bounds:
        assert 0 <= q_stop - q_start <= max_q
        assert 0 <= k_stop - k_start <= max_k
        scores = torch.einsum("qad,kad->aqk", query[q_start:q_stop], key[k_start:k_stop]) * query.shape[-1] ** -0.5
        distance = torch.arange(k_stop - k_start) - torch.arange(q_stop - q_start)[:, None]
        hidden = (distance < -left) & (left >= 0) | (distance > right) & (right >= 0)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        weights = functional.dropout(weights, rate)
        found[q_start:q_stop] = torch.einsum("aqk,kad->qad", weights, value[k_start:k_stop])
    return found


def reference_flash(
    query: Tensor, key: Tensor, value: Tensor, sequences: Tensor, longest: int, reach: tuple[int, int], dropout: float
) -> Tensor:
    """Compute as `flash_forward` does."""
    return reference_varlen(
        query, key, value, sequences, sequences, longest, longest, window_size=reach, rate=dropout
    )  # fmt: skip


@pytest.fixture
def on_gpu_paths(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after whose call models compute as on an A100, in float64 too."""

    def turn_on() -> None:
        for module in (attention, dropout, encoder, linear, modernbert):
            monkeypatch.setattr(module, "on_gpu", lambda values: True)
        monkeypatch.setattr(encoder, "capability_of", lambda index: (8, 0))
        monkeypatch.setattr(attention_kernel, "FLASH_TYPES", (torch.float64, *attention_kernel.FLASH_TYPES))
        monkeypatch.setattr(attention_kernel, "_varlen_attn", reference_varlen)
        monkeypatch.setattr(attention_kernel, "flash_forward", reference_flash)

    return turn_on
