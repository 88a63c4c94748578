"""Turns recipes into a table of them, and one into the list of all a run may set: setting, value, meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from bertwright.config import Section
from bertwright.configs.names import RECIPES
from bertwright.log import ResultTable, Settings
from bertwright.result import Result
from bertwright.train.setup.pretrain_config import resolve


def show_settings(recipe: str) -> Result:
    """Return every setting of a run under a recipe (a name, or a TOML file), with its value and its meaning."""
    rows = list(settings_of(resolve(recipe, {})))
    settings = {name: {"value": value, "meaning": meaning} for name, value, meaning in rows}
    shown = [
        (name, "-" if value is None else json.dumps(value, ensure_ascii=False), text) for name, value, text in rows
    ]
    title = f"recipe {recipe}: what --SECTION.FIELD VALUE may change"
    return Result({"recipe": recipe, "settings": settings}, Settings(title, shown))


def settings_of(section: Section, prefix: str = "") -> Iterator[tuple[str, object, str]]:
    """Yield (dotted name, value as in JSON, meaning) of every field of a settings tree."""
    values = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        inner = getattr(section, name)
        if isinstance(inner, Section):
            yield from settings_of(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", values[name], " ".join((field.description or "").split())


def show_recipes() -> Result:
    """Return name, what, paper and budget of each recipe that comes along."""
    rows = [recipe_row(name) for name in RECIPES]
    title = 'recipes, for --recipe NAME or extends = "NAME"'
    return Result({"recipes": rows}, ResultTable(title, list(rows[0]), [list(row.values()) for row in rows]))


def recipe_row(name: str) -> dict[str, str]:
    """Return what the header of a recipe says: what it is, the first paper it names, and the budget it is made for."""
    comments = [line[1:] for line in RECIPES[name].read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    what = comments[0].partition(":")[2].strip()
    entries: dict[str, str] = {}
    for line in comments[1:]:
        title, text = line[:11].strip(), line[11:].strip()
        last = title or (next(reversed(entries)) if entries else "")
        if last:
            entries[last] = f"{entries.get(last, '')} {text}".strip()
    config = resolve(name, {})
    paper = re.match(r".*?\(\d{4}\)", entries["Paper"])
    return {
        "recipe": name,
        "what": what,
        "paper": paper.group() if paper else entries["Paper"],
        "budget": f"{config.size}, {config.schedule.amount:g} {config.schedule.unit}",
    }
