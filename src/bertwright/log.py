"""Prints for the person at the terminal: notes, tables and progress to stderr, results to stdout."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TextIO, cast

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

Count = Callable[..., None]
"""Is called with how many more are done, and perhaps with how much of the work that is in all."""
NOTED_EVERY = 10.0
"""Seconds between lines of progress where there is no terminal."""

_prints: ContextVar[bool] = ContextVar("speaks", default=True)


@contextmanager
def silent(wanted: bool) -> Iterator[None]:
    """Print nothing for a while, if `wanted`: of several processes of a run, one prints."""
    before = _prints.set(not wanted)
    try:
        yield
    finally:
        _prints.reset(before)


class _Output(io.TextIOBase):
    """stdout or stderr, as it is at the moment, for a console; its settings stay as they are.

    Characters that it cannot show, half ones among them, come out as escapes.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Write to `stream`, or nowhere where a process was started without it."""
        self.stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return the encoding of the stream."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return _is_terminal(self.stream)

    def fileno(self) -> int:
        """Return the number of the stream."""
        if self.stream is None:
            raise io.UnsupportedOperation("there is no stream")
        return self.stream.fileno()

    def write(self, text: str) -> int:
        """Write text."""
        if self.stream is not None:
            self.stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        """Write what is left."""
        if self.stream is not None:
            self.stream.flush()


class _Stderr(_Output):
    """stderr: where nobody can read it any more, as after a terminal was closed, the work goes on all the same."""

    def write(self, text: str) -> int:
        """Write text, if it can still be written."""
        with suppress(OSError, ValueError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Show it, if it can still be shown."""
        with suppress(OSError, ValueError):
            super().flush()


def _is_terminal(stream: TextIO | None) -> bool:
    with suppress(OSError, ValueError):
        return stream is not None and stream.isatty()
    return False


def person_reads() -> bool:
    """Return whether stderr is a terminal: progress is a bar there, a line now and then elsewhere."""
    return _is_terminal(sys.stderr)


def stderr_console() -> Console:
    """Return a console on stderr, where progress, notes and warnings go (made again: stderr may be redirected)."""
    return Console(file=cast(TextIO, _Stderr(sys.stderr)), highlight=False, quiet=not _prints.get())


def results() -> Console:
    """Return a console on stdout, where results go; at least 100 columns when it is not a terminal."""
    file = cast(TextIO, _Output(sys.stdout))
    console = Console(file=file, highlight=False)
    width = console.width if console.is_terminal else max(100, console.width)
    return Console(file=file, highlight=False, width=width, quiet=not _prints.get())


def print_lines(lines: Iterable[str]) -> None:
    """Print results to stdout at once, a line each, as they are."""
    stdout = _Output(sys.stdout)
    stdout.write("".join(f"{line}\n" for line in lines))
    stdout.flush()


def note(message: str) -> None:
    """Print one plain line to stderr."""
    stderr_console().print(message, markup=False, soft_wrap=True)


def note_once(message: str) -> None:
    """Print one plain line to stderr, the first time it can be read: files are read several times."""
    if _prints.get():
        _note_if_new(message)


@lru_cache(maxsize=4096)
def _note_if_new(message: str) -> None:
    note(message)


class Block(Protocol):
    """Something that a result shows: facts, a table, lines."""

    def show(self, console: Console) -> None:
        """Print it on a console."""
        ...


@dataclass(frozen=True)
class Facts:
    """Named figures in two columns; where it is too narrow for a table, a fact a line."""

    title: str
    facts: Mapping[str, str]

    def show(self, console: Console) -> None:
        """Print title and figures."""
        rows = list(self.facts.items())
        console.print(Text(self.title, style="italic"), soft_wrap=True)
        widths = column_widths(rows, console.width) if rows else None
        if widths is None:
            for name, value in rows:
                console.print(Text.assemble((name, "bold"), f": {value}"), soft_wrap=True)
            return
        table = Table(show_header=False)
        table.add_column(style="bold", width=widths[0])
        table.add_column(justify="right", width=widths[1])
        for name, value in rows:
            table.add_row(Text(name), Text(value))
        console.print(table)


