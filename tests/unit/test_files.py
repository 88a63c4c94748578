"""Folders are held by one process, replaced whole, and what the system says of a disk becomes one sentence."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bertwright.errors import BusyError, DiskSpaceError, OutputExistsError, ReadOnlyError
from bertwright.files import LOCK, clear_leftovers, clear_output, locked, map_os_errors, refuse_existing, written_aside


def test_a_held_folder_is_refused_and_its_holder_named(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(BusyError, match=f"{os.getpid()}.*--out"),
        locked(tmp_path),
    ):
        pass
    assert not any(tmp_path.iterdir())
    with locked(tmp_path):
        assert (tmp_path / LOCK).is_file()


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from bertwright.files import clear_output, locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=f"process {holder.pid} "), locked(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    assert (tmp_path / LOCK).is_file()
    with locked(tmp_path):
        pass


def test_a_folder_made_for_nothing_is_deleted_again(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path / "run"):
        raise RuntimeError
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    with pytest.raises(OutputExistsError, match="is a file"), locked(tmp_path / "file"):
        pass


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for place in (tmp_path / "file" / "x", tmp_path / "file" / "deep" / "x", tmp_path / ("a" * 300) / "x"):
        with pytest.raises(ReadOnlyError, match=r"folder.*made"), written_aside(place):
            raise AssertionError
    with pytest.raises(ReadOnlyError, match="written"), written_aside(tmp_path / ("a" * 250)):
        raise AssertionError
    with pytest.raises(ReadOnlyError, match="made"), locked(tmp_path / "file" / "run"):
        raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


def test_what_a_killed_process_left_is_nothing_and_is_cleared(tmp_path: Path) -> None:
    """A folder about to be replaced comes back, one that was replaced goes, and so does what was unfinished."""
    (tmp_path / LOCK).touch()
    (tmp_path / ".config.toml.partial").touch()
    refuse_existing(tmp_path, instead="")
    for name in (".a.partial", ".b.replaced", ".c.replaced", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "told").write_text(name)
    clear_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "b", "c"]
    assert (tmp_path / "c" / "told").read_text() == "c"


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with written_aside(tmp_path / "folder") as aside:
            aside.mkdir()
            (aside / text).write_text(text)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "second"]
    with pytest.raises(OSError, match="full"), written_aside(tmp_path / "folder"):
        raise OSError(errno.ENOSPC, "full")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "second"]


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (errno.ENOSPC, DiskSpaceError, "disk"),
        (errno.EFBIG, DiskSpaceError, "disk"),
        (errno.EROFS, ReadOnlyError, "Read-only file system"),
        (errno.EACCES, ReadOnlyError, "written"),
        (errno.EIO, OSError, "Input/output"),
    ],
)
def test_words_of_the_system(tmp_path: Path, number: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message), map_os_errors(tmp_path, saved=", then again"):
        raise OSError(number, os.strerror(number))


def test_only_what_an_earlier_call_wrote_is_overwritten(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    for name in ("config.toml", "model/config.json", ".lock", ".partly.partial"):
        (run / name).write_text("x", encoding="utf-8")
    ours = ("config.toml", "model")
    with pytest.raises(OutputExistsError, match="this call"):
        clear_output(run, ours=ours, needed=[run / "model"])
    clear_output(run, ours=ours, needed=[tmp_path / "elsewhere"], dry_run=True)
    (run / "notes.md").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExistsError, match=r"notes\.md"):
        clear_output(run, ours=ours, needed=[])
    assert (run / "model" / "config.json").is_file()
    (run / "notes.md").unlink()
    clear_output(run, ours=ours, needed=[tmp_path / "elsewhere"])
    assert [one.name for one in run.iterdir()] == [".lock"]
    clear_output(tmp_path / "absent", ours=ours, needed=[])
