"""Talks to the person at the terminal: notes, tables and progress to stderr, results to stdout."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

_speaks: ContextVar[bool] = ContextVar("speaks", default=True)


@contextmanager
def silent(wanted: bool) -> Iterator[None]:
    """Say nothing for a while, if `wanted`: of several processes of a run, one speaks."""
    before = _speaks.set(not wanted)
    try:
        yield
    finally:
        _speaks.reset(before)


def talk() -> Console:
    """Return a console on stderr, where progress, notes and warnings go (made anew: stderr may be redirected)."""
    return Console(file=sys.stderr, highlight=False, quiet=not _speaks.get())


def results() -> Console:
    """Return a console on stdout, where results go; at least 100 columns when it is not a terminal.

    Characters that it cannot show, half ones among them, come out as escapes, as they do on stderr.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console(highlight=False)
    width = console.width if console.is_terminal else max(100, console.width)
    return Console(highlight=False, width=width, quiet=not _speaks.get())


def note(message: str) -> None:
    """Print one plain line to stderr."""
    talk().print(message, markup=False, soft_wrap=True)


@lru_cache(maxsize=4096)
def note_once(message: str) -> None:
    """Print one plain line to stderr, the first time it is to be said: files are read several times."""
    note(message)


def print_facts(title: str, facts: Mapping[str, str]) -> None:
    """Print a two-column table of named figures to stdout."""
    table = Table(title=Text(title), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in facts.items():
        table.add_row(Text(name), Text(value))
    results().print(table)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with a header to stdout; the first column is text, the others are figures.

    Cells are shown as they are: brackets in them, as in [unused3], are not markup.
    """
    table = Table(title=Text(title), title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    results().print(table)


def print_settings(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Print settings to stdout, one after the other: name and value on a line, the meaning below it."""
    console = results()
    console.print(Text(title, style="bold"))
    for name, value, meaning in rows:
        console.print(Text.assemble((name, "bold"), " = ", value))
        if meaning:
            console.print(Padding(Text(meaning), (0, 0, 0, 4)))


def progress_bar(*figures: str) -> Progress:
    """Return a rich progress bar on stderr with time left; `figures` are names of task fields shown at its end."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        *(TextColumn(f"{{task.fields[{name}]}}") for name in figures),
        console=talk(),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


@contextmanager
def working(message: str) -> Iterator[None]:
    """Show that work goes on: the seconds so far on a terminal, a plain line before and after it elsewhere."""
    began = time.perf_counter()
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=talk(), transient=True, disable=not _speaks.get()) as bar:
            bar.add_task(message, total=None)
            yield
    else:
        note(f"{message} ...")
        yield
    note(f"{message}: {time.perf_counter() - began:.0f} s")
