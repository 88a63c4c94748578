"""Turns a file of any compression and encoding into blocks of whole lines in UTF-8: the door of every reader.

    bytes on disk -> decompressed -> decoded -> blocks of lines

A file that is something else than its name says (a zip archive, a picture, a .gz that is none) is named for what it is.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from bertwright.corpus.readers.characters import replace_surrogate_bytes
from bertwright.corpus.readers.encoding import (
    SAMPLE_BYTES,
    announce_encoding,
    check_encoding,
    detect_encoding,
    encoding_of_mark,
    is_mostly_utf8,
)
from bertwright.corpus.readers.formats import COMPRESSIONS
from bertwright.corpus.readers.remote import TextFile, open_bytes
from bertwright.errors import CorpusError

BLOCK_BYTES = 8 << 20
"""Bytes handed on at a time: parsing JSON costs a fixed 0.2 ms a block, memory grows by some ten blocks."""
LARGEST_WHOLE = 4 << 30
"""Bytes of a file that is read whole: a small one that unpacks without end is noticed there."""
LONGEST_DOCUMENT = 128 << 20
"""Bytes of the longest document taken: cleaning and splitting hold about six copies of it."""
READ_BYTES = 1 << 20
LONGEST_CHARACTER = 4
SAMPLE_LINE = 1 << 10
"""Bytes before a last one that is of another encoding, to tell it by."""
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


class GzipStream:
    """A gzip file decompressed as it is read: all its members, and without the zeros that tape and disk pad it with.

    pyarrow ends with an error at such zeros, and Python's gzip decompresses 8 kB at a time.
    """

    def __init__(self, file: pa.NativeFile) -> None:
        """Read nothing yet."""
        self._file, self._member, self._left = file, zlib.decompressobj(wbits=31), b""
        self._begun = self.closed = False

    def read(self, size: int = -1) -> bytes:
        """Return `size` bytes, or fewer at the end; raises OSError where the file is damaged or cut short."""
        parts: list[bytes] = []
        wanted = size if size >= 0 else LARGEST_WHOLE
        while wanted > 0 and (part := self._some(wanted)):
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def _some(self, most: int) -> bytes:
        """Return some bytes, none at the end."""
        while True:
            if self._member.eof:
                self._left, self._begun, self._member = self._member.unused_data, False, zlib.decompressobj(wbits=31)
            self._left = self._left or self._file.read(READ_BYTES)
            if not self._left and self._begun:
                raise OSError("it ends within its compressed data")
            if not self._left:
                return b""
            self._left = self._left if self._begun else self._left.lstrip(b"\0")
            if not self._left:
                continue
            self._begun = True
            try:
                part = self._member.decompress(self._left, most)
            except zlib.error as error:
                raise OSError(str(error)) from error
            self._left = self._member.unconsumed_tail
            if part:
                return part

    def readable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the stream; whoever opened the file closes that."""
        self.closed = True


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
    except OSError as error:
        whole = f"a whole {path.suffix} file" if codec else "a file that can be read"
        reason = str(error).rstrip(".")
        raise CorpusError(f"{path} is damaged or cut short ({reason}); expected {whole}, so fetch it again") from error


def _decompressed(file: pa.NativeFile, codec: str | None) -> Any:
    if codec == "gzip":
        return GzipStream(file)
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

    Without an `encoding` the byte-order mark tells it, or, where the file is not UTF-8, its content, as a note says.
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
        for data in decoded(chunks, path, encoding):
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
    return join_blocks((data for data, _ in read_decoded(path, encoding)), path)


def read_text(path: TextFile, encoding: str | None = None) -> str:
    """Return a labelled file as text; raises CorpusError, naming the byte, where it is none."""
    data = read_whole(path, encoding)
    fault = fault_in(data)
    if fault is not None:
        raise CorpusError(f"{not_text(path, data, fault)}; {AS_UTF8}")
    return data.decode()


AS_UTF8 = "convert it to UTF-8, or name its encoding with --encoding"


def join_blocks(parts: Iterable[bytes], path: TextFile) -> bytes:
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
        "split it, or tell where its documents end with --document-boundary blank or --document-boundary line"
    )


def decoded(chunks: Iterator[bytes], path: TextFile, encoding: str | None) -> Iterator[bytes]:
    """Yield chunks of a file in UTF-8, without the byte-order mark; `encoding` None detects it.

    Lines of a file whose lines all end in a carriage return alone (old Mac programs) end in a line feed here.
    """
    in_utf8 = _decoded(chunks, path, encoding)
    first = next((chunk for chunk in in_utf8 if chunk), b"")
    everything = chain([first], in_utf8)
    if b"\r" not in first[:-1] or b"\n" in first:
        yield from everything
        return
    for chunk in everything:
        yield chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _decoded(chunks: Iterator[bytes], path: TextFile, encoding: str | None) -> Iterator[bytes]:
    """Yield chunks of a file in UTF-8, its lines as they are."""
    first = b""
    while len(first) < LONGEST_CHARACTER and (chunk := next(chunks, None)) is not None:
        first += chunk
    name = encoding or encoding_of_mark(first)
    everything = chain([first.removeprefix(codecs.BOM_UTF8)], chunks)
    if name is None:
        yield from _detected(everything, path)
    elif codecs.lookup(name).name in ("utf-8", "utf-8-sig"):
        yield from map(replace_surrogate_bytes, everything)
    else:
        yield from _decoded_as(name, chain([first], chunks), path, given=encoding is not None)


