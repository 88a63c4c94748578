"""Turns a score of a row into what each of its tokens contributes: by taking words away, and by gradients along a path.

Both compare with the same: a row whose words are [MASK], in which a model sees that a word stands, but not which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

Score = Callable[[Tensor], Tensor]
"""Returns a score [N], differentiable, of N variants of a row, token ids [N, S]."""
STEPS = 50
"""Points on the path of integrated gradients, as captum has it."""
TOGETHER = 25
"""Variants of a row that are scored at once."""


def log_odds(logits: Tensor, choice: int) -> Tensor:
    """Return log(p / (1 - p)) [...] of output `choice`, from logits [..., K] of which one is chosen.

    >>> log_odds(torch.tensor([2.0, 0.5]), 0)
    tensor(1.5000)
    """
    others = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
    others[choice] = False
    return logits[..., choice] - logits[..., others].logsumexp(-1)


@torch.no_grad()
def occlusion(score: Score, ids: Tensor, words: Sequence[Sequence[int]], *, mask: int) -> tuple[float, Tensor]:
    """Return the score of a row of token ids [S], and by how much it is higher with each word than without [W].

    A word is the positions of its tokens, which become `mask` (Zeiler and Fergus 2014; Li, Monroe and Jurafsky 2016).
    """
    variants = ids.repeat(1 + len(words), 1)
    for number, places in enumerate(words, start=1):
        variants[number, list(places)] = mask
    scores = torch.cat([score(some) for some in torch.split(variants, TOGETHER)])
    return float(scores[0]), scores[0] - scores[1:]


def integrated_gradients(
    score: Score, embedding: nn.Embedding, ids: Tensor, baseline: Tensor, *, steps: int = STEPS
) -> Tensor:
    """Return what each of the tokens [S] contributes to the score of a row `ids`, compared with the row `baseline`.

    The sum is the difference of the two scores, up to the error of the integral. `embedding` is the model's own, called
    once by `score`. Source: Sundararajan, Taly and Yan (2017), "Axiomatic Attribution for Deep Networks"; the integral
    along the straight line between the embeddings by Gauss and Legendre, as captum has it.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    with torch.no_grad():
        start, end = embedding(baseline), embedding(ids)
    alphas, parts = (torch.from_numpy(values).to(start)[:, None, None] for values in ((nodes + 1) / 2, weights / 2))
    mean = torch.zeros_like(start)
    for some, part in zip(torch.split(alphas, TOGETHER), torch.split(parts, TOGETHER), strict=True):
        path = (start + some * (end - start)).requires_grad_()
        with torch.enable_grad(), _in_place_of(embedding, path):
            total = score(ids.expand(len(some), -1)).sum()
        (gradient,) = torch.autograd.grad(total, path)
        mean += (part * gradient).sum(0)
    contributions: Tensor = ((end - start) * mean).sum(-1)
    return contributions


def _in_place_of(embedding: nn.Embedding, vectors: Tensor) -> torch.utils.hooks.RemovableHandle:
    """Have an embedding return `vectors`, whatever it is asked for, while the handle is held."""
    return embedding.register_forward_hook(lambda module, given, found: vectors)
