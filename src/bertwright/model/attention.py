"""Lets every token of a row look at every other: multi-head self-attention (Vaswani 2017, §3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertwright.model.config import ModelConfig
from bertwright.model.dropout import Dropout
from bertwright.model.linear import Linear, linear


def attention_bias(attention_mask: Tensor) -> Tensor:
    """Return [B, 1, 1, S] float32: 0 where a token stands, the lowest number for padding; made once a forward."""
    lowest = torch.finfo(torch.float32).min
    return torch.where(attention_mask, 0.0, lowest)[:, None, None, :]


class Attention(nn.Module):
    """Self-attention with its output projection; the residual and the LayerNorm belong to the block."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)
        self.output = Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.attention_dropout)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Return [B, S, H] from hidden states [B, S, H] and an additive bias [B, 1, 1, S]."""
        rows, length, width = hidden.shape
        query, key, value = self._project(hidden)
        mixed = self._on_cuda(query, key, value, bias) if hidden.is_cuda else self._on_cpu(query, key, value, bias)
        projected: Tensor = self.output(mixed.transpose(1, 2).reshape(rows, length, width))
        return projected

    def _project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k, v [B, A, S, H/A] by one matrix product over the three weights side by side.

        The parameters stay three, so that an optimiser that works on matrices sees the matrices of the paper.
        """
        rows, length, width = hidden.shape
        weight = torch.cat([self.query.weight, self.key.weight, self.value.weight])
        bias = torch.cat([self.query.bias, self.key.bias, self.value.bias])
        fused = linear(hidden, weight, bias)
        parts = fused.view(rows, length, 3, self.heads, width // self.heads).transpose(1, 3)
        query, key, value = parts.unbind(2)
        return query, key, value

    def _on_cpu(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Batched products: under the compiler 8% of a step where torch's flash kernel for CPUs takes 37%."""
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        shares: Tensor = self.dropout(torch.softmax(scores + bias, dim=-1))
        return shares.to(value.dtype) @ value

    def _on_cuda(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        share = self.dropout.share if self.training else 0.0
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.to(query.dtype), dropout_p=share
        )
