"""Turns texts with [MASK] in them into likely words, and pairs into the probability that the second text follows.

A model of sentence order prediction gives the probability that both are in the order of the text instead.

Whatever runs the model: torch is imported where a model of torch is run, so that an exported one is run without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bertwright.errors import UsageError
from bertwright.inference.base import Predictions, Predictor
from bertwright.inference.batching import BatchPolicy, Forward, in_batches, logits_of
from bertwright.inference.questions import Located, Question, masked_questions
from bertwright.inference.text_rows import MASK, text_rows
from bertwright.tasks.metrics import softmax
from bertwright.tokenizer.load import Tokenizer
from bertwright.types import listed

if TYPE_CHECKING:
    from bertwright.inference.scoring import Head
    from bertwright.model.encoder import Encoder

WORD_POLICY = BatchPolicy(rows=32, tokens=2048)
"""Logits of a vocabulary are many: so few rows at a time."""
PAIR_POLICY = BatchPolicy()
Guess = tuple[str, float]
"""A token and its probability."""


def fill_mask(model: Encoder, tokenizer: Tokenizer, texts: Sequence[str], *, top_k: int = 5) -> list[list[Guess]]:
    """Return for each text, which has one [MASK], the `top_k` most probable tokens there, most probable first.

    The model must be in evaluation mode. Raises UsageError where a text has no [MASK] or several, and InputError where
    it is longer than the model reads.

    >>> fill_mask(model, tokenizer, ["Return the [MASK] of the list."], top_k=1)  # needs a model  # doctest: +SKIP
    [[('length', 0.31)]]
    """
    texts = listed(texts)
    several = next((text for text in texts if text.count(MASK) > 1), None)
    if several is not None:
        raise UsageError(f'"{several}" has more than one {MASK}; ask for one at a time')
    from bertwright.inference.scoring import encoder_forward

    forward, max_length = partial(encoder_forward, model), model.config.max_positions
    predictor = PretrainedPredictor(tokenizer, forward, max_length=max_length, top_k=top_k)
    return [masks[0] for masks in predictor.fill_masks(texts)]


class PretrainedPredictor(Predictor):
    """Fills [MASK]s with `top_k` words, and gives the probability that the second text of a pair follows the first."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        forward: Callable[[Head], Forward[np.ndarray]],
        *,
        max_length: int,
        top_k: int,
        policy: BatchPolicy | None = None,
        tells_order: bool = False,
    ) -> None:
        """Take what runs each head, which raises ModelError where there is none; `policy` where batches are others.

        The logits are [B, M, V] of the vocabulary at the mask tokens, or [B, 1, 2] of pairs; those of one that
        `tells_order` are about the order of two texts.
        """
        self.tokenizer, self.forward, self.max_length, self.top_k = tokenizer, forward, max_length, top_k
        self.policy, self.about_pairs = policy, "in_order" if tells_order else "next"

    def questions(
        self, texts: Sequence[str], *, pair: bool = False, located: Iterable[Located] = ()
    ) -> Iterator[Question]:
        """Yield a text for each [MASK], two texts for each pair; see `masked_questions`."""
        return masked_questions(texts, pair=pair, located=located)

    def predict(self, questions: Sequence[Question]) -> Predictions:
        """Return {"text", "predictions"} for a text with [MASK], {"first", "second", "next"} for a pair.

        Of a model that tells the order of two texts it is "in_order", not "next".
        """
        texts = [one for one in questions if isinstance(one, str) and one.strip()]
        pairs = [one for one in questions if isinstance(one, tuple)]
        guesses, probabilities = iter(self.fill_masks(texts)), iter(self.next_sentence(pairs))
        return [
            {"text": one, "predictions": next(guesses) if one.strip() else []}
            if isinstance(one, str)
            else {"first": one[0], "second": one[1], self.about_pairs: next(probabilities)}
            for one in questions
        ]

    def fill_masks(self, texts: Sequence[str]) -> list[list[list[Guess]]]:
        """Return for each text, and each [MASK] in it, the most probable tokens there, most probable first.

        Probabilities are over the whole vocabulary; each [MASK] is filled on its own. Raises UsageError where a text
        has no [MASK], and InputError where it is longer than the model reads.
        """
        missing = next((text for text in texts if MASK not in text), None)
        if missing is not None:
            raise UsageError(f'"{missing}" has no {MASK}; write {MASK} in place of the word to guess')
        if not texts:
            return []
        rows = text_rows([(text,) for text in texts], self.tokenizer, max_length=self.max_length, masked=True)
        words = self.tokenizer.vocab_size
        likeliest = _likeliest(self.forward("masked-token"), min(self.top_k, words), words=words)
        guesses: list[list[list[Guess]]] = [[] for _ in texts]
        for places, (ids, probabilities) in in_batches(likeliest, rows, policy=self.policy or WORD_POLICY):
            for row, place in enumerate(places.tolist()):
                for slot in range(int(rows.num_targets[place])):
                    found = zip(ids[row, slot].tolist(), probabilities[row, slot].tolist(), strict=True)
                    guesses[place].append(
                        [(self.tokenizer.readable(token), probability) for token, probability in found]
                    )
        return guesses

    def mask_probabilities(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return for each text the probability [M, V] float32 of every token at each of its M [MASK]s.

        Raises UsageError and InputError as `fill_masks` does.
        """
        rows = text_rows([(text,) for text in texts], self.tokenizer, max_length=self.max_length, masked=True)
        logits = logits_of(self.forward("masked-token"), rows, policy=self.policy or WORD_POLICY)
        probabilities = _probabilities(logits)[:, : self.tokenizer.vocab_size]
        return np.split(probabilities, np.cumsum(rows.num_targets)[:-1])

    def next_sentence(self, pairs: Sequence[Sequence[str]]) -> list[float]:
        """Return for each pair the probability that the second text continues the first, or that they are in order.

        Raises InputError where a pair is longer than the model reads.
        """
        if not pairs:
            return []
        rows = text_rows(pairs, self.tokenizer, max_length=self.max_length, masked=False)
        logits = logits_of(self.forward("next-sentence"), rows, policy=self.policy or PAIR_POLICY)
        probabilities: list[float] = softmax(logits)[:, 0].tolist()
        return probabilities


def _likeliest(forward: Forward[np.ndarray], count: int, *, words: int) -> Forward[tuple[np.ndarray, np.ndarray]]:
    """Return what gives ids and probabilities [B, M, count], most probable first, of the first `words` tokens there
    are."""

    def best(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        probabilities = _probabilities(forward(arrays))[..., :words]  # rows past it are padding
        found = np.argpartition(probabilities, words - count, axis=-1)[..., words - count :]
        order = np.argsort(-np.take_along_axis(probabilities, found, -1), axis=-1, kind="stable")
        found = np.take_along_axis(found, order, -1)
        return found, np.take_along_axis(probabilities, found, -1)

    return best


def _probabilities(logits: np.ndarray) -> np.ndarray:
    """Return probabilities [..., V] of logits [..., V], in their own precision: those of a vocabulary are many."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return shares
