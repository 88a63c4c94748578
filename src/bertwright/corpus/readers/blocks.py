"""Turns a file of any compression and encoding into blocks of whole lines in UTF-8: the door of every reader.

    bytes on disk -> decompressed -> decoded -> blocks of lines

A file that is something else than its name says (a zip archive, a picture, a .gz that is none) is named for what it is.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from bertwright.corpus.readers.encoding import AS_UTF8, check_encoding, decode_chunks, fault_in, not_text
from bertwright.corpus.readers.formats import COMPRESSIONS
from bertwright.corpus.readers.remote import TextFile, open_bytes
from bertwright.errors import CorpusError

BLOCK_BYTES = 8 << 20
"""Bytes handed on at a time: parsing JSON costs a fixed 0.2 ms a block, memory grows by some ten blocks."""
LARGEST_WHOLE = 4 << 30
"""Bytes of a file that is read whole: a small one that unpacks without end is noticed there."""
LONGEST_DOCUMENT = 128 << 20
"""Bytes of the longest document taken: cleaning and splitting hold about six copies of it."""
SIGNATURES = {
    rb"PK\x03\x04": "a zip archive (as .docx, .xlsx and .epub files are)",
    rb"\x1f\x8b": "compressed with gzip",
    rb"\x28\xb5\x2f\xfd": "compressed with zstd",
    rb"BZh[1-9]1AY&SY": "compressed with bzip2",
    rb"\xfd7zXZ\x00": "compressed with xz",
    rb"7z\xbc\xaf\x27\x1c": "a 7z archive",
    rb"Rar!\x1a": "a rar archive",
    rb"%PDF-\d": "a PDF document",
    rb"PAR1[\x00-\x1f]": "a Parquet file",
    rb"ARROW1\x00": "an Arrow file",
    rb"SQLite format 3\x00": "an SQLite database",
    rb"\x89PNG\r\n": "a PNG picture",
    rb"\xff\xd8\xff[\xdb\xe0-\xef]": "a JPEG picture",
    rb"GIF8[79]a": "a GIF picture",
    rb"\xd0\xcf\x11\xe0\xa1\xb1": "an old Office document (.doc, .xls)",
    rb"\{\\rtf1": "an RTF document",
    rb"\x93NUMPY": "a NumPy array",
    rb"\x80[\x02-\x05][\x00-\x1f}(\]\x80-\xff]": "a pickle, which is never read because it can run code",
    rb"\x7fELF": "a program",
    rb".{257}ustar": "a tar archive",
}
"""How files of other kinds begin, as patterns of bytes, and what they are."""
_KINDS = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in SIGNATURES.items()]


@dataclass(frozen=True)
class ByteBlock:
    """Some whole lines of a file in UTF-8.

    data      the bytes, without a byte-order mark
    offset    where they start in the decompressed and decoded file, in bytes
    position  bytes of the (compressed) file read so far
    """

    data: bytes
    offset: int
    position: int


@dataclass(frozen=True)
class OpenedText:
    """A file opened for reading: `stream` gives decompressed bytes, `file.tell()` the bytes taken from the disk."""

    stream: Any
    file: pa.NativeFile


def what_it_is(start: bytes) -> str | None:
    """Return what a file that begins so is, where it is no text, or None.

    >>> what_it_is(b"%PDF-1.7")
    'a PDF document'
    """
    return next((kind for pattern, kind in _KINDS if pattern.match(start)), None)


@contextmanager
def open_text(path: TextFile) -> Iterator[OpenedText]:
    """Open a plain, .gz, .zst or .bz2 file; a file that is damaged or cut short raises CorpusError at some read."""
    codec = COMPRESSIONS.get(path.suffix.lower())
    if codec and isinstance(path, Path):
        _refuse_misnamed(path, codec)
    try:
        with open_bytes(path) as file:
            yield OpenedText(_decompressed(file, codec), file)
    except (OSError, EOFError, zlib.error) as error:
        whole = f"a whole {path.suffix} file" if codec else "a file that can be read"
        reason = "it ends within its compressed data" if isinstance(error, EOFError) else str(error).rstrip(".")
        raise CorpusError(f"{path} is damaged or cut short ({reason}); expected {whole}, so fetch it again") from error


def _decompressed(file: pa.NativeFile, codec: str | None) -> Any:
    if codec == "gzip":
        return gzip.GzipFile(fileobj=file, mode="rb")  # pyarrow's own fails at the zeros that tapes pad files with
    return pa.CompressedInputStream(file, codec) if codec else file


def _refuse_misnamed(path: Path, codec: str) -> None:
    """Raise CorpusError where a file with the suffix of a compression is not compressed so; an empty one may be."""
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\0")
    kind = what_it_is(start)
    named = {"gzip": "gzip", "zstd": "zstd", "bz2": "bzip2"}[codec]
    if not start or (kind or "").endswith(f"compressed with {named}"):
        return
    if kind is not None:
        raise CorpusError(f"{path} is {kind}, not what its suffix says; unpack it, or give it the right suffix")
    if start[:1] < b"\x80" and not re.search(rb"[\x00-\x08\x0e-\x1f]", start):
        raise CorpusError(f"{path} is not compressed although its name ends in {path.suffix}; take that suffix off")


def refuse_other_kind(path: TextFile, start: bytes) -> None:
    """Raise CorpusError where a file that should be text begins as something else does."""
    kind = what_it_is(start)
    if kind is not None:
        cure = "add that to its suffix (.gz, .zst, .bz2)" if kind.startswith("compressed") else "give its text"
        cure = "unpack it" if kind.endswith(("archive", "xz")) or kind.startswith("a zip") else cure
        raise CorpusError(f"{path} is {kind}, which cannot be read as text; {cure}, or take it out")


def read_blocks(path: TextFile, encoding: str | None = None) -> Iterator[ByteBlock]:
    """Yield the file as blocks of whole lines in UTF-8, about BLOCK_BYTES each.

    Without an `encoding` the byte-order mark decides, or, where the file is not UTF-8, its content, as a note says.
    Bytes that cannot be decoded stay such that they are no UTF-8 (see `fault_in`). Raises CorpusError where the file is
    damaged or a line is longer than LONGEST_DOCUMENT, UsageError where no such encoding is known.
    """
    return in_lines(read_decoded(path, encoding), path)


def read_decoded(path: TextFile, encoding: str | None = None) -> Iterator[tuple[bytes, int]]:
    """Yield (bytes in UTF-8, bytes of the compressed file read so far); raises what `read_blocks` raises."""
    check_encoding(encoding)
    with open_text(path) as opened:
        first = opened.stream.read(BLOCK_BYTES)
        refuse_other_kind(path, first)
        chunks = chain([first], iter(lambda: opened.stream.read(BLOCK_BYTES), b""))
        for data in decode_chunks(chunks, path, encoding):
            yield data, opened.file.tell()


def in_lines(chunks: Iterable[tuple[bytes, int]], path: TextFile) -> Iterator[ByteBlock]:
    """Yield chunks cut where lines end; raises CorpusError where a line is longer than LONGEST_DOCUMENT."""
    parts: list[bytes] = []
    held = offset = position = 0
    for data, position in chunks:
        if held > LONGEST_DOCUMENT:
            raise CorpusError(too_long(path))
        cut = data.rfind(b"\n") + 1
        if not cut:
            parts.append(data)
            held += len(data)
            continue
        lines = b"".join([*parts, data[:cut]])
        yield ByteBlock(lines, offset, position)
        parts, held, offset = [data[cut:]], len(data) - cut, offset + len(lines)
    if held:
        yield ByteBlock(b"".join(parts), offset, position)


def read_whole(path: TextFile, encoding: str | None = None) -> bytes:
    """Return a labelled file whole, in UTF-8; raises CorpusError where it is past LARGEST_WHOLE, decompressed."""
    return join_parts((data for data, _ in read_decoded(path, encoding)), path)


def read_text(path: TextFile, encoding: str | None = None) -> str:
    """Return a labelled file as text; raises CorpusError, naming the byte, where it is none."""
    data = read_whole(path, encoding)
    fault = fault_in(data)
    if fault is not None:
        raise CorpusError(f"{not_text(path, data, fault)}; {AS_UTF8}")
    return data.decode()


def join_parts(parts: Iterable[bytes], path: TextFile) -> bytes:
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
        "split it, or say where its documents end with --document-boundary blank or --document-boundary line"
    )
