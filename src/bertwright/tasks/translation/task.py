"""Says what a text is in another language: pairs of texts in, an encoder-decoder's translations judged.

It answers the questions of `Task` that make sense for it (what the examples are, how they are encoded, marked and
judged) and not those about linear heads: what it judges are texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from bertwright.data.labelled.paired import PairedRows
from bertwright.log import note
from bertwright.model.generate import SearchRules
from bertwright.tasks.eval_result import EvalResult, Mistake
from bertwright.tasks.metrics import perplexity
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.translation.metrics import by_length, chrf_of_each, score_texts
from bertwright.tasks.translation.reader import Parallel, SidesConfig, read_parallel
from bertwright.tokenizer.load import Tokenizer
from bertwright.types import UNASKED, Loss, PairBatch, PartSums

FULL_SCORE = 100.0


@dataclass(frozen=True)
class Translate:
    """The task: which side is which, the vocabulary of both, and how training marks what is written.

    smoothing  share of the target's probability that is spread over the vocabulary (Szegedy et al. 2016)
    """

    name: ClassVar[str] = "translate"
    sums_over_rows: ClassVar[bool] = True
    metric: ClassVar[str] = "bleu"
    metrics: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "loss", "perplexity")
    labels: ClassVar[tuple[str, ...]] = ()
    has_dynamic_slots: ClassVar[bool] = False

    tokenizer: Tokenizer
    sides: SidesConfig
    smoothing: float = 0.1

    @property
    def lowercase(self) -> bool:
        """Whether the vocabulary has no capitals, so that none can be asked of a translation."""
        return self.tokenizer.decode(self.tokenizer.encode("A")).strip() == "a"

    def rules(self, *, max_length: int, beams: int, length_penalty: float) -> SearchRules:
        """Return how translations are written: from [CLS] to [SEP]."""
        special = self.tokenizer.special
        return SearchRules(special.cls, special.sep, max_length, beams=beams, length_penalty=length_penalty)

    def read(self, path: Path) -> Parallel:
        """Return the pairs of a file; raises InputError or UsageError."""
        return read_parallel(path, self.sides)

    def encode(self, examples: Parallel, encoder: TextEncoder) -> PairedRows:
        """Return a row for each pair; what is past the longest row is cut on either side, and told."""
        source, source_lengths, _, cut = encoder.frame(encoder.encode(examples.first), None)
        target, target_lengths, _, cut_too = encoder.frame(encoder.encode(examples.second), None)
        if cut or cut_too:
            note(
                f"{cut:,} source and {cut_too:,} target texts are longer than {encoder.max_length} tokens and were cut"
            )
        return PairedRows(source, source_lengths, target, target_lengths, pad=self.tokenizer.special.pad)

    def corrupt(self, batch: PairBatch, generator: torch.Generator, progress: float = 1.0) -> PairBatch:
        """Hide nothing: what is ahead is hidden by the decoder."""
        return batch

    def loss(self, scores: Tensor, example: PairBatch) -> Loss:
        """Mark logits [R, V] of the R real tokens of the targets: smoothed cross-entropy, and the plain one's sum."""
        logits, asked = scores.float(), example.labels[example.labels != UNASKED]
        shares = logits.log_softmax(-1)
        nats, spread = -shares.gather(1, asked[:, None])[:, 0], -shares.mean(-1)
        total = ((1 - self.smoothing) * nats + self.smoothing * spread).mean()
        count = torch.tensor(float(len(asked)), device=logits.device)
        return Loss(total, {self.name: PartSums(nats.detach().sum(), count)}, count)

    def texts(self, written: Sequence[list[int]]) -> list[str]:
        """Return what token ids say."""
        texts: list[str] = self.tokenizer.backend.decode_batch(list(written), skip_special_tokens=True)
        return [text.strip() for text in texts]

    def ceiling(self, examples: Parallel, rows: PairedRows) -> float:
        """Return the BLEU of the references themselves, encoded and decoded: no translation can score more."""
        ends = np.cumsum(rows.target_lengths)
        written = [ids.tolist()[1:-1] for ids in np.split(rows.target_ids, ends[:-1])]
        return score_texts(self.texts(written), examples.second, lowercase=self.lowercase).bleu

    def judge(self, said: Sequence[str], examples: Parallel, *, loss: float, mistakes: int | None = None) -> EvalResult:
        """Return BLEU and chrF of translations, in percent, and the loss (nats a token) with its perplexity.

        With a number of `mistakes` also the scores by length of the source, and the worst by chrF of the sentence.
        """
        scores = score_texts(said, examples.second, lowercase=self.lowercase)
        figures = {"bleu": scores.bleu, "chrf": scores.chrf, "loss": loss, "perplexity": perplexity(loss)}
        if mistakes is None:
            return EvalResult(figures)
        each = chrf_of_each(said, examples.second, lowercase=self.lowercase)
        return EvalResult(
            figures,
            grid=by_length(examples.first, said, examples.second, lowercase=self.lowercase),
            mistakes=[
                Mistake(examples.first[place], examples.second[place], said[place], FULL_SCORE - float(each[place]))
                for place in np.argsort(each, kind="stable")[:mistakes].tolist()
            ],
        )
