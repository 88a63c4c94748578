"""Turns translations and references into BLEU and chrF, computed by sacrebleu, and finds the worst of them.

sacrebleu (Post 2018, "A Call for Clarity in Reporting BLEU Scores") tokenises by itself and says in a signature how, so
that figures of different papers and machines are the same figures. It is imported when a figure is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertwright.log import ResultTable

LENGTHS = (10, 20, 40)
"""Words of the source text where one row of the table by length ends and the next begins."""


@dataclass(frozen=True)
class TextScores:
    """Scores of N translations in percent, and the signatures that say how they were counted."""

    bleu: float
    chrf: float
    signatures: dict[str, str]


def score_texts(predictions: Sequence[str], references: Sequence[str], *, lowercase: bool) -> TextScores:
    """Return BLEU (Papineni et al. 2002) and chrF (Popović 2015) of texts [N] against references [N].

    With `lowercase` capitals do not count, and the signatures say so (case:lc).

    >>> score_texts(["the cat sat on the mat"], ["the cat sat on the mat"], lowercase=False).bleu
    100.0
    """
    from sacrebleu.metrics import BLEU, CHRF

    bleu, chrf = BLEU(lowercase=lowercase), CHRF(lowercase=lowercase)
    figures = (
        bleu.corpus_score(list(predictions), [list(references)]).score,
        chrf.corpus_score(list(predictions), [list(references)]).score,
    )
    signatures = {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}
    return TextScores(round(figures[0], 4), round(figures[1], 4), signatures)


def chrf_of_each(predictions: Sequence[str], references: Sequence[str], *, lowercase: bool) -> np.ndarray:
    """Return the chrF of each text, [N] in percent: unlike BLEU it means something for a single sentence."""
    from sacrebleu.metrics import CHRF

    chrf = CHRF(lowercase=lowercase)
    return np.array(
        [chrf.sentence_score(one, [other]).score for one, other in zip(predictions, references, strict=True)]
    )


def by_length(
    source: Sequence[str], predictions: Sequence[str], references: Sequence[str], *, lowercase: bool
) -> ResultTable:
    """Return a table of the scores by words of the source text; its title holds the signature of BLEU."""
    words = np.array([len(text.split()) for text in source])
    rows: list[list[str]] = []
    signature = ""
    for low, high in zip((0, *LENGTHS), (*LENGTHS, None), strict=True):
        here = np.flatnonzero((words > low) & (words <= (words.max() if high is None else high))).tolist()
        if here:
            part = score_texts(
                [predictions[place] for place in here], [references[place] for place in here], lowercase=lowercase
            )
            signature = part.signatures["bleu"]
            name = f"over {low}" if high is None else f"{low + 1} to {high}"
            rows.append([name, f"{len(here):,}", f"{part.bleu:.2f}", f"{part.chrf:.2f}"])
    return ResultTable(f"by words of the source ({signature})", ["words", "pairs", "BLEU", "chrF"], rows)
