"""Turns question files into questions, contexts and answers by character: SQuAD json, which CMRC 2018 and XQuAD share,
or a question a row, as Hugging Face writes it in .jsonl, .json and .parquet.

SQuAD 2.0 is recognised by a question marked `is_impossible`, or with an empty list of answers. An answer that does not
stand in its context where the file says so is left out, and noted; so is a question without words, or about nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from bertwright.corpus.readers.blocks import read_text
from bertwright.corpus.readers.characters import parse_json
from bertwright.corpus.readers.formats import plain_suffix
from bertwright.corpus.readers.table import open_table
from bertwright.errors import CorpusError, UsageError
from bertwright.log import note
from bertwright.tasks.examples import BETWEEN, Examples
from bertwright.tasks.question_answering.windows import Windows

ROWS = (".jsonl", ".ndjson", ".parquet", ".arrow")
"""Formats that hold a question a row."""
ROW = '"context", "question" and "answers" of "text" and "answer_start"'
NAMED = 5
"""So many of those left out are named."""


@dataclass(frozen=True)
class Questions(Examples):
    """N questions about P contexts.

    contexts [P], questions [N], ids [N]  texts
    context_of  [N] int64     which context a question is about
    answers     [N]           the reference answers of each; none where there is none, or where nobody knows
    spans       [N, 2] int64  characters from and to of the first of them in the context, -1 where there is none
    impossible  whether some are known to have no answer, as in SQuAD 2.0
    windows     where the tokens of its rows stand, once they are encoded: what evaluation needs
    """

    contexts: list[str]
    questions: list[str]
    ids: list[str]
    context_of: np.ndarray
    answers: list[list[str]]
    spans: np.ndarray
    impossible: bool = False
    windows: Windows | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """Return N."""
        return len(self.questions)

    def keys(self) -> list[str]:
        """Return each question with its context."""
        pairs = zip(self.questions, self.groups(), strict=True)
        return [f"{question}{BETWEEN}{context}" for question, context in pairs]

    def groups(self) -> list[str]:
        """Return the context of each question: those about one stay on one side of a split."""
        return [self.contexts[place] for place in self.context_of.tolist()]

    def take(self, places: np.ndarray) -> Self:
        """Return the questions at `places`, in that order, and their contexts alone."""
        used, context_of = np.unique(self.context_of[places], return_inverse=True)
        chosen = places.tolist()
        answers = [self.answers[place] for place in chosen]
        return replace(
            self,
            contexts=[self.contexts[place] for place in used.tolist()],
            questions=[self.questions[place] for place in chosen],
            ids=[self.ids[place] for place in chosen],
            context_of=context_of.astype(np.int64),
            answers=answers,
            spans=self.spans[places],
            impossible=self.impossible and not all(answers),
            windows=None,
        )


def read_squad(path: Path, encoding: str | None = None) -> Questions:
    """Return the questions of a labelled file, those left out that are empty or have no answer in their context.

    Raises CorpusError where it is no such file.
    """
    contexts: list[str] = []
    kept: list[tuple[int, dict[str, Any], list[tuple[str, int]]]] = []
    broken: list[str] = []
    empty: list[str] = []
    without = inferred = 0
    for context, questions in _paragraphs(path, encoding):
        for one in questions:
            if not context.strip() or not one["question"].strip():
                empty.append(str(one["id"]))
                continue
            given = [(answer["text"], answer["answer_start"]) for answer in one.get("answers", ())]
            right = [(text, begin) for text, begin in given if text and begin >= 0 and context.startswith(text, begin)]
            impossible, unmarked = _has_no_answer(one)
            inferred += unmarked
            broken += [str(one["id"])] * (0 if impossible else len(given) - len(right))
            if right or impossible:
                kept.append((len(contexts), one, [] if impossible else right))
            else:
                without += 1
        contexts.append(context)
    _note_left_out(path, broken, empty, without)
    _check_inferred(path, inferred, kept=len(kept))
    if not kept:
        raise CorpusError(f"{path} holds no question with an answer in its context; give SQuAD json")
    firsts = [answers[0] if answers else ("", -1) for _, _, answers in kept]
    return Questions(
        path=path,
        contexts=contexts,
        questions=[one["question"] for _, one, _ in kept],
        ids=[str(one["id"]) for _, one, _ in kept],
        context_of=np.array([place for place, _, _ in kept], dtype=np.int64),
        answers=[[text for text, _ in answers] for _, _, answers in kept],
        spans=np.array([(begin, begin + len(text)) if text else (-1, -1) for text, begin in firsts], dtype=np.int64),
        impossible=any(not answers for _, _, answers in kept),
    )


def squad_questions(path: Path, encoding: str | None = None) -> list[tuple[str, ...]]:
    """Return (question, context, id) of everything a SQuAD json file asks, answered or not; raises CorpusError."""
    return [
        (one["question"], context, str(one["id"]))
        for context, questions in _paragraphs(path, encoding)
        for one in questions
    ]


def lacks_answers(path: Path, encoding: str | None = None) -> bool:
    """Return whether no question of a SQuAD json file has an answer, or is marked as having none."""
    every = (one for _, questions in _paragraphs(path, encoding) for one in questions)
    return not any(one.get("answers") or one.get("is_impossible") for one in every)


def questions_with_contexts(questions: Sequence[tuple[str, ...]]) -> Questions:
    """Return (question, context) or (question, context, id) as questions whose answers nobody knows.

    Raises UsageError where one is no such thing. Equal contexts are one.
    """
    if any(len(question) not in (2, 3) for question in questions):
        raise UsageError(
            "this model answers questions about a context: give two texts with --pair, lines `question TAB context` "
            "with --input, or a SQuAD .json file"
        )
    contexts = list(dict.fromkeys(question[1] for question in questions))
    places = {context: place for place, context in enumerate(contexts)}
    return Questions(
        path=Path("questions"),
        contexts=contexts,
        questions=[question[0] for question in questions],
        ids=[question[2] if len(question) > 2 else "" for question in questions],
        context_of=np.array([places[question[1]] for question in questions], dtype=np.int64),
        answers=[[] for _ in questions],
        spans=np.full((len(questions), 2), -1, dtype=np.int64),
    )


def _paragraphs(path: Path, encoding: str | None) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield each context and its questions, checked for what must be there."""
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a SQuAD .json file that exists")
    if plain_suffix(path) in ROWS:
        yield from _of_rows(path, open_table(path, names=("question", "context"), encoding=encoding).to_pylist())
        return
    try:
        parsed = parse_json(read_text(path, encoding))
        parts = parsed if isinstance(parsed, list) else parsed["data"]
        flat = bool(parts) and "question" in parts[0]
        paragraphs = [] if flat else [paragraph for article in parts for paragraph in article["paragraphs"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorpusError(
            f'{path} is not SQuAD json ({type(error).__name__}: {error}); expected {{"data": [{{"paragraphs": '
            f'[{{"context", "qas"}}]}}]}}, or rows of {ROW}'
        ) from error
    yield from _of_rows(path, parts) if flat else _of_articles(path, paragraphs)


def _of_articles(path: Path, paragraphs: list[Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield what the paragraphs of SQuAD json hold."""
    for number, paragraph in enumerate(paragraphs, start=1):
        try:
            context, questions = paragraph["context"], paragraph["qas"]
            ready = isinstance(context, str) and all(_is_whole(one) for one in questions)
        except (TypeError, KeyError, AttributeError):
            ready = False
        if not ready:
            raise CorpusError(
                f'{path}, paragraph {number:,}, should hold "context" and "qas" of "id", "question" and "answers" of '
                '"text" and "answer_start"; fix it'
            )
        yield context, questions


def _of_rows(path: Path, rows: list[Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield what rows of a question hold, as Hugging Face writes SQuAD; those on end about one context together."""
    context, questions = "", list[dict[str, Any]]()
    for number, row in enumerate(rows, start=1):
        try:
            one = {"id": number} | {name: row[name] for name in ("id", "is_impossible") if row.get(name) is not None}
            one |= {"question": row["question"]} | _answers_of(row.get("answers"))
            ready = isinstance(row["context"], str) and _is_whole(one)
        except (TypeError, KeyError, ValueError, AttributeError):
            ready = False
        if not ready:
            raise CorpusError(f"{path}, row {number:,}, should hold {ROW}; fix it")
        if questions and row["context"] != context:
            yield context, questions
            questions = []
        context = row["context"]
        questions.append(one)
    if questions:
        yield context, questions


def _answers_of(cell: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the answers of a row as SQuAD json has them, if the row has any: a list of each, or of pairs of both."""
    if cell is None:
        return {}
    if isinstance(cell, dict):
        cell = [
            {"text": text, "answer_start": begin}
            for text, begin in zip(cell["text"], cell["answer_start"], strict=True)
        ]
    return {"answers": list(cell)}


def _is_whole(one: dict[str, Any]) -> bool:
    """Say whether a question has text, id and well-formed answers, if any."""
    answers = one.get("answers", [])
    whole = all(isinstance(answer["text"], str) and isinstance(answer["answer_start"], int) for answer in answers)
    return whole and isinstance(one["question"], str) and "id" in one


def _has_no_answer(one: dict[str, Any]) -> tuple[bool, bool]:
    """Say whether a question has no answer, and whether its empty list of answers alone says so."""
    marked = one.get("is_impossible")
    unmarked = marked is None and one.get("answers") == []
    return unmarked or (marked.strip().lower() == "true" if isinstance(marked, str) else bool(marked)), unmarked


def _check_inferred(path: Path, inferred: int, *, kept: int) -> None:
    """Note how many questions are taken to have no answer; raises CorpusError where it is all of them."""
    if inferred and inferred == kept:
        raise CorpusError(
            f"every question of {path} has an empty list of answers, so there is nothing to learn or to compare with; "
            "give a file with answers, or ask the questions with: bertwright predict --input"
        )
    if inferred:
        note(f"{path}: {inferred:,} questions with an empty list of answers are taken to have none, as in SQuAD 2.0")


def _note_left_out(path: Path, broken: list[str], empty: list[str], without: int) -> None:
    if broken:
        note(
            f"{path}: {len(broken):,} answers do not stand in their context at their answer_start and were left out "
            f"(questions {_first(broken)})"
        )
    if empty:
        note(
            f"{path}: {len(empty):,} questions are empty or about an empty context and were left out ({_first(empty)})"
        )
    if without:
        note(f"{path}: {without:,} questions have no answer left and were left out")


def _first(ids: list[str]) -> str:
    named = list(dict.fromkeys(ids))
    return ", ".join(named[:NAMED]) + (", ..." if len(named) > NAMED else "")
