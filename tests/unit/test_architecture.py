"""Holds the table of rooms: a room imports only rooms before it, nothing goes in circles, folders stay small."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import PurePosixPath

FOUNDATION = {
    "types", "nested", "config", "configs", "errors", "files", "checksums", "rng", "log", "stopping", "system",
    "device", "compiler", "flags", "result", "batch_layout",
}  # fmt: skip
ROOMS = [
    {"tokenizer"}, {"corpus"}, {"model", "objectives"}, {"data"}, {"tasks"}, {"hub"}, {"inference"}, {"inspection"},
    {"train"}, {"reports"}, {"search"}, {"distillation"}, {"planning"}, {"server"}, {"verbs"}, {"cli"},
]  # fmt: skip
"""Rooms in the order of the walk; each imports the foundation and rooms before it, and itself."""
FRONT_DOORS = {"__init__.py", "__main__.py"}
WITHOUT_TORCH = {"tokenizer", "corpus"} | FOUNDATION - {"device", "compiler"}
APART = {"model": {"objectives"}, "objectives": {"model"}}
"""Rooms of one rank that do not know each other."""
MOST_FILES = 20
DRAWERS = {"__init__", "__main__", "base", "config", "task", "reader", "metrics", "decode"}
"""File names that may stand in several folders, beside those of verbs."""

Trees = dict[str, ast.Module]


def imports(tree: ast.Module) -> set[str]:
    """Return the modules a file imports anywhere, also inside functions, but not for type checking alone.

    What is imported from a module is among them as if it were a module too.
    """
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
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room_of(path: str) -> str:
    """Return the room, or the module of the foundation, that a file belongs to."""
    return path.split("/")[0].removesuffix(".py")


def rank_of(room: str) -> int:
    """Return where a room stands on the walk; the foundation before all."""
    return next((rank for rank, rooms in enumerate(ROOMS, start=1) if room in rooms), 0)


def forbidden(path: str, tree: ast.Module) -> set[str]:
    """Return the rooms that a file imports although they come after it on the walk."""
    room = room_of(path)
    if path in FRONT_DOORS:
        return set()
    used = {name.split(".")[1] for name in imports(tree) if name.startswith("bertwright.")}
    return {other for other in used if rank_of(other) > rank_of(room)} | (used & APART.get(room, set()))


def test_files_import_only_rooms_before_them(trees: Trees) -> None:
    assert {path: rooms for path, tree in trees.items() if (rooms := forbidden(path, tree))} == {}


def test_nothing_goes_in_circles(trees: Trees) -> None:
    modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in trees}
    needs = {
        module: {name.removeprefix("bertwright.") for name in imports(trees[path])} & (modules.keys() - {module})
        for module, path in modules.items()
        if path not in FRONT_DOORS
    }
    while free := {module for module, used in needs.items() if not used & needs.keys()}:
        needs = {module: used for module, used in needs.items() if module not in free}
    assert needs == {}


def test_folders_are_small_and_names_stand_for_one_thing(trees: Trees) -> None:
    folders = Counter(str(PurePosixPath(path).parent) for path in trees)
    assert {folder: count for folder, count in folders.items() if count > MOST_FILES} == {}
    verbs = {PurePosixPath(path).stem for path in trees if path.startswith("verbs/")}
    names = Counter(PurePosixPath(path).stem for path in trees if not path.startswith("cli/"))
    assert {name for name, count in names.items() if count > 1} - DRAWERS == set()
    assert {PurePosixPath(path).stem for path in trees if path.startswith("cli/")} - verbs <= {
        "main",
        "command",
        "overrides",
        "help_panels",
        "__init__",
    }


def test_raw_text_never_needs_torch(trees: Trees) -> None:
    assert [path for path, tree in trees.items() if room_of(path) in WITHOUT_TORCH and needs_torch(tree)] == []


def needs_torch(tree: ast.Module) -> bool:
    """Say whether a file imports torch."""
    return any(name.split(".")[0] == "torch" for name in imports(tree))


def test_every_file_opens_with_a_sentence(trees: Trees) -> None:
    assert [path for path, tree in trees.items() if not opens_with_a_sentence(tree)] == []


def opens_with_a_sentence(tree: ast.Module) -> bool:
    """Say whether a file has a docstring that begins with a sentence."""
    docstring = ast.get_docstring(tree)
    return bool(docstring) and (docstring.split("\n\n")[0].rstrip().endswith((".", ":")) or "\n" in docstring)


def test_every_room_is_in_the_table(trees: Trees) -> None:
    assert {room_of(path) for path in trees} == FOUNDATION.union(*ROOMS) | {"__init__", "__main__"}


def test_offenders_are_seen() -> None:
    assert forbidden("corpus/clean.py", ast.parse("def f():\n    from bertwright.train import loop")) == {"train"}
    assert forbidden("files.py", ast.parse("import bertwright.corpus.clean")) == {"corpus"}
    assert forbidden("data/prefetch.py", ast.parse("from bertwright.corpus import shards")) == set()
    assert forbidden("corpus/clean.py", ast.parse("if TYPE_CHECKING:\n    from bertwright.train import loop")) == set()
    assert forbidden("objectives/mlm.py", ast.parse("from bertwright.model import bert")) == {"model"}
    assert needs_torch(ast.parse("def f():\n    import torch.nn"))
    assert not opens_with_a_sentence(ast.parse("import torch"))
    assert not opens_with_a_sentence(ast.parse('"""Things"""'))
