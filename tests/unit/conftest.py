"""Makes the syntax trees of the package, each file parsed once for all tests that look at them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "bertwright"


@pytest.fixture(scope="session")
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of every file, by its path inside the package."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}
