"""What every reader of tables is given and gives: how to read, and rows some at a time."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SAMPLE_ROWS = 200
"""Rows that columns and header are told from."""
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
