"""Lets every token of a row look at every other: multi-head self-attention (Vaswani 2017, §3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertwright.model.config import ModelConfig
from bertwright.model.dropout import Dropout
from bertwright.model.linear import Linear, linear
from bertwright.model.rotary import rotate

UNSEEN = -1e30
"""Added to the score of what must not be looked at: its share comes out as zero, in bfloat16 too, and a row of padding
that sees nothing stays finite, which minus infinity would not."""


def attention_bias(attention_mask: Tensor) -> Tensor:
    """Return [B, 1, 1, S] float32: 0 where a token stands, UNSEEN for padding; made once a forward."""
    return torch.where(attention_mask, 0.0, UNSEEN)[:, None, None, :]


def window_bias(bias: Tensor, window: int) -> Tensor:
    """Return [B, 1, S, S]: `bias` [B, 1, 1, S], and UNSEEN where keys are over window // 2 tokens away."""
    place = torch.arange(bias.shape[-1], device=bias.device)
    far = (place[:, None] - place[None, :]).abs() > window // 2
    return bias.masked_fill(far, UNSEEN)


class Attention(nn.Module):
    """Self-attention with its output projection; the residual and the LayerNorm belong to the block."""

    def __init__(self, config: ModelConfig, *, bias: bool) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = Linear(config.hidden_size, config.hidden_size, bias=bias)
        self.key = Linear(config.hidden_size, config.hidden_size, bias=bias)
        self.value = Linear(config.hidden_size, config.hidden_size, bias=bias)
        self.output = Linear(config.hidden_size, config.hidden_size, bias=bias)
        self.dropout = Dropout(config.attention_dropout)

    def forward(self, hidden: Tensor, bias: Tensor, rotation: Tensor | None = None) -> Tensor:
        """Return [B, S, H] from hidden states [B, S, H], an additive bias [B, 1, 1 or S, S] and rotary angles."""
        rows, length, width = hidden.shape
        query, key, value = self._project(hidden)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        mixed = self._on_cuda(query, key, value, bias) if hidden.is_cuda else self._on_cpu(query, key, value, bias)
        projected: Tensor = self.output(mixed.transpose(1, 2).reshape(rows, length, width))
        return projected

    def _project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k, v [B, A, S, H/A] by one matrix product over the three weights side by side.

        The parameters stay three, so that an optimiser that works on matrices sees the matrices of the paper.
        """
        rows, length, width = hidden.shape
        parts = (self.query, self.key, self.value)
        weight = torch.cat([part.weight for part in parts])
        bias = None if self.query.bias is None else torch.cat([part.bias for part in parts])
        fused = linear(hidden, weight, bias)
        query, key, value = fused.view(rows, length, 3, self.heads, width // self.heads).transpose(1, 3).unbind(2)
        return query, key, value

    def _on_cpu(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Batched products: the compiler fuses scale, bias and softmax between them, torch's flash kernel is slower."""
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        shares: Tensor = self.dropout(torch.softmax(scores + bias, dim=-1))
        return shares.to(value.dtype) @ value

    def _on_cuda(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        share = self.dropout.share if self.training else 0.0
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.to(query.dtype), dropout_p=share
        )
