"""Says what a text is in another language: pairs of texts in, an encoder-decoder's translations evaluated.

It has what of `Task` makes sense for it (examples, rows, loss, evaluation) and nothing about linear heads: what it
evaluates are texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from bertwright.data.labelled.paired import PairedRows
from bertwright.log import note
from bertwright.model.generate import SearchRules
from bertwright.tasks.base import FinetuneTask
from bertwright.tasks.eval_result import EvalResult, Mistake
from bertwright.tasks.examples import EncodedExamples
from bertwright.tasks.metrics import perplexity
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.translation.metrics import by_length, chrf_of_each, score_texts
from bertwright.tasks.translation.reader import Parallel, SidesConfig, read_parallel
from bertwright.tokenizer.load import Tokenizer
from bertwright.types import Loss, PairBatch, PartSums

FULL_SCORE = 100.0


@dataclass(frozen=True)
class Translate(FinetuneTask):
    """The task: which side is which, the vocabulary of both, and how the loss is smoothed.

    smoothing  fraction of the target's probability that is spread over the vocabulary (Szegedy et al. 2016)
    """

    name: ClassVar[str] = "translate"
    metric: ClassVar[str] = "bleu"
    metrics: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "loss", "perplexity")
    labels = ()
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

    def encode(self, examples: Parallel, encoder: TextEncoder) -> EncodedExamples[Parallel, PairedRows]:
        """Return a row for each pair; what is past the longest row is cut on either side, and noted."""
        source, source_lengths, _, cut = encoder.frame(encoder.encode(examples.first), None)
        target, target_lengths, _, cut_too = encoder.frame(encoder.encode(examples.second), None)
        if cut or cut_too:
            note(
                f"{cut:,} source and {cut_too:,} target texts are longer than {encoder.max_length} tokens and were cut"
            )
        rows = PairedRows(source, source_lengths, target, target_lengths, pad=self.tokenizer.special.pad)
        return EncodedExamples(examples, rows)

    def loss(self, scores: Tensor, example: PairBatch) -> Loss:
        """Return the smoothed cross-entropy of logits [R, V] of the R real tokens of the targets; its part is plain."""
        logits, labels = scores.float(), example.labels.flatten()[example.real.flat]
        logs = logits.log_softmax(-1)
        nats, spread = -logs.gather(1, labels[:, None])[:, 0], -logs.mean(-1)
        total = ((1 - self.smoothing) * nats + self.smoothing * spread).mean()
        count = logits.new_full((), len(labels))
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

    def evaluate(
        self, predictions: Sequence[str], examples: Parallel, *, loss: float, mistakes: int | None = None
    ) -> EvalResult:
        """Return BLEU and chrF of translations, in percent, and the loss (nats a token) with its perplexity.

        With a number of `mistakes` also the scores by length of the source, and the worst by chrF of the sentence.
        """
        sources, references, lowercase = examples.first, examples.second, self.lowercase
        scores = score_texts(predictions, references, lowercase=lowercase)
        figures = {"bleu": scores.bleu, "chrf": scores.chrf, "loss": loss, "perplexity": perplexity(loss)}
        if mistakes is None:
            return EvalResult(figures)
        chrf = chrf_of_each(predictions, references, lowercase=lowercase)
        return EvalResult(
            figures,
            by_length(sources, predictions, references, lowercase=lowercase),
            [
                Mistake(sources[place], references[place], predictions[place], FULL_SCORE - float(chrf[place]))
                for place in np.argsort(chrf, kind="stable")[:mistakes].tolist()
            ],
        )
