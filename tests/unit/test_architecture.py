"""Holds the table of rooms: a room imports only rooms before it on the walk, corpus never needs torch, and so on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "bertwright"
FOUNDATION = {"types", "config", "errors", "files", "checksums", "rng", "log"}
ALLOWED = {
    "tokenizer": set(),
    "corpus": {"tokenizer"},
    "data": {"corpus"},
    "objectives": set(),
    "model": set(),
    "train": set(),
    "evaluate": {"tokenizer", "corpus", "data", "objectives", "model", "train"},
    "tasks": {"tokenizer", "corpus", "data", "model", "evaluate"},
    "export": {"tokenizer", "model"},
    "recipes": {"tokenizer", "corpus", "data", "objectives", "model", "train", "evaluate", "tasks", "export"},
    "cli": {"recipes"},
}
FRONT_DOORS = {"__init__.py", "__main__.py"}
WITHOUT_TORCH = {"tokenizer", "corpus"}


def imports(path: Path) -> set[str]:
    """Return the modules a file imports anywhere, also inside functions, but not for type checking alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def rooms(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("bertwright.")}


FILES = sorted(path for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_rooms_before_it(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    if room.endswith(".py"):
        allowed = FOUNDATION if room not in FRONT_DOORS else FOUNDATION | set(ALLOWED)
    else:
        allowed = FOUNDATION | ALLOWED[room] | {room}
    assert rooms(path) <= allowed


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_raw_text_never_needs_torch(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in WITHOUT_TORCH | FOUNDATION:
        assert not any(name.split(".")[0] == "torch" for name in imports(path))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_file_opens_with_a_sentence(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.split("\n\n")[0].rstrip().endswith((".", ":")) or "\n" in docstring


def test_every_room_is_in_the_table() -> None:
    assert {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"} == set(ALLOWED)
