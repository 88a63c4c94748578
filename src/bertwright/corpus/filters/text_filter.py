"""Leaves out lines and documents of poor text, each for a reason that has a name, a figure and a limit.

The limits of "web" are those of MassiveText for words, their length, signs, bullets, ellipses and repetition (Rae et
al. 2021, "Scaling Language Models", A1.1), with a limit on digits and symbols, and lines without letters taken out as
menus and tables are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.clean import without
from bertwright.corpus.filters.counts import DropCounts, keep_passed
from bertwright.corpus.filters.language import languages_of
from bertwright.corpus.filters.measures import MEASURES, Measures, line_letters
from bertwright.errors import UsageError

LINE_RULE = "line-letters"
"""The one rule about lines: fraction of letters among their characters."""
OF_WORDS_BETWEEN_BLANKS = frozenset({"word-length"})
"""Rules that mean nothing where every character is a word."""


@dataclass(frozen=True)
class Limits:
    """The least and most of a figure that pass."""

    least: float = 0.0
    most: float = float("inf")

    def passed(self, figures: np.ndarray) -> np.ndarray:
        """Return which figures pass, [N] bool."""
        return (figures >= self.least) & (figures <= self.most)


Rules = dict[str, Limits]
FILTERS: dict[str, Rules] = {
    "web": {
        LINE_RULE: Limits(least=0.3),
        "words": Limits(50, 100_000),
        "word-length": Limits(3, 10),
        "symbols": Limits(most=0.2),
        "digits": Limits(most=0.2),
        "hashes": Limits(most=0.1),
        "bullet-lines": Limits(most=0.9),
        "ellipsis-lines": Limits(most=0.3),
        "repeated-lines": Limits(most=0.3),
        "repeated-line-characters": Limits(most=0.2),
        "repeated-sequences": Limits(most=0.15),
    }
}


def filter_of(names: Sequence[str], only_language: str | None, *, spaced: bool) -> TextFilter | None:
    """Return the filter that --filter and --only-language ask for, None where neither does.

    Raises UsageError for rules that are not known, and where a package is missing.
    """
    if not names and only_language is None:
        return None
    found = TextFilter(rules_of(names) if names else {}, only_language, spaced)
    found.filter(pa.array(["a document"]))
    return found


def rules_of(words: Sequence[str]) -> Rules:
    """Return the rules of a filter by name, with limits that replace the usual ones after it.

    Raises UsageError for a name or a limit that is not known.

    >>> rules_of(["web", "words=20:", "digits=:0.4"])["words"]
    Limits(least=20.0, most=inf)
    """
    name, *limits = words
    if name not in FILTERS:
        raise UsageError(f"--filter {name} is not known; choose one of {', '.join(FILTERS)}")
    rules = dict(FILTERS[name])
    for limit in limits:
        rule, _, bounds = limit.partition("=")
        least, colon, most = bounds.partition(":")
        try:
            rules[rule] = Limits(float(least or 0), float(most or "inf"))
        except ValueError:
            colon = ""
        if rule not in FILTERS[name] or not colon:
            known = ", ".join(FILTERS[name])
            raise UsageError(f"--filter {name} {limit} is no limit; give RULE=LEAST:MOST, such as words=20: ({known})")
    return rules


@dataclass(frozen=True)
class TextFilter:
    """What lines and documents must be to stay.

    rules          limits by rule; {} for none
    only_language  the language of documents, or None for any; those whose language is not sure stay
    spaced         whether words stand between blanks in this language
    """

    rules: Rules
    only_language: str | None
    spaced: bool

    def filter(self, texts: pa.StringArray) -> tuple[pa.StringArray, DropCounts]:
        """Return the documents that stay, and what was left out; empty documents stay, to be counted as empty later."""
        dropped = DropCounts()
        if LINE_RULE in self.rules:
            texts, dropped = self._without_poor_lines(texts)
        rules = [rule for rule in self.rules if rule != LINE_RULE]
        rules = [rule for rule in rules if self.spaced or rule not in OF_WORDS_BETWEEN_BLANKS]
        measures = Measures(texts)
        kept, blank = np.ones(len(texts), dtype=bool), pc.equal(texts, "").to_numpy(zero_copy_only=False)
        for rule in rules:
            passed = self.rules[rule].passed(MEASURES[rule](measures)) | blank
            kept, poor = keep_passed(kept, passed, rule, texts)
            dropped += poor
        if self.only_language is not None:
            places = np.flatnonzero(kept & ~blank)
            passed = np.ones(len(texts), dtype=bool)
            codes = languages_of(texts.take(pa.array(places)))
            passed[places] = [code in (self.only_language, "") for code in codes]
            kept, others = keep_passed(kept, passed, "language", texts)
            dropped += others
        return texts.filter(pa.array(kept)), dropped

    def _without_poor_lines(self, texts: pa.StringArray) -> tuple[pa.StringArray, DropCounts]:
        lists = pc.split_pattern(texts, "\n")
        lines = lists.flatten()
        good = self.rules[LINE_RULE].passed(line_letters(lines)) | (
            pc.binary_length(lines).to_numpy(zero_copy_only=False) == 0
        )
        if good.all():
            return texts, DropCounts()
        poor = np.flatnonzero(~good)
        dropped = DropCounts.of(LINE_RULE, len(poor), lines[int(poor[0])].as_py())
        return without(lists, ~good, end="\n", texts=texts), dropped
