"""Turns texts into what a model answers about them, in the two steps of the batcher: prepare, and answer a batch.

Nothing is cut in silence: a text longer than the model reads is refused, or cut where the client asks for that, and
the answer counts such texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertwright.data.labelled.rows_of_labels import padded
from bertwright.inference.batching import Forward
from bertwright.inference.pretrained_predictor import PretrainedPredictor
from bertwright.inference.text_rows import MASK, text_rows
from bertwright.server.batcher import Prepared
from bertwright.server.refusal import Refusal
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import SpecialIds


@dataclass(frozen=True)
class EmbedText:
    """A text, or the ids of its tokens without special ones, to be turned into a vector.

    truncate  cut it where it is too long, at the end or, with `keep_end`, at the beginning
    """

    text: str | Sequence[int]
    truncate: bool = False
    keep_end: bool = False


class EmbedLane:
    """Vectors of texts: what `forward` gives of a batch of rows, [B, ...] float32.

    Prompts are added by whoever asks: `encoder` has none.
    """

    def __init__(self, encoder: TextEncoder, forward: Forward[np.ndarray], *, each_token: bool = False) -> None:
        """Take what turns texts into tokens, and rows into vectors; `each_token`, and [B, S, H] becomes [S, H] each."""
        self.encoder, self.forward, self.each_token = encoder, forward, each_token
        self.special: SpecialIds = encoder.tokenizer.special

    def prepare(self, questions: Sequence[EmbedText]) -> list[Prepared | Refusal]:
        """Return the rows of texts, [CLS] ... [SEP], or why one cannot be read."""
        ids, lengths = self.encoder.encode([one.text if isinstance(one.text, str) else "" for one in questions])
        ends = np.cumsum(lengths).tolist()
        return [
            self._prepared(one, ids[end - length : end] if isinstance(one.text, str) else np.array(one.text))
            for one, end, length in zip(questions, ends, lengths.tolist(), strict=True)
        ]

    def _prepared(self, question: EmbedText, ids: np.ndarray) -> Prepared | Refusal:
        if len(ids) and int(ids.max()) >= self.encoder.tokenizer.vocab_size:
            return Refusal(
                f"there is no token {int(ids.max()):,}; ids go up to {self.encoder.tokenizer.vocab_size - 1:,}"
            )
        room = self.encoder.max_length - 2
        too_long = len(ids) > room
        if too_long and not question.truncate:
            return too_long_refusal(len(ids) + 2, self.encoder.max_length)
        kept = ids[-room:] if question.keep_end else ids[:room]
        row = np.concatenate([[self.special.cls], kept, [self.special.sep]]).astype(np.int64)
        return Prepared(len(row), len(row), row, truncated=too_long)

    def answer(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the vector of each row, or those of its tokens; NaN is refused, as JSON has none."""
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        mask = np.arange(int(lengths.max()))[None, :] < lengths[:, None]
        arrays = {
            "input_ids": padded(np.concatenate(rows), mask, fill=self.special.pad),
            "token_type_ids": np.zeros(mask.shape, dtype=np.int64),
            "attention_mask": mask,
            "asked": np.zeros((len(rows), 1), dtype=np.int64),
            "targets": np.zeros((len(rows), 1), dtype=np.int64),
        }
        vectors = self.forward(arrays)
        if not np.isfinite(vectors).all():
            raise Refusal("the model gave numbers that are not finite", "Backend", counted_as="inference")
        if self.each_token:
            return [one[:length] for one, length in zip(vectors, lengths.tolist(), strict=True)]
        return list(vectors.reshape(len(rows), -1))


@dataclass(frozen=True)
class Asked:
    """The texts of a question to a predictor.

    truncate  let the model cut them where they are too long
    """

    texts: tuple[str, ...]
    truncate: bool = False


