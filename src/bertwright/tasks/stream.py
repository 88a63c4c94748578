"""Turns a file, or stdin, into its texts in order, a row or line a text, a piece at a time.

Columns, separator and header are found as everywhere; an empty line or cell is an empty text, so that the n-th text is
that of the n-th row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bertwright.corpus.readers.formats import format_of, is_table
from bertwright.corpus.readers.lines import STDIN, LineStream
from bertwright.corpus.readers.rows import TableOptions
from bertwright.corpus.readers.table import Start, TableStream, choose_text_column, refuse_missing
from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.columns import SENTENCES, SINGLES

FLAG = "--text-column"


def stream_texts(path: Path, column: str | None = None, encoding: str | None = None) -> Iterator[list[str]]:
    """Yield the texts of a file some at a time, or of the lines of stdin where `path` is "-".

    `column` names the column of a table; None takes one called text, sentence ..., or the only one of text. Raises
    CorpusError where the file is missing, of no known format or damaged, and UsageError where it has no such column.
    """
    if path != STDIN:
        refuse_missing(path, alternative=", or - for stdin")
    if path != STDIN and is_table(path):
        options = stream_options(column, encoding=encoding)
        yield from (columns[0] for columns in TableStream(path, lambda start: (choose_column(start, column),), options))
    elif path != STDIN and format_of(path) not in ("txt", "md"):
        raise CorpusError(f"{path} is of no format that can be read; expected .txt, .tsv, .csv, .jsonl or .parquet")
    elif column is not None and path != STDIN:
        raise UsageError(f"{path} holds a text a line and has no columns; leave {FLAG} out")
    else:
        yield from LineStream(path, encoding=encoding)


def stream_options(*given: str | None, encoding: str | None = None) -> TableOptions:
    """Return how a table is streamed: a row is an answer, so that an empty line is an empty text."""
    names = frozenset(name for name in given if name)
    return TableOptions(frozenset(SENTENCES), names, one_column=True, keep_empty=True, encoding=encoding)


def choose_column(start: Start, given: str | None) -> str:
    """Return the column of text: the one given, else one of a usual name, else the only one that holds text."""
    return choose_text_column(start, given, usual=SINGLES, flag=FLAG)
