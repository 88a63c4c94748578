"""The walks that docs/architecture.md lists, function by function, are those of the code, in both languages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `([\w/]+\.py)` \| ((?:`[\w.]+` ?)+)\|$", re.MULTILINE)
MOST = 30


def walk_of(page: str, verb: str) -> list[tuple[str, str]]:
    """Return the files and functions of the section about the walk of a verb, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    (section,) = (
        part for part in text.split("\n## ")[1:] if re.match(rf".*{verb}.*(function by function|逐个函数)", part)
    )
    return [(file, name) for file, names in ROW.findall(section) for name in re.findall(r"`([\w.]+)`", names)]


def functions_of(file: Path) -> set[str]:
    """Return the functions of a file, methods as Class.method."""
    found: set[str] = set()

    def collect(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                name = f"{prefix}{child.name}"
                found.update({name} if isinstance(child, ast.FunctionDef) else ())
                collect(child, f"{name}.")

    collect(ast.parse(file.read_text(encoding="utf-8")), "")
    return found


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/zh/architecture.md"])
@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_the_walk_of_a_verb_is_that_of_the_code(page: str, verb: str) -> None:
    walk = walk_of(page, verb)
    assert 15 < len(walk) <= MOST
    files = {file: functions_of(ROOT / "src" / "bertwright" / file) for file, _ in walk}
    assert [(file, name) for file, name in walk if name not in files[file]] == []


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_both_languages_list_the_same_walk(verb: str) -> None:
    assert walk_of("docs/architecture.md", verb) == walk_of("docs/zh/architecture.md", verb)
