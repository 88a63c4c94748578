"""A stream of results prints what it has, and keeps nothing of it; people get a table of all, at the end."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from bertwright.reports.predictions import shown
from bertwright.result import ResultStream, print_result


class Answer(dict[str, Any]):
    """One that can be watched."""


@pytest.mark.parametrize("as_json", [False, True])
def test_lines_are_printed_as_they_come_and_not_kept(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    made: list[weakref.ref[Answer]] = []
    answers = [{"text": f"{number}", "translation": f"Nummer {number}"} for number in range(8)]
    lines = [json.dumps(one) if as_json else one["translation"] for one in answers]

    def chunks() -> Iterator[list[dict[str, Any]]]:
        for place in range(0, 8, 2):
            gc.collect()
            assert sum(one() is not None for one in made) <= 2, "the last chunk, and no earlier one"
            printed.append(capsys.readouterr().out)
            chunk = [Answer(one) for one in answers[place : place + 2]]
            made.extend(map(weakref.ref, chunk))
            yield [*chunk]
            del chunk

    printed = list[str]()
    print_result(ResultStream(chunks(), shown), as_json=as_json)
    printed.append(capsys.readouterr().out)
    assert printed[1:] == [f"{lines[place]}\n{lines[place + 1]}\n" for place in range(0, 8, 2)]


def test_a_table_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [{"text": f"text {number}", "score": float(number)} for number in range(4)]
    print_result(ResultStream(iter([answers[:2], answers[2:]]), shown), as_json=False)
    assert capsys.readouterr().out.rstrip("\n") == str(shown(answers))
