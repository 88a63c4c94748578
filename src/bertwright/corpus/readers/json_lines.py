"""Turns JSON of any form into JSON lines as it streams: an object a line, an array of objects, or {"data": [objects]}.

A comma between two rows becomes a newline, a newline within a row a blank, so that no byte moves and memory stays
bounded. How deeply values nest is found here too, before a parser that calls itself for each level runs out of stack:
pyarrow ends the process (signal 11) where it infers the types of a JSON file whose values nest 20,000 deep, which takes
40 kB; where it is given the types, it does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np

from bertwright.corpus.readers.blocks import ByteBlock, in_lines, read_decoded
from bertwright.corpus.readers.characters import replace_surrogate_escapes
from bertwright.corpus.readers.remote import TextFile
from bertwright.corpus.readers.rows import TableOptions
from bertwright.errors import CorpusError

Form = Literal["lines", "array", "data", "pretty"]
"""How rows stand in a file: one a line, in an array, in the array "data" of one object, or over several lines."""
START_BYTES = 1 << 16
PIECE = 1 << 20
"""Bytes whose brackets are counted together: 20 MB of sums."""
DATA = re.compile(rb'"data"\s*:\s*(\[)\s*[\]{]')
DEEPEST = 100
"""Levels of the deepest values taken; labelled files have two or three."""
OTHERS = bytes(sorted(set(range(256)) - set(b'[]{}"')))


@dataclass(frozen=True)
class JsonLines:
    """Blocks of JSON lines, and what a line of them is in the file: a line, or a row of an array."""

    blocks: Iterator[ByteBlock]
    unit: str


def open_json(path: TextFile, options: TableOptions) -> JsonLines:
    """Return the rows of a JSON file as lines; raises CorpusError at a block that is no text or cut short."""
    chunks = read_decoded(path, options.encoding)
    start: list[tuple[bytes, int]] = []
    while sum(len(data) for data, _ in start) < START_BYTES and (more := next(chunks, None)) is not None:
        start.append(more)
    whole = b"".join(data for data, _ in start)
    form, begin = form_of(whole, ended=len(whole) < START_BYTES)
    everything: Iterator[tuple[bytes, int]] = chain(start, chunks)
    if form != "lines":
        everything = _on_lines(everything, path, form, begin)
    escaped = ((replace_surrogate_escapes(block.data), block) for block in in_lines(everything, path))
    blocks = (ByteBlock(data, block.offset, block.position) for data, block in escaped)
    return JsonLines(blocks, "line" if form == "lines" else "row")


def form_of(start: bytes, *, ended: bool) -> tuple[Form, int]:
    """Return how rows stand in a file, from its start, and where the array of them begins.

    >>> form_of(b'{"version": 1, "data": [{"text": "a"}]}', ended=True)
    ('data', 23)
    """
    text = start.lstrip()
    skipped = len(start) - len(text)
    if re.match(rb"\[\s*([{]|\]\s*$)", text):
        return "array", skipped
    line, newline, rest = text.partition(b"\n")
    is_complete = bool(newline) and _balance(line) == 0
    if not text.startswith(b"{") or (is_complete and rest.strip()) or (is_complete and not ended):
        return "lines", 0
    for found in DATA.finditer(text):
        if _balance(text[: found.start()]) == 1 and text[: found.start()].rstrip()[-1:] in (b"{", b","):
            return "data", skipped + found.start(1)
    goes_on = newline and not is_complete and rest.strip() and not rest.lstrip().startswith(b"{")
    return ("pretty" if goes_on else "lines"), 0


def _balance(data: bytes) -> int:
    """Return how many brackets are open at the end of JSON."""
    counter = _Brackets()
    counter.depths(data)
    return counter.depth


class _Brackets:
    """Counts open brackets outside of strings, over any number of pieces of a file."""

    def __init__(self) -> None:
        self.depth = 0
        self._in_string = False

    def depths(self, data: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Return the open brackets after each byte, and whether it stands in a string; no piece ends in an escape."""
        marks = np.frombuffer(data.replace(b"\\\\", b"xx").replace(b'\\"', b"xx"), dtype=np.uint8)
        quotes = np.cumsum(marks == ord('"'), dtype=np.int32) + self._in_string
        inside = quotes % 2 == 1
        steps = (marks | 0x20 == ord("{")).astype(np.int8) - (marks | 0x20 == ord("}")).astype(np.int8)
        steps[inside] = 0  # "[" and "{", "]" and "}" differ in the bit 0x20 alone
        depths = self.depth + np.cumsum(steps, dtype=np.int32)
        if len(data):
            self.depth, self._in_string = int(depths[-1]), bool(inside[-1])
        return depths, inside


