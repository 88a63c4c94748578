"""The builtin corpus: docstrings become prose, and the same installation gives the same text."""

from __future__ import annotations

import email
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import zstandard

from bertwright.corpus import builtin
from bertwright.corpus.builtin import (
    docstrings_of,
    paragraphs_of,
    paragraphs_of_all,
    python_docs,
    write_python_docs,
)
from bertwright.corpus.prose import prose_of

DOCSTRING = """all(input, dim=None) -> Tensor

    Return True if *all* elements of :attr:`input` evaluate to ``True``, as
    :func:`~torch.any` does for one [1]_.

    .. note:: This is slow.

    Parameters
    ----------
    axis : int, optional
        Axis along which the elements are compared. Default is `None`.

    Args:
        out (Tensor): the place for the answer

    - The first item of a list.
    - The second item is a dash - like this one.

    For example::

        x = the_code_of(an, example)

    Examples
    --------
    Compare the elements of a list.

    >>> all([1, 2])
    True

    ====  =====
    a     b
    ====  =====

    The value of :math:`x^2` is lost. See the `guide <https://example.org>`_ for more.
    """


def test_a_docstring_becomes_its_prose() -> None:
    assert prose_of(DOCSTRING) == [
        "Return True if all elements of input evaluate to True, as any does for one.",
        "Axis along which the elements are compared. Default is None.",
        "The place for the answer.",
        "The first item of a list.",
        "The second item is a dash - like this one.",
        "Compare the elements of a list.",
        "See the guide for more.",
    ]


def test_docstrings_are_found_in_the_order_of_the_source(tmp_path: Path) -> None:
    source = tmp_path / "x.py"
    source.write_text(
        '"""The module."""\nx = """no docstring"""\nclass A:\n    r"""The \\class."""\n    def f(self):\n'
        "        '''The\\nmethod.'''\nadd_docstr(f,\n\"\"\"The function.\"\"\")\n"
    )
    assert list(docstrings_of(source)) == ["The module.", "The \\class.", "The\nmethod.", "The function."]
    source.write_bytes(b'"""\xff"""')
    assert list(docstrings_of(source)) == []


def test_the_corpus_is_written_whole_and_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(Path(email.__file__).parent))
    once = write_python_docs(tmp_path / "a", ()).read_bytes()
    assert write_python_docs(tmp_path / "b", ()).read_bytes() == once
    rows = [json.loads(line) for line in zstandard.ZstdDecompressor().stream_reader(once).read().splitlines()]
    assert len(rows) > 10
    assert all(set(row) == {"id", "text"} and len(row["text"]) >= builtin.SHORTEST_DOCUMENT for row in rows)


def test_the_prose_of_numpy_has_sentences_and_no_code() -> None:
    documents = [text for name, text in python_docs(["numpy"]) if name.startswith("numpy.")]
    paragraphs = "\n".join(documents).split("\n")
    assert sum(map(len, documents)) > 300_000
    assert len(set(paragraphs)) == len(paragraphs)
    assert sum(">>>" in p or "\\" in p or "``" in p or " = " in p for p in paragraphs) == 0
    assert any("Return" in p and "True if" in p for p in paragraphs)


def test_a_helper_changes_nothing_but_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that reads every other file, one that cannot be started, and one that fails: the same paragraphs."""
    for number in range(7):
        (tmp_path / f"m{number}.py").write_text(f'"""The module of number {number} is one that does a thing."""\n')
    sources = sorted(tmp_path.glob("*.py"))
    alone = [paragraphs_of(source) for source in sources]
    assert all(len(paragraphs) == 1 for paragraphs in alone)
    monkeypatch.setattr(builtin, "WORTH_A_HELPER", 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert builtin._ask_helper(sources) == alone
    assert paragraphs_of_all(sources) == alone
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    assert paragraphs_of_all(sources) == alone
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert paragraphs_of_all(sources) == alone
