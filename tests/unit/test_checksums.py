"""A sealed folder tells which of its files is not as it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash

from bertwright.checksums import damage, digest_of, write_checksums


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good").mkdir()
    (tmp_path / "a").write_bytes(bytes(range(256)) * 40_000)
    (tmp_path / "good" / "b").write_bytes(b"b")
    write_checksums(tmp_path, "list.json", told="this")
    return tmp_path


def test_a_whole_folder(folder: Path) -> None:
    assert damage(folder, "list.json") is None
    listed = json.loads((folder / "list.json").read_text())
    assert set(listed["files"]) == {"a", "good/b"}
    assert listed["told"] == "this"
    assert digest_of(folder / "a") == xxhash.xxh3_128_hexdigest((folder / "a").read_bytes())


def flip(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: flip(f / "a"), "the bytes of a are not those"),
        (lambda f: (f / "a").write_bytes((f / "a").read_bytes()[:-1]), "a has 10,239,999 bytes instead of 10,240,000"),
        (lambda f: (f / "good" / "b").unlink(), "good/b is missing"),
        (lambda f: (f / "list.json").unlink(), "list.json is missing"),
        (lambda f: (f / "list.json").write_text((f / "list.json").read_text()[:50]), "list.json cannot be read"),
        (lambda f: (f / "list.json").write_text("[]"), "list.json cannot be read"),
        (lambda f: (f / "list.json").write_text('{"files": {"../x": {}}}'), "../x is missing"),
    ],
)
def test_damage_is_named(folder: Path, harm: Callable[[Path], object], message: str) -> None:
    harm(folder)
    assert message in str(damage(folder, "list.json"))
