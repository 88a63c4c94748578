"""Writes files whole or not at all, holds a folder for one process, and says whether what is written will fit.

Everything bertwright writes for keeps goes through here: it is written beside its place, flushed to disk, and renamed.
Names and folders are flushed too: after a power cut a file is there whole, or its place is as it was before.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout
from rich import filesize

from bertwright.errors import BusyError, DiskSpaceError, InputError, OutputExistsError, ReadOnlyError
from bertwright.log import note

LOCK = ".lock"
OWNER_ALONE = 0o600
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What disks shared over a network answer where they know no locks."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SHUT = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or folder to; on success it takes the place of `path`.

    Raises ReadOnlyError or DiskSpaceError where nothing can be written there.
    """
    aside = path.with_name(f".{path.name}.partial")
    mode = _require_place(aside)
    try:
        yield aside
    except BaseException:
        remove(aside)
        raise
    _open_up(aside, mode)
    _flush(aside)
    if path.is_dir():
        replaced = _replaced(path)
        remove(replaced)
        os.replace(path, replaced)
        os.replace(aside, path)
        remove(replaced)
    else:
        os.replace(aside, path)
    _flush_entry(path.parent)


def _require_place(path: Path) -> int:
    """Make the folder of `path`, try that a file can be written there, leave none; return the mode that files get."""
    make_folder(path.parent)
    try:
        with map_os_errors(path.parent):
            remove(path)
            path.touch()
            mode = stat.S_IMODE(path.stat().st_mode)
            path.unlink()
    except OSError as error:
        raise ReadOnlyError(f"nothing can be written in {path.parent} ({error.strerror}); write elsewhere") from error
    return mode


def _open_up(path: Path, mode: int) -> None:
    """Give files that a library made for their owner alone, as safetensors does, the mode of all others."""
    for place in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if place.is_file() and not place.is_symlink() and stat.S_IMODE(place.stat().st_mode) == OWNER_ALONE != mode:
            place.chmod(mode)


def make_folder(path: Path) -> None:
    """Make a folder and those it lies in, where they are not there; raises ReadOnlyError where that cannot be."""
    try:
        with map_os_errors(path):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReadOnlyError(f"the folder {path} cannot be made ({error.strerror}); write elsewhere") from error


def clear_leftovers(folder: Path) -> None:
    """Delete what a killed process was writing in `folder`, and put back a folder it was just about to replace."""
    for path in [*folder.glob(".*.partial"), *folder.glob(".*.replaced")] if folder.is_dir() else []:
        place = path.with_name(path.name[1:].removesuffix(".replaced"))
        if path.suffix == ".replaced" and not place.exists():
            os.replace(path, place)
        else:
            remove(path)


def _replaced(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process, making it where it is not there; the lock dies with the process, however it ends.

    Raises BusyError where another process holds it. A folder made here that is still empty is deleted again.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputExistsError(f"{folder} is a file; give another --out")
    made = not folder.exists()
    make_folder(folder)
    with map_os_errors(folder):
        lock = _lock(folder / LOCK)
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
        if lock is not None:
            lock.release()
        if made:
            with suppress(OSError):
                folder.rmdir()


def _lock(path: Path) -> BaseFileLock | None:
    """Lock a file and write down whose it is; None, with a note, on a disk that knows no locks."""
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"{path.parent} is in use by {_owner(path)}; wait for it to end, stop it, or give another --out"
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        note(f"the disk of {path.parent} knows no locks ({error}): start nothing else with the same --out meanwhile")
        return None
    if not isinstance(lock, SoftFileLock):  # that one keeps notes of its own in the file
        with suppress(OSError):  # Windows lets nobody write to a locked file
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    return lock


def _owner(path: Path) -> str:
    """Return whose lock a file is, as far as it says."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")[:200].strip()
    except OSError:
        text = ""
    return text if text.startswith("process ") else "another process"


@contextmanager
def map_os_errors(folder: Path, *, saved: str = "") -> Iterator[None]:
    """Turn the system's error that something cannot be written in `folder` into DiskSpaceError or ReadOnlyError.

    `saved` is put behind it: what is not lost, and how to go on.
    """
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        if error.errno in FULL:
            raise DiskSpaceError(f"{place} could not be written, its disk is full; free some space{saved}") from error
        if error.errno in SHUT:
            raise ReadOnlyError(
                f"{place} cannot be written ({error.strerror}); change its permissions or give another --out"
            ) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all, with the same bytes on every system."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return what the JSON file `path` holds, halves of characters as U+FFFD.

    OSError and ValueError pass through, one for values nested too deeply.
    """
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text)
        if "\\ud" not in text.lower():
            return value
        written = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
        return json.loads(written.decode("utf-16", "replace"))
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error


