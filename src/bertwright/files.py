"""Writes files whole or not at all, names what they hold by a digest, and says beforehand whether they will fit.

Everything bertwright writes for keeps goes through here: it is written beside its place, flushed to disk, and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bertwright.errors import DiskSpaceError, InputError, OutputExistsError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or folder to; on success it takes the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    remove(aside)
    try:
        yield aside
    except BaseException:
        remove(aside)
        raise
    _flush(aside)
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(aside, path)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return what the JSON file `path` holds; OSError and ValueError pass through."""
    return json.loads(path.read_text(encoding="utf-8"))


def inside(folder: Path, name: object) -> Path:
    """Return the path of a member of `folder` that a manifest there names; raises InputError where it leads out of it.

    A name from a file of someone else may be absolute, climb with "..", or be a link to elsewhere.
    """
    path = folder / name if isinstance(name, str) and name and "\0" not in name else None
    if path is None or not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder} names the file {name!r}, which does not lie in it; it is not read")
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Delete a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def refuse_existing(path: Path, *, instead: str) -> None:
    """Raise OutputExistsError where `path` is a file or a folder that holds something; `instead` says what to do."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise OutputExistsError(f"{path} already exists and is not empty; {instead}")


def require_space(folder: Path, needed: int, *, what: str) -> None:
    """Raise DiskSpaceError if the disk of `folder` (which need not exist yet) has fewer than `needed` bytes free."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DiskSpaceError(
            f"{what} will need about {human_bytes(needed)} in {folder}, but its disk has {human_bytes(free)} free; "
            "free some space or give another --out"
        )


def human_bytes(count: float) -> str:
    """Return a byte count as people write it, e.g. 1.5 GB (powers of 1,000)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _flush(path: Path) -> None:
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
