"""Turns what was typed as INPUT (files, folders, globs) into text files, and reads those as byte blocks.

The format is told by the suffix (.txt .md .jsonl .ndjson .json .csv .tsv .parquet .arrow .xml) before an optional .gz,
.zst or .bz2; an .xml is a Wikipedia dump. An address such as s3://bucket/texts names files elsewhere (`corpus.remote`).
"""

from __future__ import annotations

import codecs
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import pyarrow as pa

from bertwright.corpus.dataset_folders import dataset_files
from bertwright.corpus.remote import TextFile, is_address, open_bytes, remote_files, size_of
from bertwright.errors import CorpusError

Layout = Literal["blank", "file", "line"]
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
UTF16_MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
BLOCK_BYTES = 8 << 20
"""Bytes handed on at a time: parsing JSON costs a fixed 0.2 ms a block, memory grows by some ten blocks."""
LARGEST_WHOLE = 4 << 30
"""Bytes of a file that is read whole: a small one that unpacks without end is noticed there."""
LONGEST_DOCUMENT = 128 << 20
"""Bytes of the longest document taken: cleaning and splitting hold about six copies of it."""


@dataclass(frozen=True)
class ReadOptions:
    """How to read text files.

    column       name of the text column of JSON, CSV, TSV, Parquet and Arrow; None takes "text", else the only one
    documents    where a document ends in .txt files; "auto" tells it from a sample
    skip_broken  leave out, and count, lines that cannot be read, instead of stopping
    """

    column: str | None = None
    documents: Literal["auto", "blank", "file", "line"] = "auto"
    skip_broken: bool = False


def format_of(path: TextFile) -> Format | None:
    """Return the format a file's name tells, or None where it is no text file we know."""
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return FORMATS.get(plain.suffix.lower())


def find_inputs(inputs: Sequence[str]) -> list[TextFile]:
    """Return the text files named by `inputs`: files, folders (searched whole), globs and addresses, each file once.

    Inside a folder, hidden files and files of other formats are passed over, and files come in the order of their
    names; a folder that Hugging Face `datasets` saved gives the files it names. Raises CorpusError where an input is
    missing, of no known format, empty, or a folder without text files.
    """
    found: dict[TextFile, None] = {}
    for name in inputs:
        found.update(dict.fromkeys(_files_of(name)))
    if not found:
        raise CorpusError("no input was given; name at least one text file, folder or glob")
    if all(isinstance(path, Path) and size_of(path) == 0 for path in found):
        raise CorpusError(f"{', '.join(inputs)} holds no text: every file is empty (0 bytes); give files with text")
    return list(found)


def _files_of(name: str) -> Sequence[TextFile]:
    if is_address(name) and not name.startswith("file://"):
        remote = remote_files(name, lambda file: format_of(file) is not None)
        if not remote:
            raise CorpusError(f"{name} names no text files; expected {_known_suffixes()}")
        return remote
    name = name.removeprefix("file://")
    path = Path(name)
    if path.is_dir():
        files = _files_under(path)
        if not files:
            raise CorpusError(f"the folder {name} holds no text files; expected {_known_suffixes()}")
        return files
    if path.is_file():
        if format_of(path) is None:
            raise CorpusError(f"{name} is of no format that can be read; expected {_known_suffixes()}")
        return [path]
    matches = sorted(glob.glob(name, recursive=True))
    if not matches:
        raise CorpusError(f"the input {name} does not exist; check the path, or quote the glob")
    known: list[Path] = []
    for match in map(Path, matches):
        known.extend(_files_under(match) if match.is_dir() else [match] if format_of(match) else [])
    if not known:
        raise CorpusError(f"{name} matches no text files; expected {_known_suffixes()}")
    return known


def _files_under(folder: Path) -> list[Path]:
    """Return the text files below a folder, hidden files and folders passed over, in the order of their names."""
    named = dataset_files(folder)
    if named is not None:
        return named
    files: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = sorted(name for name in names if not name.startswith("."))
        files.extend(path for path in (Path(root, name) for name in shown) if _is_text_file(path))
    return files


