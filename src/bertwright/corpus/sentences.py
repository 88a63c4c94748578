"""Turns documents into sentences, and Chinese sentences into words.

sentencex finds sentences; here newlines get the meaning they have in the corpus. rjieba finds the words of Chinese, so
that masking whole words means words there too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import sentencex

Newlines = Literal["paragraph", "wrapped"]

_WIDE = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"
_WIDE_BREAK = re.compile(f"(?<=[{_WIDE}])\n(?=[{_WIDE}])")
_SINGLE_BREAK = re.compile(r"(?<!\n)\n(?!\n)")
_FOLLOWED = re.compile(r"^[^\n]+(?=\n[^\n])", re.MULTILINE)
_CLOSED = re.compile(r"[.!?:;。！？：；…][\"'”’»)\]」』*_]*\s*$")

_CUT = "\x1f"
_END = "\x1e"
"""Neither can stand in a cleaned document, and rjieba makes each of them a piece of its own."""
_CHINESE = "\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
_LETTER = f"[^\\W{_CHINESE}]"
_CUT_IN_WORD = re.compile(f"(?<={_LETTER}){_CUT}(?={_LETTER})")
"""rjieba cuts "café" into "caf" and "é"; a word of letters outside the Chinese script ends at a blank or a mark."""


def split_sentences(
    texts: Sequence[str] | pa.StringArray, language: str, *, newline: Newlines = "paragraph"
) -> tuple[list[str], np.ndarray]:
    """Return the sentences of all documents, and how many each document has, [D] int64.

    A blank line always ends a sentence; a single newline does in text with a paragraph a line, and is a blank in text
    wrapped at some column. Sentences are trimmed, none is empty; joined again they are the document, but for blanks.
    `language` is a code such as "en" or "zh"; one that sentencex does not know is split at common marks.

    >>> split_sentences(["Dr. Smith came. He sat down.", "One line"], "en")
    (['Dr. Smith came.', 'He sat down.', 'One line'], array([2, 1]))
    """
    documents = texts.to_pylist() if isinstance(texts, pa.Array) else texts
    prepare = _end_lines if newline == "paragraph" else _unwrap
    segment = sentencex.segment
    sentences: list[str] = []
    ends = np.zeros(len(documents) + 1, dtype=np.int64)
    for number, text in enumerate(documents, start=1):
        sentences.extend(filter(None, map(str.strip, segment(language, prepare(text)))))
        ends[number] = len(sentences)
    return sentences, np.diff(ends)


def _end_lines(text: str) -> str:
    """Make each newline a blank line, the only break that sentencex never reads across."""
    return text.replace("\n", "\n\n")


def _unwrap(text: str) -> str:
    """Make single newlines blanks, or nothing between wide characters, which are written without blanks."""
    return _SINGLE_BREAK.sub(" ", _WIDE_BREAK.sub("", text))


def detect_newlines(sample: Sequence[str]) -> Newlines:
    """Return whether a newline ends a paragraph in some texts, or only breaks a line that was wrapped at some column.

    Wrapped: of the lines that another line follows, at least half end in the middle of a sentence, half are longer
    than 40 columns, and nine in ten shorter than 100. So a sentence a line is no wrapping, nor is verse.
    """
    lines = [line.rstrip() for text in sample for line in _FOLLOWED.findall(text)]
    if len(lines) < 4:
        return "paragraph"
    columns = np.array([len(line) + len(re.findall(f"[{_WIDE}]", line)) for line in lines])
    open_ended = np.mean([not _CLOSED.search(line) for line in lines])
    wrapped = open_ended >= 0.5 and np.median(columns) > 40 and np.quantile(columns, 0.9) < 100
    return "wrapped" if wrapped else "paragraph"


def cut_words(sentences: list[str]) -> tuple[list[str], np.ndarray]:
    """Return the words of all sentences in order, blanks left out, and how many each sentence has, [N] int64.

    >>> cut_words(["他来到北京大学。", "喝café"])
    (['他', '来到', '北京大学', '。', '喝', 'café'], array([4, 2]))
    """
    import rjieba  # its dictionary takes 0.1 s to load, which other languages need not wait for

    if not sentences:
        return [], np.zeros(0, dtype=np.int64)
    pieces = _CUT.join(rjieba.cut(_END.join(sentences)))
    pieces = _CUT_IN_WORD.sub("", pieces)
    words: list[str] = []
    ends = np.zeros(len(sentences) + 1, dtype=np.int64)
    for number, sentence in enumerate(pieces.split(_END), start=1):
        words.extend(word for word in sentence.split(_CUT) if word and not word.isspace())
        ends[number] = len(words)
    return words, np.diff(ends)
