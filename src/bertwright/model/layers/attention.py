"""Lets every token of a row look at the others of its document: multi-head self-attention (Vaswani 2017, §3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.utils.checkpoint import checkpoint

from bertwright.model.config import ModelConfig
from bertwright.model.layers.attention_mask import AttentionMask, LongSight
from bertwright.model.layers.dropout import Dropout
from bertwright.model.layers.linear import Linear, linear
from bertwright.model.layers.rotary import rotate

CHUNK = 2**22
"""Scores of a long row that are computed together: 16 MB of float32, of all heads."""


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

    def forward(
        self, hidden: Tensor, sight: AttentionMask | LongSight, rotation: Tensor | None = None, at: Tensor | None = None
    ) -> Tensor:
        """Return [B, S, H] from hidden states [B, S, H], what they look at, and rotary angles.

        With `at` [B, M] only the tokens at these positions look around, at all that they may look at: [B, M, H].
        """
        query, key, value = self._project(hidden, at)
        if rotation is not None:
            query = rotate(query, rotation if at is None else rotation[:, at].unsqueeze(2))
            key = rotate(key, rotation)
        if isinstance(sight, LongSight):
            return self._output_projection(self._in_chunks(query, key, value, sight, at))
        bias = sight.bias
        if at is not None and bias.shape[2] > 1:
            bias = gather_positions(bias[:, 0], at)[:, None]
        if at is None and sight.blocks is not None:
            return self._output_projection(self._by_blocks(query, key, value, sight.blocks))
        return self._output_projection(self._mixed(query, key, value, bias))

    def keys_and_values(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values [B, A, S, H/A] of hidden states [B, S, H], for `look_at`."""
        keys, values = self.fused_projection(hidden, [self.key, self.value])
        return keys, values

    def look_at(self, keys: Tensor, values: Tensor, hidden: Tensor, bias: Tensor) -> Tensor:
        """Return [B, M, H]: what hidden states [B, M, H] find among keys and values [B, A, S, H/A] of any other text.

        `bias` [B or 1, 1, M or 1, S] is added to the scores, as in `AttentionMask`.
        """
        (query,) = self.fused_projection(hidden, [self.query])
        return self._output_projection(self._mixed(query, keys, values, bias))

    def mixed(self, sides: Tensor, sight: AttentionMask | LongSight) -> Tensor:
        """Return [B, S, H], what each head found, from queries, keys and values side by side: [B, S, 3 H]."""
        query, key, value = self._apart(sides, 3)
        if isinstance(sight, LongSight):
            found: Tensor = self._in_chunks(query, key, value, sight)
        else:
            found = self._mixed(query, key, value, sight.bias)
        return found.transpose(1, 2).flatten(2)

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        return self._on_cuda(query, key, value, bias) if query.is_cuda else self._on_cpu(query, key, value, bias)

    def _output_projection(self, mixed: Tensor) -> Tensor:
        """Return [B, M, H] from what each head found, [B, A, M, H/A]."""
        projected: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return projected

    def _project(self, hidden: Tensor, at: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return q [B, A, S or M, H/A] and k, v [B, A, S, H/A]."""
        if at is None:
            query, key, value = self.fused_projection(hidden, [self.query, self.key, self.value])
        else:
            (query,) = self.fused_projection(gather_positions(hidden, at), [self.query])
            key, value = self.fused_projection(hidden, [self.key, self.value])
        return query, key, value

    def fused_projection(self, hidden: Tensor, parts: list[Linear]) -> tuple[Tensor, ...]:
        """Return [B, A, S, H/A] for each part, by one matrix product over their weights side by side.

        The parameters stay apart, so that an optimiser that works on matrices sees the matrices of the paper.
        """
        weight = torch.cat([part.weight for part in parts])
        bias = None if parts[0].bias is None else torch.cat([part.bias for part in parts])
        return self._apart(linear(hidden, weight, bias), len(parts))

    def _apart(self, sides: Tensor, count: int) -> tuple[Tensor, ...]:
        rows, length, width = sides.shape
        return sides.view(rows, length, count, self.heads, width // count // self.heads).transpose(1, 3).unbind(2)

    def _on_cpu(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Batched products: the compiler fuses scale, bias and exponential between them.

        Shares are divided by their total after they are used, [.., S, H/A] numbers instead of [.., S, S] (as in Dao et
        al., 2022, FlashAttention); subtracting the largest score changes nothing but the range, so it has no gradient.
        """
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias
        shares = torch.exp(scores - scores.detach().amax(-1, keepdim=True))
        total = shares.sum(-1, keepdim=True)
        mixed: Tensor = (self.dropout(shares).to(value.dtype) @ value / total).to(value.dtype)
        return mixed

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _in_chunks(
        self, query: Tensor, key: Tensor, value: Tensor, sight: LongSight, at: Tensor | None = None
    ) -> Tensor:
        """Compute as `_on_cpu` does, for some queries at a time: memory grows with S, not with S squared.

        Where gradients are wanted, the scores are computed once more in the backward pass instead of kept. In a local
        block the scores of keys that cannot be seen are not computed at all.
        """
        count, heads, length = query.shape[2], query.shape[1], key.shape[2]
        positions = torch.arange(length, device=query.device)[None] if at is None else at
        key, value = key.contiguous(), value.contiguous()  # once, not in the product of every chunk

        def some(query: Tensor, key: Tensor, value: Tensor, first: int, last: int, keys: slice) -> Tensor:
            bias = sight.bias(positions[:, first:last], keys)
            part = query[:, :, first:last], key[:, :, keys], value[:, :, keys], bias
            return self._on_cpu(*part) if room is None else self._in_place(*part, room)

        each = max(16, CHUNK // (heads * length))
        parts = [(first, min(count, first + each)) for first in range(0, count, each)]
        keys = [slice(0, length) if at is not None else sight.keys_of(*part) for part in parts]
        room = None
        if torch.is_grad_enabled() and any(one.requires_grad for one in (query, key, value)):
            found = [
                checkpoint(some, query, key, value, *part, seen, use_reentrant=False)
                for part, seen in zip(parts, keys, strict=True)
            ]
            return torch.cat(found, dim=2)
        most = max(seen.stop - seen.start for seen in keys)
        room = torch.empty(len(query) * heads * each * most, device=query.device)
        mixed = value.new_empty(*query.shape[:3], value.shape[3])
        for (first, last), seen in zip(parts, keys, strict=True):
            mixed[:, :, first:last] = some(query, key, value, first, last, seen)
        return mixed

    def _in_place(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, room: Tensor) -> Tensor:
        """Compute as `_on_cpu` does, without gradients, in the float32 of `room`.

        A block asked for anew for each chunk seldom fits where the last one was: the process would grow by all scores.
        """
        rows, heads, count, _ = query.shape
        scores = room[: rows * heads * count * key.shape[2]].view(rows * heads, count, -1)
        factors = query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2)
        if query.dtype == scores.dtype:
            torch.bmm(*factors, out=scores)
        else:
            scores.copy_(torch.bmm(*factors))
        shares = scores.view(rows, heads, count, -1).mul_(query.shape[-1] ** -0.5).add_(bias)
        shares.sub_(shares.amax(-1, keepdim=True)).exp_()
        total = shares.sum(-1, keepdim=True)
        mixed: Tensor = (self.dropout(shares).to(value.dtype) @ value / total).to(value.dtype)
        return mixed

    def _on_cuda(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        share = self.dropout.share if self.training else 0.0
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.to(query.dtype), dropout_p=share
        )

    def _by_blocks(self, query: Tensor, key: Tensor, value: Tensor, blocks: BlockMask) -> Tensor:
        """Skips blocks of tokens that look at nothing of each other; it knows no dropout (see `Encoder.sight`)."""
        mixed = flex_attention(query, key, value, block_mask=blocks)
        assert isinstance(mixed, Tensor)
        return mixed


def gather_positions(hidden: Tensor, at: Tensor) -> Tensor:
    """Return [B, M, H]: of hidden states [B, S, H], those at positions [B, M]."""
    return hidden.gather(1, at.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
