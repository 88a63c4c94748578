"""No test holds an error to its wording: what `match=` asks for are files, flags, values and a word or two."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
WORDING = re.compile(r"(?:[a-z]{2,},? ){4,}")
"""Plain words in a row: a phrase that someone may well put better."""


def patterns_in(tree: ast.Module) -> list[ast.Constant]:
    """Return the strings that a file passes as `match=`, pieces of f-strings included."""
    given = [
        word.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for word in call.keywords
        if word.arg == "match"
    ]
    nodes = [node for value in given for node in ast.walk(value)]
    return [node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_messages_are_matched_by_facts() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(TESTS.rglob("test_*.py"))}
    found = [
        f"{path.relative_to(TESTS)}:{node.lineno}: {node.value}"
        for path, tree in trees.items()
        for node in patterns_in(tree)
        if WORDING.search(str(node.value))
    ]
    assert found == []


def test_wording_is_seen() -> None:
    (pattern,) = patterns_in(ast.parse("with pytest.raises(E, match='there is no such file here'): pass"))
    assert WORDING.search(pattern.value)
    assert not WORDING.search("a.txt line 3.*--encoding")
