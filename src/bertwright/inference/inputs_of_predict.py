"""Turns the texts of a call and what a file asks into questions that fit a model, read as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from bertwright.corpus.readers.lines import LineStream
from bertwright.errors import UsageError
from bertwright.inference.text_rows import MASK
from bertwright.tasks.tagging.pretokenize import PreTokenized

PIECE = 4096
"""Lines read on at a time."""

Question = str | tuple[str, ...]
"""A text with [MASK] in it, or a pair; for a fine-tuned model the texts of a question, one or two."""
Located = tuple[str, tuple[str, ...]]
"""Where a question stands, such as "texts.txt, line 3", and its texts."""

WANTS = {
    "pairs": "this model has learned from pairs of texts; give `text TAB text`",
    "single": "this model has learned from single texts; take the tabs out",
    "token": "this model tags the words of single texts; take the tabs out",
    "span": "this model answers questions about a context; give `question TAB context`",
    "vector": "this model says how alike two texts are; give `text TAB text`, or ask `bertwright embed` for vectors",
}
"""What a model wants, by what its head is about, or by whether it has learned from pairs."""


class Identified(tuple[str, ...]):
    """A question, its context and the name it has in its file."""

    __slots__ = ()


class Lines:
    """The lines of a text file, or of stdin, with their numbers from 1, empty ones too.

    >>> list(Lines(Path("questions.txt")))  # needs a file  # doctest: +SKIP
    [(1, 'What is it?'), (2, ''), (3, 'Who was that?')]
    """

    def __init__(self, file: Path, encoding: str | None = None) -> None:
        """Open nothing yet."""
        self.file = file
        self.stream = LineStream(file, most=PIECE, encoding=encoding)

    @property
    def progress(self) -> float | None:
        """How much of the file has been read, 0 to 1; None where nobody knows its size."""
        return self.stream.progress

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield number and line; raises CorpusError where the file is missing or no UTF-8 text."""
        return enumerate(chain.from_iterable(self.stream), start=1)


def task_questions(
    texts: Sequence[str], *, pair: bool, asked: Iterable[Located] = (), part: str = "row", pairs: bool | None = None
) -> Iterator[Question]:
    """Yield what a fine-tuned model is asked: texts, or with `pair` two of them, and what a file asks.

    The texts of a model of spans are a question and its context, those of a model of choices a context and its choices;
    two texts are a pair for a model that has learned from `pairs`. Raises UsageError for what is none of this, and
    CorpusError where a file cannot be read.
    """
    _check_pair(texts, pair=pair)
    together = pair or part in ("span", "choice") or (pairs is True and len(texts) == 2)
    yield from [tuple(texts)] if together and texts else [(text,) for text in texts]
    if part == "choice":
        yield from _with_choices(asked)
    else:
        yield from _of_one_kind(asked, pairs=True if pair else pairs, part=part)


def _with_choices(asked: Iterable[Located]) -> Iterator[tuple[str, ...]]:
    for where, texts in asked:
        if len(texts) < 3:
            raise UsageError(
                f"{where} has {['no text', 'no choices', 'one choice'][len(texts) if any(texts) else 0]}, and this "
                "model chooses between endings of a context; give `context TAB ending TAB ending ...`"
            )
        yield texts


def _of_one_kind(asked: Iterable[Located], *, pairs: bool | None, part: str) -> Iterator[tuple[str, ...]]:
    """Yield questions that are all pairs, or all single texts; an empty line is either, and empty."""
    known, because, blank = pairs, "" if pairs is None else WANTS.get(part, WANTS["pairs" if pairs else "single"]), 0
    for where, texts in asked:
        if known is None and texts == ("",):
            blank += 1
            continue
        if known is None:
            known = len(texts) > 1
            because = f"{where} is {'a pair' if known else 'a single text'}; ask one kind at a time"
        yield from [("", "") if known else ("",)] * blank
        blank = 0
        yield _fit(where, texts, pairs=known, because=because)
    yield from [("",)] * blank


def _fit(where: str, texts: tuple[str, ...], *, pairs: bool, because: str) -> tuple[str, ...]:
    """Return the texts of a question as a model wants them; `because` says what that is."""
    if pairs and texts == ("",):
        return "", ""
    if isinstance(texts, PreTokenized) or len(texts) == 1 + pairs or (pairs and isinstance(texts, Identified)):
        return texts
    given = {1: "a single text", 2: "a pair with a tab between"}.get(len(texts), f"{len(texts)} texts, tabs between,")
    raise UsageError(f"{where} is {given} and {because}: {texts[0][:60]!r}")


def masked_questions(texts: Sequence[str], *, pair: bool, asked: Iterable[Located] = ()) -> Iterator[Question]:
    """Yield what a pre-trained model is asked, by the texts of a call and by a file; raises the same.

    A pair is asked whether its second text follows the first; an empty line asks nothing, and has an empty answer.
    """
    yield from questions_of(texts, pair=pair)
    for where, parts in asked:
        if len(parts) == 2:
            yield parts
        elif parts == ("",):
            yield ("", "") if pair else ""
        elif len(parts) == 1 and not pair and MASK in parts[0]:
            yield parts[0]
        else:
            wanted = "two texts with one tab between" if pair else f"a text with {MASK}, or two texts and a tab"
            raise UsageError(f"{where} should hold {wanted}: {parts[0][:60]!r}")


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
    for place, text in masked:
        answers[place] = {"text": text, "predictions": []}
    masked = [(place, text) for place, text in masked if text.strip()]
    if masked:
        for (place, text), guesses in zip(masked, words([text for _, text in masked]), strict=True):
            answers[place] = {"text": text, "predictions": guesses}
    if pairs:
        for (place, (first, second)), share in zip(pairs, shares([pair for _, pair in pairs]), strict=True):
            answers[place] = {"first": first, "second": second, "next": share}
    return answers
