"""Turns recipes into a table of them, and one into the list of all a run may set: setting, value, meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from bertwright.config import Section
from bertwright.configs.names import RECIPES
from bertwright.log import Settings, print_table, results
from bertwright.train.setup.pretrain_config import resolve


def show_settings(recipe: str) -> None:
    """Print every setting of a run under a recipe (a name, or a TOML file), its value and its meaning to stdout."""
    title = f"recipe {recipe}: what --SECTION.FIELD VALUE may change"
    Settings(title, list(settings_of(resolve(recipe, {})))).show(results())


def settings_of(section: Section, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (dotted name, value, meaning) of every field of a settings tree; a field not given has the value "-"."""
    plain = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        part = getattr(section, name)
        if isinstance(part, Section):
            yield from settings_of(part, f"{prefix}{name}.")
        else:
            value = "-" if part is None else json.dumps(plain[name], ensure_ascii=False)
            yield f"{prefix}{name}", value, " ".join((field.description or "").split())


def show_recipes() -> list[dict[str, str]]:
    """Print the recipes that come along to stdout, and return name, what, paper and budget of each."""
    rows = [recipe_row(name) for name in RECIPES]
    print_table('recipes, for --recipe NAME or extends = "NAME"', list(rows[0]), [list(row.values()) for row in rows])
    return rows


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
    budget = f"{config.size}, {config.schedule.amount:g} {config.schedule.unit}"
    paper = re.match(r".*?\(\d{4}\)", entries["Paper"])
    return {
        "recipe": name,
        "what": what,
        "paper": paper.group() if paper else entries["Paper"],
        "budget": budget,
    }