def _on_lines(
    chunks: Iterator[tuple[bytes, int]], path: TextFile, form: Form, begin: int
) -> Iterator[tuple[bytes, int]]:
    """Yield chunks in which every row is on a line of its own; `begin` is where their array begins."""
    counter, blank = _Brackets(), begin + 1 if form != "pretty" else 0
    left, position = b"", 0
    for chunk, position in chunks:
        pieces = _pieces(left + chunk)
        for data in pieces:
            left = data[len(data.rstrip(b"\\")) :][-1:] if (len(data) - len(data.rstrip(b"\\"))) % 2 else b""
            piece = data[: len(data) - len(left)]
            skipped = min(blank, len(piece))
            blank -= skipped
            rows, rest = _cut_rows(piece[skipped:], counter, is_array=form != "pretty")
            yield b" " * skipped + rows, position
            if rest is not None:
                _refuse_more(chain([rest], pieces, (data for data, _ in chunks)), path, within=form == "data")
                return
    if counter.depth or form != "pretty":
        raise CorpusError(f"{path} is not one JSON object a line, and ends within a row or array; fetch it again")


def _pieces(data: bytes) -> Iterator[bytes]:
    """Yield data in pieces; none but the last ends in a backslash."""
    start = 0
    while start < len(data):
        stop = min(len(data), start + PIECE)
        while stop < len(data) and data[stop - 1 : stop] == b"\\":
            stop += 1
        yield data[start:stop]
        start = stop


def _cut_rows(data: bytes, counter: _Brackets, *, is_array: bool) -> tuple[bytes, bytes | None]:
    """Return a piece with a row a line, and what follows the end of the array, None before that."""
    depths, inside = counter.depths(data)
    ends = np.flatnonzero(depths < 0).tolist() if is_array else []
    stop = ends[0] if ends else len(data)
    cells = np.frombuffer(data, dtype=np.uint8)[:stop].copy()
    free = ~inside[:stop]
    breaks = ((cells == ord("\n")) | (cells == ord("\r"))) & free & (is_array | (depths[:stop] > 0))
    cells[breaks] = ord(" ")
    if is_array:
        cells[(cells == ord(",")) & free & (depths[:stop] == 0)] = ord("\n")
    return cells.tobytes() + (b"\n" if ends else b""), data[stop + 1 :] if ends else None


def _refuse_more(rest: Iterable[bytes], path: TextFile, *, within: bool) -> None:
    """Raise CorpusError where more than blanks follows the array, or the object that it is `within`."""
    counter = _Brackets()
    for data in rest:
        if within:
            ends = np.flatnonzero(counter.depths(data)[0] < 0).tolist()
            within, data = not ends, data[ends[0] + 1 :] if ends else b""
        if data.strip():
            raise CorpusError(f"{path} has more after the end of its JSON array; give one array, or one object a line")
    if within:
        raise CorpusError(f"{path} is cut short: its JSON ends within an object; fetch it again")


def refuse_nested(data: bytes, path: TextFile) -> None:
    """Raise CorpusError where the JSON of a file nests deeper than DEEPEST."""
    if depth_of(data) > DEEPEST:
        raise CorpusError(f"{path} has values nested more than {DEEPEST} deep; give one flat JSON object a line")


def depth_of(data: bytes) -> int:
    """Return the levels of the deepest value of JSON, brackets within texts left out; exact up to its first fault.

    >>> depth_of(b'{"a": [1, ["[[["]]}')
    3
    """
    marks = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, OTHERS)
    counter = _Brackets()
    pieces = (marks[start : start + PIECE] for start in range(0, len(marks), PIECE))
    return max((0, *(int(counter.depths(piece)[0].max()) for piece in pieces)))