class PredictorLane:
    """What a predictor says about questions of one or several texts each.

    ask     gives the answers to questions
    splits  whether texts longer than a row are read in several rows
    others  whether each text but the first is a row of its own, beside the first
    """

    def __init__(
        self,
        encoder: TextEncoder,
        ask: Callable[[list[tuple[str, ...]]], Sequence[Any]],
        *,
        splits: bool = False,
        others: bool = False,
    ) -> None:
        """Take what counts tokens, and what answers questions."""
        self.encoder, self.ask, self.splits, self.others = encoder, ask, splits, others
        self.separators = encoder.tokenizer.pair_frame.separators

    def prepare(self, questions: Sequence[Asked]) -> list[Prepared | Refusal]:
        """Return the questions with their tokens counted, or why one cannot be read."""
        _, lengths = self.encoder.encode([text for one in questions for text in one.texts])
        found: list[Prepared | Refusal] = []
        begin = 0
        for one in questions:
            end = begin + len(one.texts)
            found.append(self._prepared(one, self._rows(lengths[begin:end].tolist())))
            begin = end
        return found

    def _rows(self, lengths: list[int]) -> list[int]:
        """Return the tokens of each row that texts of these lengths become."""
        if self.others:
            return [lengths[0] + length + 2 + self.separators for length in lengths[1:]]
        return [sum(lengths) + 2 + self.separators * (len(lengths) - 1)]

    def _prepared(self, question: Asked, rows: list[int]) -> Prepared | Refusal:
        longest, most = max(rows), self.encoder.max_length
        too_long = longest > most
        if too_long and not (question.truncate or self.splits):
            return too_long_refusal(longest, most)
        read = sum(rows) if self.splits else sum(min(row, most) for row in rows)
        return Prepared(
            max(read, 1), read, question.texts, truncated=too_long and not self.splits, split=too_long and self.splits
        )

    def answer(self, rows: Sequence[tuple[str, ...]]) -> list[Any]:
        """Return the answer to each question."""
        return list(self.ask(list(rows)))


def too_long_refusal(length: int, most: int) -> Refusal:
    """Return the refusal of a text longer than the model reads."""
    return Refusal(
        f"`inputs` must have at most {most:,} tokens, special ones included, but has {length:,}; shorten it, or send "
        '"truncate": true where the endpoint has it'
    )


@dataclass(frozen=True)
class Masked:
    """A text with [MASK]s; `targets` are the ids of the only tokens looked at."""

    text: str
    top_k: int
    targets: tuple[int, ...] | None = None


class FillMaskLane:
    """Tokens that may stand at each [MASK] of a text, and their probabilities over the whole vocabulary."""

    def __init__(self, predictor: PretrainedPredictor) -> None:
        """Take what has the probabilities."""
        self.predictor = predictor

    def prepare(self, questions: Sequence[Masked]) -> list[Prepared | Refusal]:
        """Return the questions with their tokens counted, or why one cannot be read."""
        return [self._prepared(one) for one in questions]

    def _prepared(self, question: Masked) -> Prepared | Refusal:
        if MASK not in question.text:
            return Refusal(f"`inputs` has no {MASK}; write {MASK} in place of the word to guess")
        most = self.predictor.max_length
        rows = text_rows([(question.text,)], self.predictor.tokenizer, max_length=2**31, masked=True)
        length = int(rows.lengths[0])
        return too_long_refusal(length, most) if length > most else Prepared(length, length, question)

    def answer(self, rows: Sequence[Masked]) -> list[list[list[tuple[int, float]]]]:
        """Return for each text, and each [MASK] in it, ids and probabilities, the most probable first."""
        found = self.predictor.mask_probabilities([one.text for one in rows])
        return [
            [likeliest(of_mask, one.top_k, one.targets) for of_mask in probabilities]
            for one, probabilities in zip(rows, found, strict=True)
        ]


def likeliest(probabilities: np.ndarray, count: int, targets: Sequence[int] | None) -> list[tuple[int, float]]:
    """Return the `count` most probable tokens, or those among `targets`, of probabilities [V], the best first."""
    ids = np.arange(len(probabilities)) if targets is None else np.array(targets, dtype=np.int64)
    values = probabilities[ids]
    best = np.argpartition(-values, min(count, len(ids)) - 1)[:count]
    best = best[np.argsort(-values[best], kind="stable")]
    return list(zip(ids[best].tolist(), values[best].tolist(), strict=True))
