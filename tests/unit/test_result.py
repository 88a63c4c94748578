"""Results: figures for programs, and the text that the command line prints; with --json one document alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bertwright.cli.terminal.command import command_of, prints
from bertwright.errors import BertwrightError
from bertwright.log import Facts, Lines, Raw, ResultTable, Settings
from bertwright.result import Result, ResultList, plain


@dataclass
class Point:
    """A value with fields."""

    where: Path
    size: np.float32


def test_a_result_is_a_dict_that_prints_as_its_blocks() -> None:
    result = Result(
        {"valid": {"mlm_loss": 3.4}},
        ResultTable("figures [x]", ["name", "value"], [["[unused1]", "3.4"]]),
        Lines(["[bold]as it is[/bold]"]),
        Raw(["a\tb"]),
        Settings("settings", [("seed", "0", "Seed.")]),
    )
    assert result["valid"]["mlm_loss"] == 3.4
    assert result == {"valid": {"mlm_loss": 3.4}}
    assert json.dumps(result) == '{"valid": {"mlm_loss": 3.4}}'
    for text in ("figures [x]", "[unused1]", "[bold]as it is[/bold]", "a\tb", "seed = 0"):
        assert text in str(result)
    assert repr(result) == str(result)
    assert str(Result({"a": 1})) == "{'a': 1}"


def test_json_has_what_json_knows() -> None:
    value = {"point": Point(Path("x"), np.float32(0.5)), "none": float("nan"), "array": np.arange(2), 3: (1,)}
    expected = {"point": {"where": "x", "size": 0.5}, "none": None, "array": [0, 1], "3": [1]}
    assert plain(value) == expected
    assert json.loads(Result(value, Lines(["x"])).to_json()) == expected
    lines = ResultList([{"a": 1}, {"a": "é"}], Lines(["x"]), a_line_each=True).to_json().split("\n")
    assert [json.loads(line) for line in lines] == [{"a": 1}, {"a": "é"}]


def test_a_command_prints_tables_or_json_and_what_was_found_before_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def count(what: str, *, number: int = 1) -> Result:
        result = Result({"number": number}, Facts(what, {"number": str(number)}))
        if number < 0:
            error = BertwrightError("negative")
            error.result = result
            raise error
        return result if number else Result({"number": number})

    command = prints(count)
    command("things", number=3)
    assert "things" in capsys.readouterr().out
    command("things", number=0)  # another process shows it
    command("things", number=0, json=True)
    assert capsys.readouterr().out == ""
    for number in (3, -1):
        try:
            command("things", number=number, json=True)
        except BertwrightError:
            assert number == -1
        assert json.loads(capsys.readouterr().out) == {"number": number}


def test_a_command_takes_the_words_of_its_function(capsys: pytest.CaptureFixture[str]) -> None:
    from cyclopts import App

    def sizes(files: str | Path, *, out: Path | str, most: int | None = None, whole: bool = False) -> Result:
        """Return sizes.

        Parameters
        ----------
        files
            The files.
        """
        return Result({"files": files, "out": out, "most": most, "whole": whole}, Lines(["x"]))

    app = App(result_action="return_value")
    app.command(command_of(sizes, words="files", example="sizes a"), name="sizes")
    app(["sizes", "a", "--out", "b", "--whole", "--json"])
    assert json.loads(capsys.readouterr().out) == {"files": "a", "out": "b", "most": None, "whole": True}
    app(["sizes", "--help"])
    shown = capsys.readouterr().out
    assert "For example:" in shown
    assert "The files." in shown
