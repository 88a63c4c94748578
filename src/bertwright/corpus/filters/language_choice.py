"""Turns a sample spread over all files of a corpus into the code of its language, where no language was given.

Chinese is known by its characters, so that no package is needed for it: it must be known before the work, since words
are found by a dictionary there. Other languages are known by the detector of `languages`, where that is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.filters.language import languages_of
from bertwright.corpus.readers.documents import read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.layouts import Layout
from bertwright.corpus.readers.remote import TextFile, total_size
from bertwright.errors import UsageError

Grounds = Literal["given", "characters", "detector", "default"]
"""What a language was chosen by."""
CHINESE, USUAL = "zh", "en"
MOST_HAN, SOME_HAN, FEW_KANA = 0.5, 0.1, 0.02
"""Shares of the letters: more Han is Chinese, unless there are kana, as in Japanese; from some Han on a note is due."""
SAMPLE_FILES, SAMPLE_REMOTE = 64, 8
"""Files that are looked into; of those behind addresses each costs a request."""
DOCUMENTS, FEWEST, CHARACTERS = 240, 8, 2000
"""Documents of all these files together, the fewest of one file, and characters from the start of each of them."""
SCRIPTS = {"letters": r"\p{L}", "han": r"\p{Han}", "kana": r"[\p{Hiragana}\p{Katakana}]"}
UNKNOWN = "[UNK]"
"""No letters of the text; it stands in documents that are decoded from tokens."""


@dataclass(frozen=True)
class Scripts:
    """Shares of Chinese characters and of kana among the letters of a text, 0 to 1."""

    han: float
    kana: float

    @property
    def is_chinese(self) -> bool:
        """Whether the text is Chinese by its characters."""
        return self.han > MOST_HAN and self.kana < FEW_KANA

    @property
    def is_mixed(self) -> bool:
        """Whether much of the text is Chinese and most is not."""
        return SOME_HAN <= self.han <= MOST_HAN and self.kana < FEW_KANA


@dataclass(frozen=True)
class LanguageChoice:
    """A language, what it was chosen by, the same as words for people, and what to know of the other way, if any."""

    code: str
    grounds: Grounds
    statement: str
    advice: str = ""


def script_counts(texts: pa.StringArray) -> dict[str, int]:
    """Return how many letters, Han characters and kana there are in the starts of some documents.

    >>> script_counts(pa.array(["今天, today", "きょう"]))
    {'letters': 10, 'han': 2, 'kana': 3}
    """
    starts = pc.utf8_slice_codeunits(pc.replace_substring(texts, UNKNOWN, " "), 0, CHARACTERS)
    return {
        name: int(pc.sum(pc.count_substring_regex(starts, pattern)).as_py() or 0) for name, pattern in SCRIPTS.items()
    }


def scripts_of(counts: dict[str, int] | dict[str, float]) -> Scripts:
    """Return the shares of counts as `script_counts` gives them."""
    letters = max(1e-9, counts["letters"])
    return Scripts(counts["han"] / letters, counts["kana"] / letters)


def choose_language(paths: Sequence[TextFile], options: ReadOptions, *, layout: Layout | None) -> LanguageChoice:
    """Return the language of files: zh by its characters, else what the detector says of most of it, else en.

    Each file looked into counts by the bytes of the files that it stands for.
    """
    counts = dict.fromkeys(SCRIPTS, 0.0)
    languages: dict[str, float] = {}
    whole = 0.0
    spread = _spread(paths)
    for path, weight in spread:
        texts = _start_of(path, options, layout=layout, most=max(FEWEST, DOCUMENTS // len(spread)))
        found = script_counts(texts)
        for name in SCRIPTS:
            counts[name] += weight * found[name] / max(1, found["letters"])
        whole += weight
        try:
            for code in languages_of(texts):
                languages[code] = languages.get(code, 0.0) + weight / max(1, len(texts))
        except UsageError:  # no detector is installed
            languages = {}
    return _chosen(scripts_of(counts), {code: share / max(whole, 1e-9) for code, share in languages.items()})


def _spread(paths: Sequence[TextFile]) -> list[tuple[TextFile, float]]:
    """Return some of the files, evenly spread, each with the bytes of the ones around it."""
    most = SAMPLE_FILES if all(isinstance(path, Path) for path in paths) else SAMPLE_REMOTE
    groups = np.array_split(np.arange(len(paths)), min(len(paths), most))
    return [
        (paths[int(group[0])], float(max(1, total_size([paths[int(place)] for place in group])))) for group in groups
    ]


def _start_of(path: TextFile, options: ReadOptions, *, layout: Layout | None, most: int) -> pa.StringArray:
    """Return up to `most` documents spread over the first batch of a file, cut to their starts."""
    batch = next(islice(read_documents([path], options, layout=layout), 1), None)
    texts = pa.array([], pa.string()) if batch is None else batch.texts
    if len(texts) > most:
        texts = texts.take(pa.array(np.linspace(0, len(texts) - 1, most).round().astype(np.int64)))
    return pc.utf8_slice_codeunits(texts, 0, CHARACTERS)


def _chosen(scripts: Scripts, languages: dict[str, float]) -> LanguageChoice:
    """Return the language by the shares of scripts and, where there is a detector, of languages ("" for unsure)."""
    if scripts.is_chinese:
        return LanguageChoice(CHINESE, "characters", f"{CHINESE}: {scripts.han:.0%} of the letters are Chinese")
    kana = f" ({scripts.han:.0%} of the letters are Chinese, {scripts.kana:.0%} are kana)" if scripts.han > 0.01 else ""
    code = max(languages, key=lambda name: languages[name]) if languages else ""
    if code and languages[code] > 0.5:
        statement = f"{code}: the detector finds it in {languages[code]:.0%} of a sample{kana}"
        return LanguageChoice(code, "detector", statement, both_ways(scripts, code))
    why = "no language is found in most of a sample" if languages else "taken where no detector is installed"
    return LanguageChoice(USUAL, "default", f"{USUAL}: {why}{kana}", both_ways(scripts, USUAL))


def both_ways(scripts: Scripts, code: str) -> str:
    """Return what either language means for a text that is partly Chinese, in a sentence; "" elsewhere."""
    if not scripts.is_mixed:
        return ""
    return (
        f"{scripts.han:.0%} of the letters are Chinese: --language zh finds Chinese words by a dictionary, any other "
        f"({code}) takes each Chinese character for a word"
    )
