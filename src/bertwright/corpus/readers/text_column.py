"""Turns the text column of a table of any format into documents: a row is a document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.readers.cells import are_written_lists, kind_of
from bertwright.corpus.readers.formats import ReadOptions, format_of
from bertwright.corpus.readers.remote import TextFile
from bertwright.corpus.readers.rows import TableOptions, TextBatch
from bertwright.corpus.readers.table import Start, choose_text_column, read_head, read_rows, start_of, text_cells
from bertwright.errors import CorpusError, UsageError
from bertwright.log import note_once

NAMES = frozenset((
    "text", "content", "body", "document", "article", "title", "sentence", "paragraph", "abstract", "summary", "review",
    "comment", "tweet", "id", "url", "date", "label", "category", "source", "author", "language", "lang", "score",
))  # fmt: skip
"""Names of columns of a corpus that give a header away."""
FLAG = "--column"


def read_text_column(path: TextFile, options: ReadOptions) -> Iterator[TextBatch]:
    """Yield the texts of a table; a null or absent text is an empty document, lists of words are joined by blanks.

    The column is the one given, else "text", else the only one of text. Raises CorpusError where it is not clear,
    holds no text, or where a row cannot be read, unless `skip_broken` leaves that out.
    """
    table_options = _table_options(options)
    head = read_head(path, table_options)
    if not head.num_columns:
        return
    start = start_of(Path(str(path)), head)
    _note_no_header(start, path)
    name = _column(start, options, path)
    for rows in read_rows(path, table_options, [name], head=head):
        column = rows.table.column(0)
        is_plain = kind_of(column.type) == "text" and not are_written_lists(start.table.columns[name])
        texts = _filled(column) if is_plain else pa.array(text_cells(rows.table, name, start, path), pa.string())
        yield TextBatch(texts, rows.position, rows.broken)


def text_columns(path: TextFile, encoding: str | None = None) -> Iterator[str]:
    """Yield every text of every column of text of a table; raises CorpusError where it is damaged."""
    table_options = TableOptions(names=NAMES, encoding=encoding)
    head = read_head(path, table_options)
    start = start_of(Path(str(path)), head)
    names = [name for name in head.column_names if name in start.texts]
    if not names:
        return
    for rows in read_rows(path, table_options, names, head=head):
        for name in names:
            yield from text_cells(rows.table, name, start, path)


def _table_options(options: ReadOptions) -> TableOptions:
    given = frozenset([options.column] if options.column else [])
    return TableOptions(NAMES, given, only_text=True, skip_broken=options.skip_broken, encoding=options.encoding)


def _column(start: Start, options: ReadOptions, path: TextFile) -> str:
    """Return the column of text; raises CorpusError."""
    given = options.column or ("text" if "text" in start.table.columns else None)
    try:
        name = choose_text_column(start, given, usual=(), flag=FLAG)
    except UsageError as error:
        raise CorpusError(str(error)) from error
    kind = start.table.kinds.get(name, "text")
    if kind == "object":
        held = next((cell for cell in start.table.columns[name] if cell), "")[:60]
        raise CorpusError(f'the column "{name}" of {path} holds objects ({held}), not text; name another with {FLAG}')
    if kind == "other" or (kind == "number" and format_of(path) not in ("csv", "tsv")):
        raise CorpusError(f'the column "{name}" of {path} holds no text; name another with {FLAG}')
    return name


def _note_no_header(start: Start, path: TextFile) -> None:
    """Print a note where a table has no header: its first row is text like the others."""
    names = list(start.table.columns)
    if format_of(path) in ("csv", "tsv") and names == [str(place + 1) for place in range(len(names))]:
        note_once(f"{path} has no header; its columns are called {', '.join(names)}")


def _filled(texts: pa.ChunkedArray) -> pa.StringArray:
    """Return the texts as one array, null rows as empty texts."""
    whole = texts.cast(pa.string()).combine_chunks()
    whole = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
    return pc.fill_null(whole, "")