def optional_object(file: Path, *, error: type[Exception], fix: str) -> dict[str, Any]:
    """Return the JSON object in a file, {} where there is none; raises `error`, which says how to `fix` it."""
    if not file.is_file():
        return {}
    try:
        values = read_json(file)
    except (OSError, ValueError) as problem:
        raise error(f"{file} is damaged ({problem}); {fix}") from problem
    if not isinstance(values, dict):
        raise error(f"{file} should hold a JSON object; {fix}")
    return values


def safe_join(folder: Path, name: object) -> Path:
    """Return the path of a member of `folder` that a manifest there names; raises InputError where it leads out of it.

    A name from a file of someone else may be absolute, climb with "..", be a link to elsewhere, or no name at all: of
    5,000 letters, or of half a character.
    """
    path = folder / name if isinstance(name, str) and name and "\0" not in name else None
    try:
        lies_in_it = path is not None and path.resolve().is_relative_to(folder.resolve())
        if path is not None:
            path.is_file()  # for what it raises: no system has files of such names
    except (OSError, ValueError, RuntimeError):
        lies_in_it = False
    if path is None or not lies_in_it:
        raise InputError(f"{folder} names the file {str(name)[:200]!r}, which does not lie in it; it is not read")
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
    """Raise OutputExistsError where `path` is a file or a folder that holds something; `instead` says what to do.

    A lock, or what a killed process had not finished writing, is nothing.
    """
    if path.is_file() or (path.is_dir() and any(not _is_left(entry) for entry in path.iterdir())):
        raise OutputExistsError(f"{path} already exists and is not empty; {instead}")


def clear_output(path: Path, *, ours: Sequence[str], needed: Iterable[Path | str], dry_run: bool = False) -> None:
    """Delete what an earlier call left in an output folder; nothing, where `dry_run` asks whether that could be done.

    `ours` are patterns of the names that bertwright writes there. Raises OutputExistsError, with everything untouched,
    where anything else lies in the folder, or one of the files or folders `needed` for the new output.
    """
    if path.is_file():
        raise OutputExistsError(f"{path} is a file; give another --out")
    entries = list(path.iterdir()) if path.is_dir() else []
    others = [one.name for one in entries if not _is_left(one) and not any(fnmatch(one.name, name) for name in ours)]
    if others:
        raise OutputExistsError(
            f"{path} holds {', '.join(sorted(others)[:3])}, which is no part of such an output, so nothing is deleted; "
            "move it away or give another --out"
        )
    inside = next((one for one in map(Path, needed) if one.resolve().is_relative_to(path.resolve())), None)
    if inside is not None and entries:
        raise OutputExistsError(f"--overwrite would delete {inside}, which this call reads; give another --out")
    for entry in () if dry_run else entries:
        if entry.name != LOCK:
            remove(entry)


def require_space(folder: Path, needed: int, *, what: str) -> None:
    """Raise DiskSpaceError if the disk of `folder` (which need not exist yet) has fewer than `needed` bytes free."""
    free = free_space(folder)
    if free < needed:
        raise DiskSpaceError(
            f"{what} will need about {human_bytes(needed)} in {folder}, but its disk has {human_bytes(free)} free; "
            "free some space or give another --out"
        )


def free_space(folder: Path) -> int:
    """Return the bytes that are free on the disk of a folder, which need not exist yet."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


def human_bytes(count: float) -> str:
    """Return a byte count as people write it, e.g. 1.5 GB (powers of 1,000)."""
    return filesize.decimal(round(count))


def _is_left(path: Path) -> bool:
    return path.name == LOCK or (path.name.startswith(".") and path.suffix == ".partial")


def _flush(path: Path) -> None:
    """Wait until a file, or a folder with everything in it, is on the disk."""
    for place in [path, *path.rglob("*")] if path.is_dir() else [path]:
        _flush_entry(place)


def _flush_entry(path: Path) -> None:
    """Wait until the bytes of a file, or the names in a folder, are on the disk."""
    if path.is_dir() and sys.platform == "win32":
        return
    # Windows flushes only what is open for writing.
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush(path: Path) -> None:
    """Wait until what was written to a file is on the disk; a file that is not there is passed over."""
    if path.exists():
        _flush_entry(path)
