"""What is printed: tables break no word, streams keep their settings, and a terminal that is gone is no error."""

from __future__ import annotations

import errno
import io
import re
import sys

import pytest

from bertwright.log import (
    Facts,
    ResultTable,
    column_widths,
    note,
    note_once,
    print_blocks,
    print_lines,
    progress_bar,
    silent,
    working,
)

PATH = "/data/corpora/of-some-length/and/deep/below/model.safetensors"


class Terminal(io.StringIO):
    """A terminal, whose width the environment gives."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Say yes."""
        return True

    @property
    def shown(self) -> str:
        """What stands on it, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue())


def narrow(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stdout a terminal of 60 columns."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    return terminal


def test_a_table_too_wide_for_the_terminal_breaks_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = narrow(monkeypatch)
    print_blocks(Facts(f"pre-trained: {PATH}", {"model": PATH, "loss": "3.2"}))
    print_blocks(ResultTable(f"files of {PATH}", ["file", "bytes"], [[PATH, "12"], [f"{PATH}.json", "3"]]))
    output = terminal.shown
    assert output.count(PATH) == 5
    assert "loss: 3.2" in output
    assert "    bytes: 12" in output


def test_long_texts_are_wrapped_beside_a_path_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = narrow(monkeypatch)
    print_blocks(
        ResultTable(
            "answers", ["text", "file"], [["a text of many words " * 6, PATH[:30]], ["另一个句子" * 30, "b.txt"]]
        )
    )
    lines = terminal.shown.splitlines()
    assert any(PATH[:30] in line for line in lines)
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize(
    ("rows", "width", "expected"),
    [
        ([["ab", "c"], ["d", ""]], 80, [2, 1]),
        ([["one two", "three"]], 15, [3, 5]),
        ([["one two", "three"]], 14, None),
        ([["", ""]], 20, [1, 1]),
    ],
)
def test_widths_of_columns(rows: list[list[str]], width: int, expected: list[int] | None) -> None:
    assert column_widths(rows, width) == expected


def test_stdout_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    print_blocks(Facts("å", {"half a character": "\ud800"}))
    print_lines(["\ud83d", "é"])
    stream.flush()
    assert (stream.errors, sys.stdout) == ("strict", stream)
    output = raw.getvalue().decode("ascii")
    assert "\\xe5" in output
    assert "\\ud800" in output
    assert output.endswith("\\ud83d\n\\xe9\n")


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        """Fail, as the system does."""
        raise OSError(errno.EIO, "Input/output error")

    def isatty(self) -> bool:
        """Fail, as a closed file does."""
        raise ValueError("I/O operation on closed file")


@pytest.mark.parametrize("stream", [Gone(), None])
def test_nobody_to_read_progress_is_no_error(stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    note("a note")
    with progress_bar() as bar:
        bar.add_task("work")
    with working("work"):
        pass


def test_results_that_cannot_be_written_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(OSError, match="Input/output"):
        print_lines(["a result"])
    monkeypatch.setattr(sys, "stdout", None)
    print_blocks(Facts("no stdout", {"as under": "pythonw"}))


def test_a_note_that_nobody_heard_is_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    message = "a note of this test alone"
    with silent(True):
        note_once(message)
    assert not capsys.readouterr().err
    note_once(message)
    note_once(message)
    assert capsys.readouterr().err == f"{message}\n"
