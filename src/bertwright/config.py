"""Reads settings: a recipe file, then the flags of the call, into one strict tree of typed sections.

A section is a frozen pydantic model that lives beside its owner (`model/config.py`, `train/schedule.py` ...). This
module only composes: later layers win, unknown keys fail with the nearest known one, and the resolved tree is saved as
TOML.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from bertwright.errors import ConfigError
from bertwright.files import write_text
from bertwright.nested import merge


class Section(BaseModel):
    """Base of every settings section: frozen, strict about unknown keys; each field carries its own description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Times = Literal["", "default", "layers"]
"""What a value that a search draws is multiplied by: nothing, the value that holds without a search, or the number of
blocks of the model."""


@dataclass(frozen=True)
class Between:
    """Numbers from `low` to `high` for a setting: drawn by their logarithm if `log`, integers if `whole`."""

    low: float
    high: float
    log: bool = False
    whole: bool = False
    times: Times = ""


@dataclass(frozen=True)
class OneOf:
    """Values that a search may give a setting."""

    values: tuple[bool | int | float | str | None, ...]
    times: Times = ""


Range = Between | OneOf
"""What a search may give a setting. A search space is a dictionary of them by the dotted names of settings, and stands
beside these settings."""

S = TypeVar("S", bound=Section)
KINDS = {
    "missing": "is missing",
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "string": "must be a text",
    "tuple": "must be a list",
    "list": "must be a list",
    "dict": "must be a section with settings of its own",
    "model": "must be a section with settings of its own",
    "finite_number": "must be a number that is neither infinite nor nan",
    "none_required": "must be left out",
}
"""What a value should have been, by pydantic's name of the error without its ending."""
LIMITS = {
    "greater_than": ("gt", "above {}"),
    "greater_than_equal": ("ge", "{} or more"),
    "less_than": ("lt", "below {}"),
    "less_than_equal": ("le", "{} or less"),
}
RAISED_BY_SECTIONS = ("value_error", "assertion_error")
"""Errors that a section raises itself."""
WITHOUT_VALUE = (*RAISED_BY_SECTIONS, "missing", "dict_type", "model_type")
"""Errors whose message says what was given, or for which that is a whole section."""


def compose(kind: type[S], *layers: Mapping[str, Any]) -> S:
    """Return a `kind` from nested mappings, later ones winning; raises ConfigError naming every misfit.

    >>> from bertwright.train.optim.config import OptimizerConfig
    >>> compose(OptimizerConfig, {"name": "adamw", "beta1": 0.8}, {"name": "muon"}).name
    'muon'
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer)
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(kind, *one) for one in _by_setting(kind, error))) from error


def write_toml(path: Path, section: Section) -> None:
    """Write a resolved settings tree as TOML (fields that are None are left out)."""
    write_text(path, tomli_w.dumps(section.model_dump(mode="json", exclude_none=True)))


def _by_setting(kind: type[BaseModel], error: ValidationError) -> list[tuple[list[str], list[ErrorDetails]]]:
    """Return path and problems of each setting: one that may be of several kinds has a problem with each of them."""
    found: dict[tuple[str, ...], list[ErrorDetails]] = {}
    for problem in error.errors():
        path = tuple(str(part) for part in problem["loc"])
        leaf = next((at for at in range(1, len(path)) if _has_kinds(kind, path[:at])), len(path))
        found.setdefault(path[:leaf], []).append(problem)
    return [(list(path), problems) for path, problems in found.items()]


def _has_kinds(kind: type[BaseModel], path: Sequence[str]) -> bool:
    """Say whether the setting at `path` may be of several kinds, None not counted."""
    field = _section_at(kind, path[:-1]).model_fields.get(path[-1])
    if field is None or get_origin(field.annotation) not in (Union, UnionType):
        return False
    return len(set(get_args(field.annotation)) - {NoneType}) > 1


def _explain(kind: type[BaseModel], path: list[str], problems: list[ErrorDetails]) -> str:
    name, first = ".".join(path), problems[0]
    if first["type"] != "extra_forbidden":
        wanted = " or ".join(dict.fromkeys(requirement(problem).removeprefix("must be ") for problem in problems))
        needed = requirement(first) if len(problems) == 1 else f"must be {wanted}"
        given = "" if first["type"] in WITHOUT_VALUE else f" (given: {repr(first['input'])[:200]})"
        colon = ":" * (first["type"] in RAISED_BY_SECTIONS)
        return f"{name or 'settings'}{colon} {needed}{given}"
    known = list(_section_at(kind, path[:-1]).model_fields)
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
    hint = f"did you mean {'.'.join([*path[:-1], near[0]])}?" if near else f"known here: {', '.join(known)}"
    return f"unknown setting {name}; {hint}"


def requirement(problem: ErrorDetails) -> str:
    """Return what a value should have been, in plain words, such as "must be 8 or more" or "is missing".

    >>> requirement({"type": "missing", "loc": ("size",), "msg": "Field required", "input": {}})
    'is missing'
    """
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in RAISED_BY_SECTIONS:
        return problem["msg"].partition(", ")[2]
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if kind in LIMITS:
        name, words = LIMITS[kind]
        limit = context[name]
        return f"must be {words.format(int(limit) if limit == int(limit) else limit)}"
    stem = kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float")
    return KINDS.get(kind, KINDS.get(stem, problem["msg"]))


def _section_at(kind: type[BaseModel], path: Sequence[str]) -> type[BaseModel]:
    """Return the section that `path` leads to, or the last one on the way."""
    for name in path:
        field = kind.model_fields.get(name)
        annotation = field.annotation if field else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            kind = annotation
    return kind
