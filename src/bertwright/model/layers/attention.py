"""Turns hidden states into those that attend to others of their row: multi-head attention (Vaswani 2017, section 3.2).

Positions come in as angles that queries and keys are rotated by, so that their products see distances (Su 2021).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.utils.checkpoint import checkpoint

from bertwright.model.config import ModelConfig
from bertwright.model.layers.attention_kernel import attend_varlen, reach_of
from bertwright.model.layers.attention_mask import AttentionMask, KernelMask, LongRowMask
from bertwright.model.layers.dropout import Dropout
from bertwright.model.layers.linear import Linear, linear
from bertwright.model.layers.on_gpu import on_gpu

CHUNK = 2**22
"""Scores of a long row that are computed together: 16 MB of float32, of all heads."""
LEAST_HALF = -60000.0
"""Stands for MASK_VALUE in float16, which ends at 65,504."""


class Attention(nn.Module):
    """Self-attention with its output projection; the residual and the LayerNorm belong to the block.

    observe  gets the weights [B, A, M, S] of each call, for those who look at them; None as a rule, since that computes
             them once more
    """

    observe: Callable[[Tensor], None] | None = None

    def __init__(self, config: ModelConfig, *, bias: bool) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = Linear(config.hidden_size, config.hidden_size, bias=bias)
        self.key = Linear(config.hidden_size, config.hidden_size, bias=bias)
        self.value = Linear(config.hidden_size, config.hidden_size, bias=bias)
        self.output = Linear(config.hidden_size, config.hidden_size, bias=bias)
        self.dropout = Dropout(config.attention_dropout)

    def forward(
        self,
        hidden: Tensor,
        mask: AttentionMask | LongRowMask,
        rotation: Tensor | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        """Return [B, S, H] from hidden states [B, S, H], the mask of their rows, and rotary angles.

        With `at` [B, M] only the tokens at these positions attend, to all that they may attend to: [B, M, H].
        """
        query, key, value = self._project(hidden, at)
        if rotation is not None:
            query = rotate(query, rotation if at is None else rotation[:, at].unsqueeze(2))
            key = rotate(key, rotation)
        return self._output_projection(self._attend(query, key, value, mask, at))

    def keys_and_values(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values [B, A, S, H/A] of hidden states [B, S, H], for `cross_attend`."""
        keys, values = self.fused_projection(hidden, [self.key, self.value])
        return keys, values

    def cross_attend(self, keys: Tensor, values: Tensor, hidden: Tensor, bias: Tensor) -> Tensor:
        """Return [B, M, H]: what hidden states [B, M, H] find among keys and values [B, A, S, H/A] of any other text.

        `bias` [B or 1, 1, M or 1, S] is added to the scores, as in `AttentionMask`.
        """
        (query,) = self.fused_projection(hidden, [self.query])
        return self._output_projection(self._by_bias(query, keys, values, bias))

    def attend(self, fused: Tensor, mask: AttentionMask | LongRowMask) -> Tensor:
        """Return [B, S, H], what each head found, from queries, keys and values side by side: [B, S, 3 H]."""
        query, key, value = self._split_heads(fused, 3)
        return self._attend(query, key, value, mask).transpose(1, 2).flatten(2)

    def attend_once(self, fused: Tensor, mask: AttentionMask | LongRowMask) -> Tensor:
        """Return what `attend` does, where no gradient is wanted, by torch's own kernel also on a CPU.

        It never writes scores to memory: of rows of 256 tokens in float32, 12 heads of 32, it takes 3.9 ms instead of
        16.1 on one core, of 113 tokens 2.0 instead of 4.1.
        """
        if isinstance(mask, LongRowMask):
            return self.attend(fused, mask)
        query, key, value = self._split_heads(fused, 3)
        return self._by_kernel(query, key, value, mask.bias).transpose(1, 2).flatten(2)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask | LongRowMask, at: Tensor | None = None
    ) -> Tensor:
        """Return [B, A, M, H/A], what each head found, by the way that suits rows and device."""
        if isinstance(mask, KernelMask):
            return self._on_gpu(query, key, value, mask, at)
        if isinstance(mask, LongRowMask):
            found: Tensor = self._in_chunks(query, key, value, mask, at)
            return found
        bias = mask.bias
        if at is not None and bias.shape[2] > 1:
            bias = gather_positions(bias[:, 0].expand(len(at), -1, -1), at)[:, None]
        return self._by_bias(query, key, value, bias)

    def _on_gpu(self, query: Tensor, key: Tensor, value: Tensor, mask: KernelMask, at: Tensor | None) -> Tensor:
        """Attend by the kernel that was chosen; the few queries `at` positions by a mask of them, if they need any."""
        if at is not None:
            return self._by_kernel(query, key, value, mask.bias_of(at))
        if mask.sequences is not None:
            queries, keys, values = (heads.transpose(1, 2).flatten(0, 1) for heads in (query, key, value))
            length, reach = query.shape[2], reach_of(mask.window, causal=mask.causal)
            rate = self.dropout.rate if self.training else 0.0
            found = attend_varlen(
                queries, keys, values, mask.sequences, longest=length, reach=reach, dropout=rate
            )  # fmt: skip
            return found.view(-1, length, *found.shape[1:]).transpose(1, 2)
        if mask.blocks is not None:
            return self._by_blocks(query, key, value, mask.blocks)
        return self._by_kernel(query, key, value, None, causal=mask.causal)

    def _by_bias(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        if self.observe is not None:
            self.observe(torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias, -1))
        return self._by_kernel(query, key, value, bias) if on_gpu(query) else self._on_cpu(query, key, value, bias)

    def _output_projection(self, attended: Tensor) -> Tensor:
        """Return [B, M, H] from what each head found, [B, A, M, H/A]."""
        projected: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return projected

    def _project(self, hidden: Tensor, at: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return q [B, A, S or M, H/A] and k, v [B, A, S, H/A]."""
        if at is None:
            query, key, value = self.fused_projection(hidden, [self.query, self.key, self.value])
        else:
            (query,) = self.fused_projection(gather_positions(hidden, at), [self.query])
            key, value = self.fused_projection(hidden, [self.key, self.value])
        return query, key, value

    def fused_projection(self, hidden: Tensor, layers: list[Linear]) -> tuple[Tensor, ...]:
        """Return [B, A, S, H/A] for each layer, on a CPU by one matrix product over their weights side by side.

        The parameters stay apart, so that an optimiser that works on matrices sees the matrices of the paper.
        """
        if on_gpu(hidden):
            return tuple(self._split_heads(layer(hidden), 1)[0] for layer in layers)
        # Joining the weights copies 3 H^2 numbers; one product of [B S, H] by [H, 3 H] instead of three saves more: the
        # hidden states are read from memory once.
        weight = torch.cat([layer.weight for layer in layers])
        bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
        return self._split_heads(linear(hidden, weight, bias), len(layers))

    def _split_heads(self, fused: Tensor, count: int) -> tuple[Tensor, ...]:
        """Return `count` tensors [B, A, S, H/A] from [B, S, count H]: the heads of one layer lie side by side in it."""
        rows, length, width = fused.shape
        return fused.view(rows, length, count, self.heads, width // count // self.heads).transpose(1, 3).unbind(2)

    def _on_cpu(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Batched products: the compiler fuses scale, bias and exponential between them.

        The softmax divides by its total after its use, [.., S, H/A] numbers instead of [.., S, S] (as in Dao et al.,
        2022, FlashAttention); subtracting the largest score changes nothing but the range, so it has no gradient.
        """
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias
        exponentials = torch.exp(scores - scores.detach().amax(-1, keepdim=True))
        return self._weighted_mean(exponentials, value)

    def _weighted_mean(self, weights: Tensor, value: Tensor) -> Tensor:
        """Return the mean [B, A, M, H/A] of values [B, A, S, H/A] by positive weights [B, A, M, S], some dropped."""
        total = weights.sum(-1, keepdim=True)
        mean: Tensor = (self.dropout(weights).to(value.dtype) @ value / total).to(value.dtype)
        return mean

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _in_chunks(
        self, query: Tensor, key: Tensor, value: Tensor, mask: LongRowMask, at: Tensor | None = None
    ) -> Tensor:
        """Compute as `_on_cpu` does, for some queries at a time: memory grows with S, not with S squared.

        Where gradients are wanted, the scores are computed once more in the backward pass instead of kept. In a local
        block the scores of keys out of the window are not computed at all.
        """
        count, heads, length = query.shape[2], query.shape[1], key.shape[2]
        positions = torch.arange(length, device=query.device)[None] if at is None else at
        key, value = key.contiguous(), value.contiguous()  # once, not in the product of every chunk
        step = max(16, CHUNK // (heads * length))
        chunks = [(first, min(count, first + step)) for first in range(0, count, step)]
        windows = [slice(0, length) if at is not None else mask.keys_of(*chunk) for chunk in chunks]

        def one_chunk(query: Tensor, key: Tensor, value: Tensor, first: int, last: int, keys: slice) -> Tensor:
            bias = mask.bias(positions[:, first:last], keys)
            arguments = query[:, :, first:last], key[:, :, keys], value[:, :, keys], bias
            return self._on_cpu(*arguments) if buffer is None else self._in_place(*arguments, buffer)

        buffer = None
        if torch.is_grad_enabled() and any(one.requires_grad for one in (query, key, value)):
            found = [
                checkpoint(one_chunk, query, key, value, *chunk, keys, use_reentrant=False)
                for chunk, keys in zip(chunks, windows, strict=True)
            ]
            return torch.cat(found, dim=2)
        widest = max(keys.stop - keys.start for keys in windows)
        buffer = torch.empty(len(query) * heads * step * widest, device=query.device)
        attended = value.new_empty(*query.shape[:3], value.shape[3])
        for (first, last), keys in zip(chunks, windows, strict=True):
            attended[:, :, first:last] = one_chunk(query, key, value, first, last, keys)
        return attended

    def _in_place(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, buffer: Tensor) -> Tensor:
        """Compute as `_on_cpu` does, without gradients, in the float32 of `buffer`.

        A tensor allocated for each chunk seldom fits where the last one was: the process would grow by all scores.
        """
        rows, heads, count, _ = query.shape
        scores = buffer[: rows * heads * count * key.shape[2]].view(rows * heads, count, -1)
        factors = query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2)
        if query.dtype == scores.dtype:
            torch.bmm(*factors, out=scores)
        else:
            scores.copy_(torch.bmm(*factors))
        weights = scores.view(rows, heads, count, -1).mul_(query.shape[-1] ** -0.5).add_(bias)
        weights.sub_(weights.amax(-1, keepdim=True)).exp_()
        return self._weighted_mean(weights, value)

    def _by_kernel(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, *, causal: bool = False
    ) -> Tensor:
        """Compute by torch's own kernel for the device."""
        rate = self.dropout.rate if self.training else 0.0
        if bias is not None:
            # What float16 cannot hold would be minus infinity, and a query that sees nothing no number.
            bias = (bias.clamp(min=LEAST_HALF) if query.dtype == torch.float16 else bias).to(query.dtype)
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=rate, is_causal=causal
        )

    def _by_blocks(self, query: Tensor, key: Tensor, value: Tensor, blocks: BlockMask) -> Tensor:
        """Skips blocks of tokens that attend to nothing of each other; has no dropout (see `kernel_for`)."""
        attended = flex_attention(query, key, value, block_mask=blocks)
        assert isinstance(attended, Tensor)
        return attended


