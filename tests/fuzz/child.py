"""Reads mutated files in a process of its own, with little memory, and says of each how it ended.

A crash of a library ends the process, a hang is ended by the parent, and an allocation that the limit does not allow
fails: each is seen, and none takes the parent with it.
"""

from __future__ import annotations

import os
import resource
import shutil
import struct
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kind import Kind

from bertwright.errors import BertwrightError

ROOM = 1 << 30
"""Bytes a reader may take beyond what the process has; no seed is above 30 kB."""


def serve(kind: Kind, requested: BinaryIO, answers: BinaryIO) -> None:
    """Send the whole file of a kind, then answer each mutated one: "read", "refused: ..." or "raised: ...".

    What the readers print goes nowhere.
    """
    with tempfile.TemporaryDirectory(prefix="bertwright-fuzz-", dir=_quick_folder()) as scratch:
        folder = Path(scratch)
        path = kind.make(folder)
        whole = path.read_bytes()
        quiet = os.open(os.devnull, os.O_RDWR)
        os.dup2(quiet, 1)
        kind.read(folder)
        os.dup2(quiet, 2)
        send(answers, whole)
        _limit()
        for data in _messages(requested):
            path.write_bytes(data)
            send(answers, _read(kind, folder))


def _read(kind: Kind, folder: Path) -> bytes:
    try:
        kind.read(folder)
    except BertwrightError as error:
        return b"refused: " + str(error).encode("utf-8", "replace")[:500]
    except BaseException:
        return b"raised: " + traceback.format_exc().encode("utf-8", "replace")[-1500:]
    return b"read"


def _quick_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 1 << 28 else None


def _limit() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _messages(stream: BinaryIO) -> Iterator[bytes]:
    while header := stream.read(4):
        yield stream.read(struct.unpack("<I", header)[0])


def send(stream: BinaryIO, message: bytes) -> None:
    """Write a message with its length before it."""
    stream.write(struct.pack("<I", len(message)) + message)
    stream.flush()
