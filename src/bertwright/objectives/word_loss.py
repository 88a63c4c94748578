"""Turns vectors of masked tokens into their loss over the vocabulary, without keeping a score for each word and token.

Scores, and the gradients of the loss, are computed for some rows at a time, in the forward pass, so that no more than
the scores of those rows are ever in memory (as in Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM
Training", section 3.2). It takes the three products that the usual way takes. Compiled code has no use for it: there
the usual way keeps scores in bfloat16 alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bertwright.types import UnscoredWords

PARTS = 16
"""Parts that the rows of a batch are scored in; fewer rows are scored one at a time."""
FUSED_FROM = 2**29
"""Bytes of scores in float32 from which they are not kept. Of fewer, less time is lost by keeping them."""


def leaves_scores(device: torch.device, *, slots: int, vocab_size: int) -> bool:
    """Return whether scores of so many slots of a batch are better not kept: on a GPU, of many.

    >>> leaves_scores(torch.device("cuda"), slots=64 * 77, vocab_size=50368)
    True
    """
    return device.type == "cuda" and 4 * slots * vocab_size >= FUSED_FROM


def word_loss(unscored: UnscoredWords, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return two float32 scalars: the losses (nats) of slots with `labels` [B, M], weighted and summed, and accuracy.

    The latter is the weighted sum of `top1_accuracy`, and has no gradient; neither has `weights` [B, M].
    """
    found: tuple[Tensor, Tensor] = _WordLoss.apply(  # type: ignore[no-untyped-call]
        unscored.vectors, unscored.words, unscored.bias, labels, weights
    )
    return found


def top1_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Return 1 where the label scores highest, shared evenly on a tie (bfloat16 logits tie often), else 0; [N] float32.

    Compiled on CPU with V = 8,192 this adds 5% to the work of the loss; an argmax adds 9 to 19%.
    """
    best = scores.amax(-1, keepdim=True)
    ties = (scores == best).float().sum(-1)
    return (scores.gather(1, labels[:, None]) >= best)[:, 0].float() / ties


class _WordLoss(torch.autograd.Function):
    """Computes the gradients with the loss; the backward pass multiplies them by that of the loss."""

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, words: Tensor, bias: Tensor, labels: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        matrix, step = words.to(vectors.dtype), -(-vectors.shape[0] // PARTS)
        summed, correct = torch.zeros((2,), device=vectors.device).unbind()
        to_words, to_bias = torch.zeros_like(words), torch.zeros_like(bias)
        to_vectors = []
        parts = (torch.split(values, step) for values in (vectors, labels, weights))
        for rows, truth, share in zip(*parts, strict=True):
            flat, asked, weight = rows.flatten(0, 1), truth.flatten(), share.flatten()
            scores = functional.linear(flat, matrix, bias.to(matrix.dtype)).float()
            totals, of_label = scores.logsumexp(-1, keepdim=True), scores.gather(1, asked[:, None])
            summed = summed + ((totals - of_label)[:, 0] * weight).sum()
            correct = correct + (top1_accuracy(scores, asked) * weight).sum()
            # The gradient by the scores, in their place: probabilities, less 1 for the label.
            scores.sub_(totals).exp_().scatter_add_(1, asked[:, None], torch.full_like(of_label, -1.0))
            gradient = scores.mul_(weight[:, None]).to(matrix.dtype)
            to_vectors.append((gradient @ matrix).view(rows.shape))
            to_words += gradient.T @ flat
            to_bias += gradient.sum(0, dtype=to_bias.dtype)
        ctx.save_for_backward(torch.cat(to_vectors), to_words, to_bias)
        ctx.mark_non_differentiable(correct)
        return summed, correct

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        to_vectors, to_words, to_bias = ctx.saved_tensors
        return (gradient * to_vectors).to(to_vectors.dtype), gradient * to_words, gradient * to_bias, None, None
