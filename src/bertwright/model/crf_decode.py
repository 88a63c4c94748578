"""Turns the logits of a tagger with a CRF into tags: best path, probabilities and likelihoods, in numpy alone.

So an exported model is read without torch; what its transitions are learned by is `crf.Crf`. Everything runs over whole
batches, one word of every sentence at a time, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FORBIDDEN_SCORE = -1e4
"""What a forbidden step adds to a path: its probability is zero in float32, and its gradient a number."""

STEPS = ("first", "next", "last")
OfSteps = tuple[np.ndarray, np.ndarray, np.ndarray]
"""One value a step: those that open a sentence [K], follow a tag [K, K] (from, to), and end it [K]."""


@dataclass(frozen=True)
class CRFDecoder:
    """What steps add to a path of K tags, and whether they are allowed.

    >>> decoder.decode(logits, here)  # [B, M, K], [B, M] -> [B, M]; needs a model  # doctest: +SKIP
    """

    added: OfSteps
    allowed: OfSteps

    def decode(self, logits: np.ndarray, here: np.ndarray) -> np.ndarray:
        """Return the best path [B, M] under logits [B, M, K] (Viterbi, 1967); 0 where `here` [B, M] says no word is."""
        first, following, last = self._with_forbidden()
        best, origins = first + logits[:, 0], []
        for word in range(1, logits.shape[1]):
            on, moved = best[:, :, None] + following, here[:, word, None]
            origins.append(np.where(moved, on.argmax(1), np.arange(len(first))))
            best = np.where(moved, on.max(1) + logits[:, word], best)
        path = [(best + last).argmax(1)]
        for origin in reversed(origins):
            path.append(np.take_along_axis(origin, path[-1][:, None], axis=1)[:, 0])
        return np.asarray(np.stack(path[::-1], axis=1) * here)

    def log_marginals(self, logits: np.ndarray, here: np.ndarray) -> np.ndarray:
        """Return the logarithm of the probability [B, M, K] of each tag of each word, over all paths."""
        steps = self._with_forbidden()
        _, following, last = steps
        forward = _forward(logits, steps)
        # Beyond the last word everything is as it is at its end.
        backward = [np.broadcast_to(last, logits[:, 0].shape)]
        for word in range(logits.shape[1] - 1, 0, -1):
            before = _log_sum(following + (logits[:, word] + backward[-1])[:, None, :], axis=2)
            backward.append(np.where(here[:, word, None], before, last))
        both = np.stack(forward, axis=1) + np.stack(backward[::-1], axis=1)
        return np.asarray(both - _log_sum(both, axis=2)[:, :, None])

    def negative_log_likelihood(self, logits: np.ndarray, tags: np.ndarray, here: np.ndarray) -> np.ndarray:
        """Return the negative log-likelihood [B], in nats, of tags [B, M], as `Crf.negative_log_likelihood` does."""
        tags, ends = np.where(here, tags, 0), here.sum(1) - 1
        allowed = _along(self.allowed, tags, ends, here).all(1)
        nats = np.empty(len(logits))
        for forbids in (True, False):
            some = allowed == forbids
            if some.any():
                steps = self._with_forbidden() if forbids else self.added
                forward = np.stack(_forward(logits[some], steps), axis=1)
                at_end = np.take_along_axis(forward, ends[some, None, None], axis=1)[:, 0]
                nats[some] = _log_sum(at_end + steps[2], axis=1)
        of_tags = np.take_along_axis(logits, tags[:, :, None], axis=2)[:, :, 0] * here
        return np.asarray(nats - of_tags.sum(1) - _along(self.added, tags, ends, here).sum(1))

    def _with_forbidden(self) -> OfSteps:
        """Return what steps add, FORBIDDEN_SCORE where they are not allowed."""
        first, following, last = (
            added + np.where(allowed, 0.0, FORBIDDEN_SCORE)
            for added, allowed in zip(self.added, self.allowed, strict=True)
        )
        return first, following, last


def _forward(logits: np.ndarray, steps: OfSteps) -> list[np.ndarray]:
    """Return for each word the logarithm of the mass [B, K] of all paths up to each of its tags."""
    first, following, _ = steps
    forward = [first + logits[:, 0]]
    for word in range(1, logits.shape[1]):
        forward.append(_log_sum(forward[-1][:, :, None] + following, axis=1) + logits[:, word])
    return forward


def _along(steps: OfSteps, tags: np.ndarray, ends: np.ndarray, here: np.ndarray) -> np.ndarray:
    """Return what the steps of a path have in `steps`, [B, M + 1]: into each word, then the last; 1 or 0 beyond."""
    first, following, last = steps
    into = np.concatenate([first[tags[:, :1]], following[tags[:, :-1], tags[:, 1:]]], axis=1)
    nothing = np.ones((), dtype=into.dtype) if into.dtype == bool else np.zeros((), dtype=into.dtype)
    out = last[np.take_along_axis(tags, ends[:, None], axis=1)]
    return np.concatenate([np.where(here, into, nothing), out], axis=1)


def _log_sum(values: np.ndarray, *, axis: int) -> np.ndarray:
    """Return the logarithm of the sum of exponentials along an axis."""
    most = values.max(axis=axis, keepdims=True)
    return np.asarray(np.log(np.exp(values - most).sum(axis=axis)) + np.squeeze(most, axis))