def gather_positions(hidden: Tensor, at: Tensor) -> Tensor:
    """Return [B, M, H]: of hidden states [B, S, H], those at positions [B, M]."""
    return hidden.gather(1, at.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))


def rotary_angles(count: int, width: int, *, theta: float) -> Tensor:
    """Return [2, count, 2, width / 2] float32: cosines and signed sines of `count` positions for heads of `width`.

    Unit i of the first half is paired with unit i of the second, as in GPT-NeoX and ModernBERT; pair i turns by
    theta^(-2 i / width) a position. The sines of the first half are negative, so that a rotation is one multiply and
    add of a vector and its swapped halves.
    """
    angles = torch.arange(count, dtype=torch.float32)[:, None] * rotary_speeds(width, theta=theta)
    cosines, sines = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cosines, cosines], 1), torch.stack([-sines, sines], 1)])


def rotary_speeds(width: int, *, theta: float) -> Tensor:
    """Return the radians a position [width / 2] by which each pair of units of a head turns."""
    return theta ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)


def rotate(vectors: Tensor, angles: Tensor) -> Tensor:
    """Return `vectors` [B, A, S, D] (queries or keys) rotated by `angles` [2, S, 2, D / 2], computed in float32."""
    cosines, sines = angles
    halves = vectors.view(*vectors.shape[:-1], *cosines.shape[-2:]).float()
    rotated: Tensor = halves * cosines + halves.flip(-2) * sines
    return rotated.flatten(-2).to(vectors.dtype)
