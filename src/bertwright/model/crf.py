"""Turns the logits of the words of a sentence into one choice of tags for all of them: a linear-chain CRF.

A path scores the sum of its logits and of what each tag adds after the one before; its probability is the softmax over
all paths (Lafferty et al., 2001; above an encoder: Lample et al., 2016). Everything runs over whole batches, one word
of every sentence at a time. Tags are read off by `chain.Chain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from bertwright.model.crf_decode import FORBIDDEN_SCORE, CRFDecoder

PARTS = ("first", "next", "last")


@dataclass(frozen=True)
class Steps:
    """Which tags may open a sentence [K], follow one another [K, K] (from, to), and end it [K]; bool."""

    first: Tensor
    next: Tensor
    last: Tensor


class Crf(nn.Module):
    """What each of K tags adds to a path: first in a sentence [K], after another [K, K] (from, to), and last [K].

    >>> # needs a batch
    >>> crf = Crf(steps)  # doctest: +SKIP
    >>> crf.negative_log_likelihood(logits, tags, here).sum()  # [B, M, K], [B, M], [B, M] -> scalar  # doctest: +SKIP
    """

    first_forbidden: Tensor
    next_forbidden: Tensor
    last_forbidden: Tensor

    def __init__(self, steps: Steps) -> None:
        """Start from nothing: every step that may be taken adds zero."""
        super().__init__()
        tags = len(steps.first)
        self.first, self.last = nn.Parameter(torch.zeros(tags)), nn.Parameter(torch.zeros(tags))
        self.next = nn.Parameter(torch.zeros(tags, tags))
        for name, allowed in (("first", steps.first), ("next", steps.next), ("last", steps.last)):
            self.register_buffer(f"{name}_forbidden", FORBIDDEN_SCORE * (~allowed).float(), persistent=False)

    # The words of a sentence are a loop, which the compiler would write out for each length. (torch.compiler.disable
    # would import the compiler here and now, a second that commands without one need not wait for.)
    @torch._disable_dynamo  # type: ignore[attr-defined]
    def negative_log_likelihood(self, logits: Tensor, tags: Tensor, here: Tensor) -> Tensor:
        """Return the surprise [B], in nats, of tags [B, M] under logits [B, M, K].

        `here` [B, M] says where words are: from the left, at least one a sentence. A sentence whose own tags take a
        forbidden step (one that goes on in the middle of an entity, since it was split) is marked as if none were.
        """
        tags = torch.where(here, tags, 0)
        forbidden = self._path(torch.zeros_like(logits), tags, here, forbidden=True) < 0
        lawful = (~forbidden).float()
        first, following, last = self._steps(lawful)
        own = self._path(logits, tags, here)
        forward = first + logits[:, 0]
        for word in range(1, logits.shape[1]):
            on = torch.logsumexp(forward[:, :, None] + following, dim=1) + logits[:, word]
            forward = torch.where(here[:, word, None], on, forward)
        return torch.logsumexp(forward + last, dim=1) - own

    def _steps(self, lawful: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what steps add, [B, K], [B, K, K] and [B, K]: with the forbidden ones where `lawful` [B] is 1."""
        return (
            self.first + lawful[:, None] * self.first_forbidden,
            self.next + lawful[:, None, None] * self.next_forbidden,
            self.last + lawful[:, None] * self.last_forbidden,
        )

    def _path(self, logits: Tensor, tags: Tensor, here: Tensor, *, forbidden: bool = False) -> Tensor:
        """Return the score [B] of one path each; of `forbidden` steps alone, if so."""
        first, following, last = (
            (self.first_forbidden, self.next_forbidden, self.last_forbidden)
            if forbidden
            else (self.first, self.next, self.last)
        )
        chosen = logits.gather(2, tags[:, :, None]).squeeze(2)
        steps = torch.cat([first[tags[:, :1]], following[tags[:, :-1], tags[:, 1:]]], dim=1)
        end = tags.gather(1, here.sum(1, keepdim=True) - 1).squeeze(1)
        return ((chosen + steps) * here).sum(1) + last[end]

    @classmethod
    def of(cls, chain: CRFDecoder) -> Self:
        """Return the CRF of steps that are known."""
        crf = cls(Steps(*map(torch.from_numpy, chain.allowed)))
        with torch.no_grad():
            for name, added in zip(PARTS, chain.added, strict=True):
                getattr(crf, name).copy_(torch.from_numpy(added))
        return crf

    def chain(self) -> CRFDecoder:
        """Return the steps as they are now, to read tags by."""
        added, forbidden = (
            [getattr(self, f"{name}{kind}").detach().cpu().double().numpy() for name in PARTS]
            for kind in ("", "_forbidden")
        )
        return CRFDecoder((added[0], added[1], added[2]), (forbidden[0] == 0, forbidden[1] == 0, forbidden[2] == 0))
