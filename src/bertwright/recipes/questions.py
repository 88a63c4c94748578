"""Turns the texts of a call and the lines of a file into questions for a model, read as they are needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bertwright.errors import CorpusError, UsageError
from bertwright.evaluate.text_rows import MASK

STDIN = Path("-")

Question = str | tuple[str, ...]
"""A text with [MASK] in it, or a pair; for a fine-tuned model the texts of a question, one or two."""


class Lines:
    """The lines of a UTF-8 file, or of stdin, that hold something, with their numbers from 1.

    >>> list(Lines(Path("questions.txt")))
    [(1, 'What is it?'), (3, 'Who was that?')]
    """

    def __init__(self, file: Path) -> None:
        """Open nothing yet."""
        self.file = file
        self.share: float | None = None
        """How much of the file has been read, 0 to 1; None where nobody knows its size."""

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield number and line; raises CorpusError where the file is missing or no UTF-8 text."""
        try:
            if self.file == STDIN:
                yield from _filled(sys.stdin)
                return
            size = max(1, self.file.stat().st_size)
            with self.file.open(encoding="utf-8-sig") as lines:
                for numbered in _filled(lines):
                    self.share = min(1.0, os.lseek(lines.fileno(), 0, os.SEEK_CUR) / size)
                    yield numbered
        except FileNotFoundError as error:
            raise CorpusError(f"there is no file {self.file}; give one that exists, or - for stdin") from error
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"cannot read {self.file} as UTF-8 text: {error}") from error


def _filled(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line.rstrip("\r\n")


def task_questions(
    texts: Sequence[str],
    *,
    pair: bool,
    lines: Lines | None,
    part: str = "row",
    whole: Iterable[tuple[str, ...]] | None = None,
) -> Iterator[Question]:
    """Yield what a fine-tuned model is asked: texts, or with `pair` two of them, what a file asks, and lines.

    A line with a tab is a pair. The texts of a model of spans are a question and its context, those of a model of
    choices a context and its choices. Raises UsageError for what is none of this, and CorpusError where a file cannot
    be read.
    """
    _check_pair(texts, pair=pair)
    together = pair or part in ("span", "choice")
    yield from [tuple(texts)] if together and texts else [(text,) for text in texts]
    yield from whole or ()
    if lines is None:
        return
    for number, line in lines:
        parts = tuple(line.split("\t"))
        if (len(parts) > 2 and part != "choice") or (pair and len(parts) != 2):
            raise UsageError(f"{lines.file}, line {number} should hold two texts with one tab between: {line[:60]!r}")
        yield parts


def masked_questions(texts: Sequence[str], *, pair: bool, lines: Lines | None) -> Iterator[Question]:
    """Yield what a pre-trained model is asked, by the texts of a call and the lines of a file; raises the same."""
    yield from questions_of(texts, pair=pair)
    if lines is not None:
        yield from read_questions(lines, pair=pair)


def questions_of(texts: Sequence[str], *, pair: bool) -> list[Question]:
    """Return what the texts of a call ask: one pair, or a [MASK] each."""
    masked = [MASK in text for text in texts]
    _check_pair(texts, pair=pair)
    if len(texts) == 2 and (pair or not any(masked)):
        return [(texts[0], texts[1])]
    for text, has_mask in zip(texts, masked, strict=True):
        if not has_mask:
            raise UsageError(
                f'"{text}" has no {MASK}: write {MASK} in place of the word to guess, '
                "or give two texts to ask whether the second follows the first"
            )
    return list(texts)


def read_questions(lines: Lines, *, pair: bool) -> Iterator[Question]:
    """Yield the questions of a file, one a line, a tab between the texts of a pair; empty lines are passed over."""
    for number, line in lines:
        parts = line.split("\t")
        if len(parts) == 2:
            yield parts[0], parts[1]
        elif len(parts) == 1 and not pair and MASK in line:
            yield line
        else:
            wanted = "two texts with one tab between" if pair else f"a text with {MASK}, or two texts and a tab"
            raise UsageError(f"{lines.file}, line {number} should hold {wanted}: {line[:60]!r}")


def _check_pair(texts: Sequence[str], *, pair: bool) -> None:
    if pair and texts and len(texts) != 2:
        raise UsageError(f"--pair takes two texts, not {len(texts)}; put more pairs in a file (--input), tab between")


def answers_of(
    questions: Sequence[Question],
    *,
    words: Callable[[list[str]], list[list[list[tuple[str, float]]]]],
    shares: Callable[[list[tuple[str, str]]], list[float]],
) -> list[dict[str, Any]]:
    """Return an answer to each question, in order: `words` for the [MASK]s of texts, `shares` for pairs."""
    answers: list[dict[str, Any]] = [{} for _ in questions]
    masked = [(place, text) for place, text in enumerate(questions) if isinstance(text, str)]
    pairs = [(place, (pair[0], pair[1])) for place, pair in enumerate(questions) if isinstance(pair, tuple)]
    if masked:
        for (place, text), guesses in zip(masked, words([text for _, text in masked]), strict=True):
            answers[place] = {"text": text, "predictions": guesses}
    if pairs:
        for (place, (first, second)), share in zip(pairs, shares([pair for _, pair in pairs]), strict=True):
            answers[place] = {"first": first, "second": second, "next": share}
    return answers
