"""Turns figures into what a verb returns: a dict or a list for programs, which prints as the command line shows it.

>>> from bertwright.log import Facts
>>> result = Result({"loss": 3.43}, Facts("held-out text", {"loss": "3.43 nats"}))
>>> result["loss"]
3.43
>>> "3.43 nats" in str(result)
True
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from bertwright.log import Block, Raw, print_blocks, print_lines

T = TypeVar("T")
WIDTH = 100
"""Columns of what is printed elsewhere than on a terminal."""


class Shown:
    """What a verb returns: `str()` of it is what the command line prints.

    blocks  what it shows, in order; empty where another process of the run shows it
    """

    blocks: tuple[Block, ...] = ()

    def __str__(self) -> str:
        """Return what the command line prints, without colours."""
        if not self.blocks:
            return super().__repr__()
        file = io.StringIO()
        console = Console(file=file, width=WIDTH, highlight=False, color_system=None)
        for block in self.blocks:
            block.show(console)
        return file.getvalue().rstrip("\n")

    def __repr__(self) -> str:
        """Return the same, for notebooks."""
        return str(self)

    def to_json(self) -> str:
        """Return the figures as JSON."""
        return json.dumps(plain(self), indent=2, ensure_ascii=False)


class Result(Shown, dict[str, Any]):
    """Figures by name, and what they look like to people."""

    def __init__(self, figures: Mapping[str, Any], *blocks: Block) -> None:
        """Take the figures, and the facts, tables and lines that show them."""
        super().__init__(figures)
        self.blocks = blocks


class ResultList(Shown, list[T]):
    """Answers in order, and what they look like to people; as JSON an object a line where each answers a question."""

    def __init__(self, items: Iterable[T], *blocks: Block, a_line_each: bool = False) -> None:
        """Take the answers, and the facts, tables and lines that show them."""
        super().__init__(items)
        self.blocks, self.a_line_each = blocks, a_line_each

    def to_json(self) -> str:
        """Return the answers as JSON: one list, or an object a line."""
        if not self.a_line_each:
            return super().to_json()
        return "\n".join(json.dumps(plain(one), ensure_ascii=False) for one in self)


class ResultStream(Shown):
    """Answers of one kind that are printed as they come and not kept; where people get a table of them, at the end."""

    def __init__(
        self, chunks: Iterable[Sequence[dict[str, Any]]], show: Callable[[Sequence[dict[str, Any]]], Shown]
    ) -> None:
        """Take the answers, some at a time, and what turns answers into what people and programs see."""
        self.chunks, self.show = chunks, show

    def print(self, *, as_json: bool) -> None:
        """Print the answers, as JSON or as lines chunk after chunk."""
        table: list[dict[str, Any]] = []
        for chunk in self.chunks:
            shown = self.show(chunk)
            if as_json:
                print_lines([shown.to_json()])
            elif all(isinstance(block, Raw) for block in shown.blocks):
                print_blocks(*shown.blocks)
            else:
                table += chunk
        print_blocks(*self.show(table).blocks)


def print_result(result: Shown | None, *, as_json: bool) -> None:
    """Print a result to stdout, as tables or as JSON; nothing where there is none, or another process shows it."""
    if isinstance(result, ResultStream):
        result.print(as_json=as_json)
    elif result is None or not result.blocks:
        return
    elif as_json:
        print_lines([result.to_json()])
    else:
        print_blocks(*result.blocks)


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: paths as text, what is no number as null, objects with fields as mappings.

    >>> plain({"file": Path("a.txt"), "loss": float("nan")})
    {'file': 'a.txt', 'loss': None}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):  # a number or an array of numpy
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, (Path, BaseException)) else value