def _is_text_file(path: Path) -> bool:
    """Return whether a file found in a folder holds text; of .xml files, only Wikipedia dumps do."""
    kind = format_of(path)
    if kind != "wikipedia":
        return kind is not None
    with open_text(path) as opened:
        return b"<mediawiki" in opened.stream.read(1 << 10)


def _known_suffixes() -> str:
    return f"{', '.join(FORMATS)}, each plain, .gz, .zst or .bz2"


@dataclass(frozen=True)
class Block:
    """Some whole lines of a file in UTF-8.

    data      the bytes, without a byte-order mark
    offset    where they start in the (decompressed) file, in bytes
    position  bytes of the (compressed) file read so far
    """

    data: bytes
    offset: int
    position: int


@dataclass(frozen=True)
class OpenedText:
    """A file opened for reading: `stream` gives decompressed bytes, `file.tell()` the bytes taken from the disk."""

    stream: pa.NativeFile
    file: pa.NativeFile


@contextmanager
def open_text(path: TextFile) -> Iterator[OpenedText]:
    """Open a plain, .gz, .zst or .bz2 file; a file that is damaged or cut short raises CorpusError at some read."""
    codec = COMPRESSIONS.get(path.suffix.lower())
    try:
        with open_bytes(path) as file:
            yield OpenedText(pa.CompressedInputStream(file, codec) if codec else file, file)
    except OSError as error:
        whole = f"a whole {path.suffix} file" if codec else "a file that can be read"
        reason = str(error).rstrip(".")
        raise CorpusError(f"{path} is damaged or cut short ({reason}); expected {whole}, so fetch it again") from error


def read_blocks(path: TextFile) -> Iterator[Block]:
    """Yield the file as blocks of whole lines, about BLOCK_BYTES each; UTF-16 with a byte-order mark becomes UTF-8.

    Raises CorpusError where the file is damaged or a line is longer than LONGEST_DOCUMENT.
    """
    rest, offset = b"", 0
    with open_text(path) as opened:
        for data in _utf8(opened.stream, path):
            if len(rest) > LONGEST_DOCUMENT:
                raise CorpusError(too_long(path))
            cut = data.rfind(b"\n") + 1
            if not cut:
                rest += data
                continue
            lines = rest + data[:cut]
            yield Block(lines, offset, opened.file.tell())
            rest, offset = data[cut:], offset + len(lines)
        if rest:
            yield Block(rest, offset, opened.file.tell())


def read_whole(path: TextFile) -> bytes:
    """Return a labelled file whole, in UTF-8; raises CorpusError where it is past LARGEST_WHOLE, decompressed."""
    return joined((block.data for block in read_blocks(path)), path)


def joined(parts: Iterable[bytes], path: TextFile) -> bytes:
    """Return the parts of a file as one; raises CorpusError as soon as they are past LARGEST_WHOLE."""
    held, size = [], 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size > LARGEST_WHOLE:
            raise CorpusError(
                f"{path} holds more than {LARGEST_WHOLE >> 30} GiB, and a labelled file is read whole; split it"
            )
    return b"".join(held)


def too_long(path: TextFile) -> str:
    """Return the sentence for a document that does not fit in memory."""
    return (
        f"{path} has a document of more than {LONGEST_DOCUMENT >> 20} MiB; "
        "split it, or tell where its documents end with --documents blank or --documents line"
    )


def _utf8(stream: pa.NativeFile, path: TextFile) -> Iterator[bytes]:
    """Yield a stream's blocks in UTF-8, without the byte-order mark."""
    first = stream.read(BLOCK_BYTES)
    encoding = UTF16_MARKS.get(first[:2])
    blocks = chain([first], iter(lambda: stream.read(BLOCK_BYTES), b""))
    if encoding is None:
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from islice(blocks, 1, None)
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in blocks:
            yield decoder.decode(block).removeprefix("\ufeff").encode()
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise CorpusError(f"{path} starts as UTF-16 but is not ({error}); expected UTF-8, so convert it") from error
