"""Turns addresses such as s3://bucket/texts or https://host/a.jsonl.zst into files read as they come, by fsspec.

Nothing is fetched beforehand and nothing kept: a file is read from its front, and only Parquet also from its end. The
libraries behind a protocol (s3fs, aiohttp ...) are needed when an address of theirs is given, and not before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa

from bertwright.errors import CorpusError

READ_AHEAD = 8 << 20
"""Bytes fetched at a time: large enough that the way there and back, some 50 ms, does not count."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")
_SEVERAL = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class RemoteFile:
    """A file somewhere else: its address, and its bytes where the other side gives them (else 0)."""

    address: str
    size: int

    def __str__(self) -> str:
        """Return the address."""
        return self.address

    @property
    def name(self) -> str:
        """The last part of the address, without what follows a question mark."""
        return PurePosixPath(self.address.split("?")[0]).name

    @property
    def suffix(self) -> str:
        """The ending of the name, such as .zst."""
        return PurePosixPath(self.name).suffix

    def with_suffix(self, suffix: str) -> RemoteFile:
        """Return the address with another ending."""
        return replace(self, address=self.address.split("?")[0].removesuffix(self.suffix) + suffix)


TextFile = Path | RemoteFile
"""What an INPUT comes down to: a file of this machine or of another."""


def is_address(name: str) -> bool:
    """Return whether an INPUT is an address rather than a path."""
    return _ADDRESS.match(name) is not None


def remote_files(name: str, known: Callable[[RemoteFile], bool]) -> list[RemoteFile]:
    """Return the files an address names, in the order of their names: itself, those of a folder, or of a glob.

    Of a folder or glob only those that are `known`, hidden ones passed over. Raises CorpusError where the protocol
    needs a library that is absent, or where nothing is there.
    """
    try:
        system, path = fsspec.core.url_to_fs(name)
        single = RemoteFile(name, 0)
        if known(single) and not _SEVERAL.search(path):
            return [replace(single, size=int(system.info(path).get("size") or 0))]
        details = system.glob(path, detail=True) if _SEVERAL.search(path) else system.find(path, detail=True)
    except ImportError as error:
        raise CorpusError(_lacks_package(name, error)) from error
    except Exception as error:
        raise CorpusError(f"{name} cannot be reached ({_reason(error)}); check the address and your access") from error
    found = [
        RemoteFile(system.unstrip_protocol(place), int(about.get("size") or 0))
        for place, about in sorted(details.items())
        if about.get("type", "file") == "file" and not _hidden(place, path)
    ]
    return [file for file in found if known(file)]


def _hidden(place: str, folder: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(place.removeprefix(folder)).parts)


def _lacks_package(name: str, error: ImportError) -> str:
    return f"{name} cannot be read without another package ({error}); install it, or copy the files here"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": .")


class _Reads:
    """A remote file as pyarrow reads one; whatever error its library raises comes out as CorpusError."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._file: Any = self._mapped(lambda: fsspec.open(address, "rb", block_size=READ_AHEAD).open())

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def read(self, count: int = -1) -> bytes:
        return bytes(self._mapped(lambda: self._file.read(count)))

    def seek(self, place: int, whence: int = 0) -> int:
        return int(self._mapped(lambda: self._file.seek(place, whence)))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()

    def _mapped(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except ImportError as error:
            raise CorpusError(_lacks_package(self._address, error)) from error
        except Exception as error:
            raise CorpusError(f"{self._address} cannot be read ({_reason(error)}); try it again") from error


def open_bytes(file: TextFile) -> pa.NativeFile:
    """Return a file opened for reading, wherever it is; `tell()` gives the bytes taken so far."""
    return pa.PythonFile(_Reads(file.address), mode="r") if isinstance(file, RemoteFile) else pa.OSFile(str(file))


def size_of(file: TextFile) -> int:
    """Return the bytes of a file as it is (compressed); 0 where a remote side does not give it."""
    return file.size if isinstance(file, RemoteFile) else file.stat().st_size


def total_size(files: Sequence[TextFile]) -> int:
    """Return the bytes of several files together."""
    return sum(size_of(file) for file in files)