def _detected(chunks: Iterator[bytes], path: TextFile) -> Iterator[bytes]:
    """Yield chunks as they are while they are UTF-8; from the first bytes that are not, decoded in what they are in.

    A file that has UTF-8 characters before, or more of them than broken bytes, is UTF-8 with faults, and stays so.
    """
    rest = before = b""
    is_ascii = True
    while (chunk := next(chunks, None)) is not None:
        data = rest + chunk if rest else chunk
        data = replace_surrogate_bytes(data) if b"\xed" in data else data
        whole = data[: len(data) - _cut_character(data)]
        fault = fault_in(whole)
        if fault is None:
            rest, before, is_ascii = data[len(whole) :], whole[-SAMPLE_LINE:], is_ascii and whole.isascii()
            yield whole
            continue
        if len(data) - fault < SAMPLE_BYTES:
            data += b"".join(islice(chunks, 1 + SAMPLE_BYTES // BLOCK_BYTES))
        name = _name_of(data, fault) if is_ascii else None
        if name is None:
            yield from chain([data], map(replace_surrogate_bytes, chunks))
            return
        announce_encoding(path, name, _sample(data, fault))
        yield from _decoded_as(name, chain([data], chunks), path, given=False)
        return
    if rest:  # a character that is cut off by the end of the file, or one byte of another encoding
        name = _name_of(before + rest, len(before)) if is_ascii else None
        if name is not None:
            announce_encoding(path, name, _sample(before + rest, len(before)))
        yield rest if name is None else b"".join(_decoded_as(name, iter([rest]), path, given=False))


def _cut_character(data: bytes) -> int:
    """Return how many bytes at the end begin a UTF-8 character that goes on after it."""
    for back in range(1, min(LONGEST_CHARACTER, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:
            return back if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        if byte < 0x80:
            return 0
    return 0


def _name_of(data: bytes, fault: int) -> str | None:
    """Return the encoding of bytes that are no UTF-8 at `fault`, or None."""
    around = data[max(0, fault - SAMPLE_BYTES) : fault + SAMPLE_BYTES]
    return None if is_mostly_utf8(around) else detect_encoding(_sample(data, fault))


def _sample(data: bytes, fault: int) -> bytes:
    """Return the bytes from the line on that holds the fault, or from a blank or mark before it."""
    begin = data.rfind(b"\n", max(0, fault - SAMPLE_BYTES // 2), fault) + 1
    if not begin and fault >= SAMPLE_BYTES // 2:
        begin = max(fault - SAMPLE_BYTES // 2, *(data.rfind(mark, 0, fault) for mark in b" ,.\t"))
    return data[begin : begin + SAMPLE_BYTES]


def _decoded_as(name: str, chunks: Iterator[bytes], path: TextFile, *, given: bool) -> Iterator[bytes]:
    """Yield chunks in UTF-8; what cannot be decoded becomes bytes that are no UTF-8, halves of pairs U+FFFD."""
    wide = codecs.lookup(name).name.startswith(("utf-16", "utf-32"))
    decoder = codecs.getincrementaldecoder(name)("replace" if wide else "surrogateescape")
    for final, chunk in _with_end(chunks):
        try:
            text = decoder.decode(chunk, final)
        except UnicodeError as error:
            raise CorpusError(_not_in(name, path, given=given)) from error
        if wide and text.count("\ufffd") > 1 + len(text) // 100:
            raise CorpusError(_not_in(name, path, given=given))
        yield re.sub("[\ud800-\udfff]", "\udcff", text).removeprefix("\ufeff").encode("utf-8", "surrogateescape")


def _with_end(chunks: Iterator[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Yield each chunk, and at last an empty one marked as the end."""
    yield from ((False, chunk) for chunk in chunks)
    yield True, b""


def _not_in(name: str, path: TextFile, *, given: bool) -> str:
    cure = "give another --encoding" if given else "convert it to UTF-8, or name its encoding with --encoding"
    return f"{path} {'is not text in' if given else 'starts as'} {name}{'' if given else ' but is not'}; {cure}"


def fault_in(data: bytes) -> int | None:
    """Return where `data` stops being UTF-8 text (a NUL byte is none), or None where all of it is."""
    nul = data.find(b"\0")
    text = pa.StringArray.from_buffers(1, pa.array([0, len(data)], pa.int32()).buffers()[1], pa.py_buffer(data))
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return _first_undecodable(data) if nul < 0 else min(nul, _first_undecodable(data))
    return None if nul < 0 else nul


def _first_undecodable(data: bytes) -> int:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(data)


def not_text(path: TextFile | str, data: bytes, fault: int, *, offset: int = 0, line: int | None = None) -> str:
    """Return what is wrong with bytes of a file at `fault`, which are `offset` bytes from its start."""
    where = f"at byte {offset + fault:,}" + (f" (line {line:,})" if line else "")
    if data[fault : fault + 1] == b"\0":
        return f"{path} has a NUL byte {where}: it is binary, or UTF-16 without a byte-order mark"
    return f"{path} is not UTF-8 text {where}"
