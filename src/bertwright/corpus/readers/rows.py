"""What readers are given and give: how to read a table, its rows some at a time, and documents some at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

SAMPLE_ROWS = 200
"""Rows that columns and header are detected by."""
UNREADABLE = (pa.ArrowException, OSError, MemoryError, ValueError, KeyError, IndexError, OverflowError)
"""What pyarrow raises over bytes that are no file of its formats."""


@dataclass(frozen=True)
class TableOptions:
    """How a table is read.

    names        names of columns that give a header away
    given        columns that the call names: they do so too, and a number says that there is no header
    one_column   whether a file of one column is a table
    keep_empty   whether an empty line of a table of one column is an empty text, instead of nothing
    only_text    whether a number where others have text is no row; else it is its digits
    skip_broken  leave out, and count, rows that cannot be read, instead of stopping
    encoding     how characters are written; None detects it
    """

    names: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    one_column: bool = True
    keep_empty: bool = False
    only_text: bool = False
    skip_broken: bool = False
    encoding: str | None = None

    @property
    def or_skip(self) -> str:
        """What to do instead of fixing a row: of a corpus rows can be left out."""
        return ", or give --skip-broken to leave such rows out" if self.only_text else ""


@dataclass(frozen=True)
class TableRows:
    """Some rows of a table, with the types they have in the file.

    broken    rows left out before the end of these, because they cannot be read
    position  bytes of the (compressed) file read so far
    """

    table: pa.Table
    broken: int
    position: int


@dataclass(frozen=True)
class TextBatch:
    """Some documents in the order of the files, with the place reached after them: the one parcel of raw text.

    texts              [D] the documents, none null
    source_bytes_done  bytes of the (compressed) file read so far; from `read_documents` on, of all files together
    broken             lines, rows or files left out since the batch before (with `skip_broken`)
    passed_over        pages of a Wikipedia dump that are no articles, since the batch before
    file, stop         `stop` documents of file number `file` (files counted from 0) are read; a finished file counts as
                       (file + 1, 0). Reading with skip=(file, stop) goes on from here
    source             number of the source the files belong to, set by the pipeline
    seconds            time it took to read, set by the pipeline
    """

    texts: pa.StringArray
    source_bytes_done: int
    broken: int = 0
    passed_over: int = 0
    file: int = 0
    stop: int = 0
    source: int = 0
    seconds: float = 0.0

    def with_left_out(self, other: TextBatch) -> TextBatch:
        """Return these documents with what another batch left out counted too."""
        return replace(self, broken=self.broken + other.broken, passed_over=self.passed_over + other.passed_over)

    def without_left_out(self, texts: pa.StringArray) -> TextBatch:
        """Return other documents read so far, with nothing left out among them."""
        return replace(self, texts=texts, broken=0, passed_over=0)
