"""The parcels handed from room to room after the shard: Batch, MaskedBatch, Scores; others for tasks.

    Shard -> Batch -> MaskedBatch -> Scores -> Loss
           data/    objectives/     model/   objectives/

    labelled rows -> LabelledBatch -> logits -> Loss        paired rows -> PairBatch -> logits -> Loss
    sentence rows -> SentenceBatch -> vectors -> Loss
                  data/            model/     tasks/

B rows a batch, S tokens a row, M positions of a row to predict, V words of the vocabulary.
The raw-text side has its own parcels in `corpus`, which never needs torch; the tensors here are only named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Self

from bertwright.batch_layout import UNKNOWN_ROWS, Places, RowLayout
from bertwright.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def listed(given: str | Path | Iterable[str | Path], *, what: str = "texts") -> list[str]:
    """Return texts, or names of files, as a list of str; one that stands alone, not in a list, is a list of one.

    Raises UsageError where something else is among them.

    >>> listed("Paris is a [MASK].")
    ['Paris is a [MASK].']
    """
    several = [given] if isinstance(given, (str, Path)) else list(given)
    odd = next((one for one in several if not isinstance(one, (str, Path))), None)
    if odd is not None or None in several:
        raise UsageError(f"{what} must be strings; {str(odd)[:50]!r} is of type {type(odd).__name__}")
    return [str(one) for one in several]


class _OnDevice:
    """A frozen dataclass of tensors that can be moved as one."""

    def tensors(self) -> dict[str, Any]:
        """Return the tensors it holds, by their names."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in held.items() if not isinstance(value, (NoneType, bool, RowLayout))}

    def to(self, device: torch.device) -> Self:
        """Return the same parcel with every tensor on `device`."""
        moved = {name: value.to(device, non_blocking=True) for name, value in self.tensors().items()}
        return replace(self, **moved)  # type: ignore[type-var]

    def pinned(self) -> Self:
        """Return the same parcel in memory a GPU copies from by itself, while the CPU goes on; needs CUDA."""
        return replace(self, **{name: value.pin_memory() for name, value in self.tensors().items()})  # type: ignore[type-var]


@dataclass(frozen=True)
class TokenRows(_OnDevice):
    """What every batch has, whatever it is for: all that the training loop looks at.

    input_ids       [B, S] int64  token ids, [CLS] A [SEP], [CLS] A [SEP] B [SEP], or packed [CLS] A [SEP] [CLS] B [SEP]
                                  ..., then padding
    token_type_ids  [B, S] int64  0 for [CLS] A [SEP], 1 for B [SEP], 0 for padding
    attention_mask  [B, S] bool   True where a token stands
    """

    input_ids: Tensor
    token_type_ids: Tensor
    attention_mask: Tensor

    @property
    def longest(self) -> int:
        """Tokens of the longest row, padding included."""
        return self.input_ids.shape[1]

    def cut(self, rows: slice) -> TokenRows:
        """Return some of the rows, with what belongs to them."""
        return replace(self, **{name: value[rows] for name, value in self.tensors().items()})


@dataclass(frozen=True)
class Batch(TokenRows):
    """Rows of clean text, before anything is hidden.

    maskable        [B, S] bool   True where the token came from text: neither special nor padding
    word_starts     [B, S] bool   True at the first token of a word, and at the first token of each segment
    next_label      [B] int64     0: B continues A; 1: B comes from another document. None for single segments
    documents       [B, S] int64  k for the k-th document of a packed row, from 1, 0 for padding; tokens see their own
                                  document alone. None where a row is one document, or a pair
    layout          what is known of the rows without looking at tensors
    """

    maskable: Tensor
    word_starts: Tensor
    next_label: Tensor | None = None
    documents: Tensor | None = None
    layout: RowLayout = UNKNOWN_ROWS


