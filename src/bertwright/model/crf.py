"""Turns the logits of the words of a sentence into one choice of tags for all of them: a linear-chain CRF.

A path scores the sum of its logits and of what each tag adds after the one before; its probability is the softmax over
all paths (Lafferty et al., 2001; above an encoder: Lample et al., 2016). Everything runs over whole batches, one word
of every sentence at a time. Tags are decoded by `crf_decode.CRFDecoder`.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from bertwright.model.crf_decode import FORBIDDEN_SCORE, STEPS, CRFDecoder, OfSteps


class Crf(nn.Module):
    """What each of K tags adds to a path: first in a sentence [K], after another [K, K] (from, to), and last [K].

    >>> # needs a batch
    >>> crf = Crf(allowed_transitions(["O", "B-X", "I-X"]))  # doctest: +SKIP
    >>> crf.negative_log_likelihood(logits, tags, here).sum()  # [B, M, K], [B, M], [B, M] -> scalar  # doctest: +SKIP
    """

    first_forbidden: Tensor
    next_forbidden: Tensor
    last_forbidden: Tensor

    def __init__(self, allowed: OfSteps) -> None:
        """Start from nothing: every step that is `allowed` (bool) adds zero."""
        super().__init__()
        tags = len(allowed[0])
        self.first, self.last = nn.Parameter(torch.zeros(tags)), nn.Parameter(torch.zeros(tags))
        self.next = nn.Parameter(torch.zeros(tags, tags))
        for name, steps in zip(STEPS, allowed, strict=True):
            forbidden = FORBIDDEN_SCORE * torch.from_numpy(~steps).float()
            self.register_buffer(f"{name}_forbidden", forbidden, persistent=False)

    # The words of a sentence are a loop, which the compiler would write out for each length. (torch.compiler.disable
    # would import the compiler here and now, a second that commands without one need not wait for.)
    @torch._disable_dynamo  # type: ignore[attr-defined]
    def negative_log_likelihood(self, logits: Tensor, tags: Tensor, here: Tensor) -> Tensor:
        """Return the negative log-likelihood [B], in nats, of tags [B, M] under logits [B, M, K].

        `here` [B, M] says where words are: from the left, at least one a sentence. A sentence whose tags take a
        forbidden step (one that goes on in the middle of an entity, since it was split) is scored as if none were.
        """
        tags = torch.where(here, tags, 0)
        first, following, last = self._steps(self._keeps_to_scheme(tags, here))
        forward = first + logits[:, 0]
        for word in range(1, logits.shape[1]):
            on = torch.logsumexp(forward[:, :, None] + following, dim=1) + logits[:, word]
            forward = torch.where(here[:, word, None], on, forward)
        return torch.logsumexp(forward + last, dim=1) - self._path(logits, tags, here)

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def nats_of_words(self, logits: Tensor, tags: Tensor, here: Tensor) -> Tensor:
        """Return how improbable each tag is after the one before it: nats [B, M], 0 where no word is.

        A chain is a Markov chain, also under its logits: the probability of a path is the product of these. So they add
        up to `negative_log_likelihood`, and words can have weights of their own.
        """
        tags = torch.where(here, tags, 0)
        first, following, last = self._steps(self._keeps_to_scheme(tags, here))
        after = last.expand_as(logits[:, 0])  # what the words after this one add to each of its tags, summed over paths
        sums = [after]
        for word in range(logits.shape[1] - 1, 0, -1):
            before = torch.logsumexp(following + (logits[:, word] + after)[:, None, :], dim=2)
            after = torch.where(here[:, word, None], before, last)
            sums.append(after)
        ahead = torch.stack(sums[::-1], dim=1)
        total = torch.logsumexp(first + logits[:, 0] + ahead[:, 0], dim=1, keepdim=True)
        picked = (logits + ahead).gather(2, tags[:, :, None]).squeeze(2)
        steps = torch.cat([self.first[tags[:, :1]], self.next[tags[:, :-1], tags[:, 1:]]], dim=1)
        norms = torch.cat([total, ahead.gather(2, tags[:, :, None]).squeeze(2)[:, :-1]], dim=1)
        return (norms - steps - picked) * here

    def _keeps_to_scheme(self, tags: Tensor, here: Tensor) -> Tensor:
        """Return 1.0 [B] for sentences whose tags take no forbidden step, else 0.0."""
        nothing = torch.zeros((*tags.shape, len(self.first)), device=tags.device)
        return (self._path(nothing, tags, here, forbidden=True) >= 0).float()

    def _steps(self, forbids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what steps add, [B, K], [B, K, K] and [B, K]: FORBIDDEN_SCORE too where `forbids` [B] is 1."""
        return (
            self.first + forbids[:, None] * self.first_forbidden,
            self.next + forbids[:, None, None] * self.next_forbidden,
            self.last + forbids[:, None] * self.last_forbidden,
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
    def from_decoder(cls, decoder: CRFDecoder) -> Self:
        """Return the CRF whose steps add what those of `decoder` add."""
        crf = cls(decoder.allowed)
        with torch.no_grad():
            for name, added in zip(STEPS, decoder.added, strict=True):
                getattr(crf, name).copy_(torch.from_numpy(added))
        return crf

    def decoder(self) -> CRFDecoder:
        """Return what decodes tags by the steps as they are now."""
        added, forbidden = (
            [getattr(self, f"{name}{kind}").detach().cpu().double().numpy() for name in STEPS]
            for kind in ("", "_forbidden")
        )
        return CRFDecoder((added[0], added[1], added[2]), (forbidden[0] == 0, forbidden[1] == 0, forbidden[2] == 0))
