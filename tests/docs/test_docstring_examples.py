"""The examples (>>>) in docstrings give what they show; a line that is not run says why beside it."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import bertwright

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules() -> list[ModuleType]:
    """Return every module of the package but `__main__`, which runs a command when it is imported."""
    found = pkgutil.walk_packages(bertwright.__path__, "bertwright.")
    return [bertwright, *(importlib.import_module(one.name) for one in found if not one.name.endswith("__main__"))]


def failures_of(test: doctest.DocTest) -> str:
    """Run the examples of a docstring; return what went wrong."""
    written: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(test, out=written.append)
    return "".join(written) if failed else ""


def skipped_without_reason(test: doctest.DocTest) -> list[str]:
    """Return the lines that are not run although no comment, in them or in an example before them, says why."""
    lines = [line.strip().removesuffix("# doctest: +SKIP") for line in (test.docstring or "").splitlines()]
    commented = [place for place, line in enumerate(lines) if re.match(r">>> .*# .*\w", line)]
    skipped = [example for example in test.examples if example.options.get(doctest.SKIP)]
    return [example.source for example in skipped if not any(place <= example.lineno for place in commented)]


def test_every_example_gives_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for module in modules() for test in finder.find(module) if test.examples]
    assert len(tests) > 50
    failures = "\n".join(filter(None, map(failures_of, tests)))
    assert not failures, failures
    assert {test.name: lines for test in tests if (lines := skipped_without_reason(test))} == {}


def test_failures_are_seen() -> None:
    parse = doctest.DocTestParser().get_doctest
    assert "Expected" in failures_of(parse(">>> 1 + 1\n3\n", {}, "wrong", None, None))
    assert failures_of(parse(">>> 1 + 1\n2\n", {}, "right", None, None)) == ""
    assert skipped_without_reason(parse(">>> f()  # doctest: +SKIP\n", {}, "silent", None, None))
    assert not skipped_without_reason(parse(">>> f()  # takes an hour  # doctest: +SKIP\n", {}, "told", None, None))
