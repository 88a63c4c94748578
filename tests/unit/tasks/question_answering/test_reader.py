"""Question files: SQuAD 1.1 and 2.0 told apart, answers that are not where the file says named, bad files refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.question_answering.reader import (
    lacks_answers,
    questions_with_contexts,
    read_squad,
    squad_questions,
)

CONTEXT = "Anna lives in Rome. Bert lives in Oslo."


def squad(path: Path, *questions: dict[str, Any]) -> Path:
    inputs = [{"id": f"q{n}", "question": "Where?", "answers": []} | one for n, one in enumerate(questions)]
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": CONTEXT, "qas": inputs}]}]}))
    return path


def at(text: str, begin: int) -> dict[str, Any]:
    return {"text": text, "answer_start": begin}


def test_answers_are_checked_against_their_context(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = squad(
        tmp_path / "a.json",
        {"answers": [at("Rome", 14), at("in Rome", 11)]},
        {"answers": [at("Oslo", 33), at("Oslo", 34)]},
        {"answers": [at("Paris", 3)]},
        {"answers": [at("Rome", -25)]},
    )
    found = read_squad(file)
    assert found.ids == ["q0", "q1"]
    assert found.answers == [["Rome", "in Rome"], ["Oslo"]]
    assert found.spans.tolist() == [[14, 18], [34, 38]]
    assert not found.impossible
    output = " ".join(capsys.readouterr().err.split())
    assert "3 answers" in output
    assert "q1, q2, q3" in output
    assert "2 questions" in output
    assert len(squad_questions(file)) == 4


@pytest.mark.parametrize(("question", "context"), [(" ", CONTEXT), ("Where?", " \n")])
def test_nothing_is_asked_of_nothing(
    tmp_path: Path, question: str, context: str, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = {"id": "q7", "question": question, "answers": [], "is_impossible": True}
    question = {"id": "q8", "question": "Where?", "answers": [at("Rome", 14)]}
    paragraphs = [{"context": context, "qas": [nothing]}, {"context": CONTEXT, "qas": [question]}]
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    found = read_squad(file)
    assert found.ids == ["q8"]
    assert found.contexts[found.context_of[0]] == CONTEXT
    output = " ".join(capsys.readouterr().err.split())
    assert re.search("1 questions.*empty.*q7", output)


def test_version_2_has_questions_without_an_answer(tmp_path: Path) -> None:
    impossible = {"is_impossible": True, "plausible_answers": [at("Rome", 14)]}
    found = read_squad(squad(tmp_path / "a.json", {"answers": [at("Rome", 14)], "is_impossible": False}, impossible))
    assert found.impossible
    assert found.answers == [["Rome"], []]
    assert found.spans.tolist() == [[14, 18], [-1, -1]]


def test_an_empty_list_of_answers_says_that_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rome = {"answers": [at("Rome", 14)]}
    found = read_squad(squad(tmp_path / "a.json", rome, {"answers": []}, {"is_impossible": None}, rome))
    assert found.impossible
    assert found.answers == [["Rome"], [], [], ["Rome"]]
    assert "2 questions" in capsys.readouterr().err
    marked = read_squad(squad(tmp_path / "b.json", rome, {"is_impossible": False}, rome | {"is_impossible": "false"}))
    assert marked.ids == ["q0", "q2"]
    assert not marked.impossible
    with pytest.raises(CorpusError, match="every question"):
        read_squad(squad(tmp_path / "c.json", {"answers": []}, {"answers": []}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "no question"),
        ("[1]", "SQuAD"),
        ('{"data": [{"question": "y", "answers": []}]}', r"row 1.*\"context\""),
        ("no json", "SQuAD"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "paragraph 1"),
        ('{"data": [{"paragraphs": [{"context": "x", "qas": [{"question": "y"}]}]}]}', "paragraph 1"),
        ('{"data": []}', "no question"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CorpusError, match=message):
        read_squad(tmp_path / "a.json")


def _as_hugging_face_writes_them(folder: Path, form: str, rows: list[dict[str, Any]]) -> Path:
    file = folder / f"rows{form}"
    if form == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif form == ".json":
        file.write_text(json.dumps(rows))
    elif form == ".data.json":
        file.write_text(json.dumps({"version": "2", "data": rows}))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("form", [".jsonl", ".json", ".data.json", ".parquet"])
@pytest.mark.parametrize("nested", [True, False])
def test_a_question_a_row_is_read_as_hugging_face_writes_it(tmp_path: Path, form: str, *, nested: bool) -> None:
    def answers(*given: tuple[str, int]) -> Any:
        if nested:
            return [at(text, begin) for text, begin in given]
        return {"text": [text for text, _ in given], "answer_start": [begin for _, begin in given]}

    rows = [
        {"id": "a", "title": "T", "context": CONTEXT, "question": "Where is Anna?", "answers": answers(("Rome", 14))},
        {"id": "b", "title": "T", "context": CONTEXT, "question": "Where is Carl?", "answers": answers()},
        {"id": "c", "title": "T", "context": "In Oslo.", "question": "Where?", "answers": answers(("Oslo", 3))},
    ]
    found = read_squad(_as_hugging_face_writes_them(tmp_path, form, rows))
    assert found.ids == ["a", "b", "c"]
    assert found.contexts == [CONTEXT, "In Oslo."]
    assert found.context_of.tolist() == [0, 0, 1]
    assert found.answers == [["Rome"], [], ["Oslo"]]
    assert found.spans.tolist() == [[14, 18], [-1, -1], [3, 7]]


def test_rows_without_answers_are_questions_to_ask(tmp_path: Path) -> None:
    rows = [{"context": CONTEXT, "question": "Where?"}, {"context": CONTEXT, "question": "Who?"}]
    file = _as_hugging_face_writes_them(tmp_path, ".jsonl", rows)
    assert squad_questions(file) == [("Where?", CONTEXT, "1"), ("Who?", CONTEXT, "2")]
    assert lacks_answers(file)


@pytest.mark.parametrize(
    "row",
    [
        {"context": CONTEXT, "question": "Where?", "answers": {"text": ["Rome"], "answer_start": []}},
        {"context": CONTEXT, "question": "Where?", "answers": {"text": ["Rome"]}},
        {"context": CONTEXT, "question": "Where?", "answers": "Rome"},
        {"context": 3, "question": "Where?", "answers": []},
    ],
)
def test_rows_that_hold_something_else_are_named(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match=r"row 1.*\"context\".*\"question\".*\"answers\""):
        read_squad(_as_hugging_face_writes_them(tmp_path, ".jsonl", [row]))


def test_equal_contexts_are_one() -> None:
    questions = questions_with_contexts([("a?", "same"), ("b?", "other"), ("c?", "same", "id7")])
    assert questions.contexts == ["same", "other"]
    assert questions.context_of.tolist() == [0, 1, 0]
    assert questions.ids == ["", "", "id7"]
    with pytest.raises(UsageError, match=r"questions.*context"):
        questions_with_contexts([("a?",)])