@dataclass(frozen=True)
class ResultTable:
    """A table with a header; the first column is text, the others are figures.

    Cells are shown as they are: brackets in them, as in [unused3], are not markup. Where it is too narrow for a table,
    a cell stands on each line.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def show(self, console: Console) -> None:
        """Print title, header and rows."""
        console.print(Text(self.title, style="italic"), soft_wrap=True)
        widths = column_widths([self.header, *self.rows], console.width)
        if widths is None:
            for first, *others in self.rows:
                console.print(Text(first, style="bold"), soft_wrap=True)
                for name, cell in zip(self.header[1:], others, strict=True):
                    console.print(Text(f"    {name}: {cell}"), soft_wrap=True)
            return
        table = Table()
        for index, (name, width) in enumerate(zip(self.header, widths, strict=True)):
            table.add_column(Text(name), justify="left" if index == 0 else "right", width=width)
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)


@dataclass(frozen=True)
class Lines:
    """Lines of text, each whole, or with `wrap` broken where the console ends; brackets in them are not markup."""

    lines: Sequence[str | Text]
    style: str = ""
    wrap: bool = False

    def show(self, console: Console) -> None:
        """Print the lines."""
        for line in self.lines:
            console.print(line, style=self.style, markup=False, emoji=False, soft_wrap=not self.wrap)


@dataclass(frozen=True)
class Raw:
    """Lines of text exactly as they are, tabs and control characters included."""

    lines: Sequence[str]

    def show(self, console: Console) -> None:
        """Write the lines at once."""
        if not console.quiet:
            console.file.write("".join(f"{line}\n" for line in self.lines))
            console.file.flush()


@dataclass(frozen=True)
class Settings:
    """Settings, one after the other: name and value on a line, the meaning below it."""

    title: str
    rows: Sequence[tuple[str, str, str]]

    def show(self, console: Console) -> None:
        """Print title and settings."""
        console.print(Text(self.title, style="bold"))
        for name, value, meaning in self.rows:
            console.print(Text.assemble((name, "bold"), " = ", value))
            if meaning:
                console.print(Padding(Text(meaning), (0, 0, 0, 4)))


def print_blocks(*blocks: Block) -> None:
    """Print facts, tables and lines to stdout, in order."""
    console = results()
    for block in blocks:
        block.show(console)


def column_widths(rows: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Return the width of each column of a table `width` wide that breaks no word; None where there is none.

    Columns take what they want; where that is too much, the widest ones give, but none below its longest word.

    >>> column_widths([["path", "/data/a-long-name.txt"], ["words", "there are some"]], 34)
    [5, 21]
    """
    columns = list(zip(*rows, strict=True))
    wanted = [max(cell_len(line) for cell in column for line in ["x", *cell.splitlines()]) for column in columns]
    least = [max(_longest_word(cell) for cell in column) for column in columns]
    room = width - 3 * len(columns) - 1
    if sum(least) > room:
        return None
    widths = [min(one, width) for one in wanted]
    while sum(widths) > room:
        giving = [index for index, low in enumerate(least) if widths[index] > low]
        widths[max(giving, key=widths.__getitem__)] -= 1
    return widths


def _longest_word(cell: str) -> int:
    """Return the columns that the longest word of a cell takes; scripts without blanks may be broken anywhere."""
    return max((cell_len(word) if word.isascii() else min(cell_len(word), 8) for word in cell.split()), default=1)


def progress_bar(*figures: str) -> Progress:
    """Return a rich progress bar on stderr with time left; `figures` are names of task fields shown at its end."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        *(TextColumn(f"{{task.fields[{name}]}}") for name in figures),
        console=stderr_console(),
        transient=True,
        disable=not person_reads(),
    )


@contextmanager
def count_progress(unit: str, *, total: int | None = None) -> Iterator[Count]:
    """Yield what is called with how many more are done: shown with their speed, and with the time left where known.

    On a terminal that is a bar, elsewhere a line now and then. Where there is no `total`, the second argument may be
    how much of the work is done in all, 0 to 1.
    """
    began = noted = time.monotonic()
    count = 0
    with progress_bar("speed") as bar:
        task = bar.add_task(unit, total=None, speed="")

        def done(more: int, fraction: float | None = None) -> None:
            nonlocal count, noted
            count += more
            fraction = count / total if total else fraction
            now = time.monotonic()
            speed = f"{count / max(1e-9, now - began):,.0f} a second"
            bar.update(task, completed=fraction or 0.0, total=None if fraction is None else 1.0, speed=speed)
            if now - noted > NOTED_EVERY and not person_reads():
                left = f", {(now - began) * (1 / fraction - 1) / 60:.1f} min left" if fraction else ""
                note(f"{count:,} {unit}, {speed}{left}")
                noted = now

        yield done


@contextmanager
def working(message: str) -> Iterator[None]:
    """Show that work goes on: the seconds so far on a terminal, a plain line before and after it elsewhere."""
    began = time.perf_counter()
    if person_reads():
        columns = (TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=stderr_console(), transient=True, disable=not _prints.get()) as bar:
            bar.add_task(message, total=None)
            yield
    else:
        note(f"{message} ...")
        yield
    note(f"{message}: {time.perf_counter() - began:.0f} s")
