"""Turns a file's name into its format and compression, and holds how files are to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bertwright.corpus.readers.remote import TextFile

Format = Literal["txt", "md", "json", "csv", "tsv", "parquet", "arrow", "wikipedia"]

FORMATS: dict[str, Format] = {
    ".txt": "txt",
    ".md": "md",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".xml": "wikipedia",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
TABLES: frozenset[Format] = frozenset(("json", "csv", "tsv", "parquet", "arrow"))
"""Formats of rows and columns."""


@dataclass(frozen=True)
class ReadOptions:
    """How to read the text files of a corpus.

    column       name of the text column of JSON, CSV, TSV, Parquet and Arrow, or its number in a file without a header;
                 None takes "text", else the only one
    documents    where a document ends in .txt files; "auto" detects it
    skip_broken  leave out, and count, lines that cannot be read, instead of stopping
    encoding     how characters are written, such as "gb18030"; None detects it where it is not UTF-8
    """

    column: str | None = None
    documents: Literal["auto", "blank", "file", "line"] = "auto"
    skip_broken: bool = False
    encoding: str | None = None


def format_of(path: TextFile) -> Format | None:
    """Return the format of a file by its name, or None where it is no text file we know."""
    return FORMATS.get(plain_suffix(path))


def plain_suffix(path: TextFile) -> str:
    """Return the suffix of a file's name in lower case, without that of a compression: ".csv" of a.CSV.gz."""
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return plain.suffix.lower()


def is_table(path: TextFile) -> bool:
    """Return whether a file is a table by its name: .tsv, .csv, .jsonl, .json, .parquet, .arrow, also compressed."""
    return format_of(path) in TABLES
