"""Holds the table of rooms: a room imports only rooms before it on the walk, corpus never needs torch, and so on."""

from __future__ import annotations

import ast

FOUNDATION = {"types", "config", "errors", "files", "checksums", "rng", "log", "stopping", "system"}
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


Trees = dict[str, ast.Module]


def imports(tree: ast.Module) -> set[str]:
    """Return the modules a file imports anywhere, also inside functions, but not for type checking alone."""
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


def forbidden(path: str, tree: ast.Module) -> set[str]:
    """Return the rooms that a file imports although they come after it on the walk."""
    room, *inside = path.split("/")
    if inside:
        allowed = FOUNDATION | ALLOWED[room] | {room}
    else:
        allowed = FOUNDATION | set(ALLOWED) if room in FRONT_DOORS else FOUNDATION
    return {name.split(".")[1] for name in imports(tree) if name.startswith("bertwright.")} - allowed


def test_files_import_only_rooms_before_them(trees: Trees) -> None:
    assert {path: rooms for path, tree in trees.items() if (rooms := forbidden(path, tree))} == {}


def test_raw_text_never_needs_torch(trees: Trees) -> None:
    assert [path for path, tree in trees.items() if is_without_torch(path) and needs_torch(tree)] == []


def is_without_torch(path: str) -> bool:
    return path.split("/")[0].removesuffix(".py") in WITHOUT_TORCH | FOUNDATION


def needs_torch(tree: ast.Module) -> bool:
    return any(name.split(".")[0] == "torch" for name in imports(tree))


def test_every_file_opens_with_a_sentence(trees: Trees) -> None:
    assert [path for path, tree in trees.items() if not opens_with_a_sentence(tree)] == []


def opens_with_a_sentence(tree: ast.Module) -> bool:
    docstring = ast.get_docstring(tree)
    return bool(docstring) and (docstring.split("\n\n")[0].rstrip().endswith((".", ":")) or "\n" in docstring)


def test_every_room_is_in_the_table(trees: Trees) -> None:
    assert {path.split("/")[0] for path in trees if "/" in path} == set(ALLOWED)


def test_offenders_are_seen() -> None:
    assert forbidden("corpus/readers/documents.py", ast.parse("def f():\n    from bertwright.train import loop")) == {
        "train"
    }
    assert forbidden("files.py", ast.parse("import bertwright.corpus.readers.documents")) == {"corpus"}
    assert forbidden("data/pretraining/pairs.py", ast.parse("from bertwright.corpus import shards")) == set()
    assert (
        forbidden("corpus/readers/documents.py", ast.parse("if TYPE_CHECKING:\n    from bertwright.train import loop"))
        == set()
    )
    assert is_without_torch("corpus/readers/documents.py")
    assert not is_without_torch("data/pretraining/pairs.py")
    assert needs_torch(ast.parse("def f():\n    import torch.nn"))
    assert not opens_with_a_sentence(ast.parse("import torch"))
    assert not opens_with_a_sentence(ast.parse('"""Things"""'))