@dataclass(frozen=True)
class MaskedBatch(TokenRows):
    """What the model sees and what it is asked: a batch after corruption, with tokens of input_ids hidden.

    masked_positions  [B, M] int64    positions in the row to predict; unused slots hold 0
    masked_labels     [B, M] int64    the true tokens there; unused slots hold 0
    masked_weights    [B, M] float32  1 where a slot is used, 0 where not
    next_label        [B] int64 or None
    documents         [B, S] int64 or None
    normalizer        [3] float32  used slots, rows and tokens that the losses are divided by: those of the whole
                                   micro-batch, where these are some of its rows; of a step of several micro-batches,
                                   their mean over these. None where the losses are divided by what is here
    first_ids         [B, S] int64 what the auxiliary module of an objective reads in place of input_ids; or None
    causal            whether each token attends to those before it alone, and what is predicted at each position but
                      the last is the next token: M is S - 1
    boundaries        [B, 2, K] int64 positions before and after each of K runs of masked tokens, which a head of an
                                   objective reads, 0 where a row has fewer; or None
    layout            that of the batch
    """

    masked_positions: Tensor
    masked_labels: Tensor
    masked_weights: Tensor
    next_label: Tensor | None = None
    documents: Tensor | None = None
    normalizer: Tensor | None = None
    first_ids: Tensor | None = None
    boundaries: Tensor | None = None
    causal: bool = False
    layout: RowLayout = UNKNOWN_ROWS

    @property
    def dynamic_slots(self) -> tuple[Tensor, ...]:
        """The tensors whose M may change along a run; none of a causal batch, where M follows from S."""
        return () if self.causal else (self.masked_positions, self.masked_labels, self.masked_weights)

    def cut(self, rows: slice) -> MaskedBatch:
        """Return some of the rows, whose loss is their share of the loss of all."""
        taken = {name: value[rows] for name, value in self.tensors().items()}
        return replace(self, **{**taken, "normalizer": self.counts()})

    def divisors(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slots and rows that losses are divided by, where `slots` (a float32 scalar) are used here."""
        if self.normalizer is None:
            return slots, slots.new_full((), self.input_ids.shape[0])
        of_slots, of_rows, _ = self.normalizer.unbind()
        return of_slots, of_rows

    def token_divisor(self) -> Tensor:
        """Return the tokens, padding not counted, that a loss over all of them is divided by, as a float32 scalar."""
        return self.attention_mask.sum().float() if self.normalizer is None else self.normalizer[2]

    def counts(self) -> Tensor:
        """Return [3] float32: how many slots are used, the rows, and the tokens, padding not counted."""
        counts = self.masked_weights.new_full((3,), len(self.input_ids))
        counts[0], counts[2] = self.masked_weights.sum(), self.attention_mask.sum()
        return counts


@dataclass(frozen=True)
class LabelledBatch(TokenRows):
    """Rows of text with the answers a task asks for.

    asked    [B, M] int64  positions that are predicted at: [CLS] for tasks about rows; unused slots hold 0. None where
                           every token of a row is predicted at, and M is S
    targets  [B, M]        int64 the true class, or float32 the true score; unused slots hold UNASKED
             [B, M, K]     float32, where each of K labels is true (1) or not (0)
             [B, ...]      int64 what is true of each row, where every token is predicted at
    """

    asked: Tensor | None
    targets: Tensor


@dataclass(frozen=True)
class SentenceBatch(TokenRows):
    """B examples of K texts that belong together, each text a row: B K rows, all first texts, then all second ones ...

    texts   [K, B] int64    which text stands in each row: the same number is the same text
    scores  [B] float32     how alike the two texts of an example are, 0 to 1; None where nothing says
    """

    texts: Tensor
    scores: Tensor | None = None

    def cut(self, rows: slice) -> TokenRows:
        """Return some of the rows alone: examples stand across them."""
        return TokenRows(self.input_ids[rows], self.token_type_ids[rows], self.attention_mask[rows])


UNASKED = -100
"""The target of a slot of a LabelledBatch or PairBatch that nothing is asked in."""


@dataclass(frozen=True)
class PairBatch(TokenRows):
    """Rows of a source text, [CLS] A [SEP], and what is to be written about each, of T tokens.

    decoder_ids  [B, T] int64  [CLS] and the target text, then padding: what the decoder reads
    labels       [B, T] int64  the target text and [SEP], then UNASKED: what it is to write after each
    real         which of the B rows of T labels are not UNASKED
    """

    decoder_ids: Tensor
    labels: Tensor
    real: Places

    @property
    def longest(self) -> int:
        """Tokens of the longest row on either side, padding included."""
        return max(self.input_ids.shape[1], self.decoder_ids.shape[1])


@dataclass(frozen=True)
class UnscoredWords(_OnDevice):
    """What logits of the vocabulary are products of, where computing them is left to the loss.

    vectors  [B, M, E]  of the masked positions, in the type of the product
    words    [V, E]     of the vocabulary
    bias     [V]
    """

    vectors: Tensor
    words: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Scores(_OnDevice):
    """What the model answers.

    mlm  [B, M, V]  logits of the vocabulary at the masked positions
    nsp  [B, 2]     logits of (B continues A, B comes from another document), or None from a model without that head
    replaced [B, S] logits, above 0 where a token was more likely replaced than not, of a model that finds those: then
                    there are none of the vocabulary, and M is 0. None from other models
    boundary  [B, M, V]  logits of the vocabulary there, by a head of the objective that reads `boundaries`; or None
    unscored  what `mlm` would be computed from, where that is left to the loss: V of `mlm` is 0 then. None as a rule
    """

    mlm: Tensor
    nsp: Tensor | None
    replaced: Tensor | None = None
    boundary: Tensor | None = None
    unscored: UnscoredWords | None = None

    @property
    def of_words(self) -> Tensor | UnscoredWords:
        """The logits of the vocabulary, or what they are left to be computed from."""
        return self.mlm if self.unscored is None else self.unscored


@dataclass(frozen=True)
class PartSums:
    """The sums of one part of a loss over all it asks in a batch, scalars; they add up over batches.

    sum      summed loss; None where a part only counts, such as the pairs of one class among all
    count    how much was asked
    correct  how much of it was predicted correctly; None where nothing is right or wrong
    """

    sum: Tensor | None
    count: Tensor
    correct: Tensor | None = None

    def plus(self, other: PartSums | None) -> PartSums:
        """Return the sums over what this and `other` asked."""
        if other is None:
            return self
        summed = None if self.sum is None or other.sum is None else self.sum + other.sum
        correct = None if self.correct is None or other.correct is None else self.correct + other.correct
        return PartSums(summed, self.count + other.count, correct)


LossParts = dict[str, PartSums]
"""What a loss is made of, by the name of each part, such as "mlm"."""


@dataclass(frozen=True)
class Loss:
    """What an objective or a task returns of a batch.

    total  scalar float32, differentiable: the mean over what was asked, or a sum of such means; for some rows of a
           micro-batch, their share of that of all its rows
    parts  detached sums to report
    mass   what `total` was divided by, where a batch may be trained on some rows at a time; None where rows are
           compared with one another
    """

    total: Tensor
    parts: LossParts
    mass: Tensor | None = None


def flat_sums(parts: LossParts) -> dict[str, Tensor]:
    """Return the sums of all parts by name: "mlm_sum", "mlm_count", "mlm_correct" ...; those that are there."""
    named = {
        f"{name}_{kind}": getattr(sums, kind) for name, sums in parts.items() for kind in ("sum", "count", "correct")
    }
    return {name: value for name, value in named.items() if value is not None}


def part_figures(sums: Mapping[str, float]) -> dict[str, float]:
    """Return the mean loss and the accuracy of each part, from the numbers of `flat_sums`; of nothing asked, neither.

    >>> part_figures({"mlm_sum": 12.0, "mlm_count": 4.0, "mlm_correct": 1.0})
    {'mlm_loss': 3.0, 'mlm_accuracy': 0.25}
    """
    figures: dict[str, float] = {}
    for name, count in sums.items():
        part = name.removesuffix("_count")
        if part == name or not count or f"{part}_sum" not in sums:
            continue
        figures[f"{part}_loss"] = round(sums[f"{part}_sum"] / count, 6)
        if f"{part}_correct" in sums:
            figures[f"{part}_accuracy"] = round(sums[f"{part}_correct"] / count, 6)
    return figures
