"""Turns a recipe into the list of everything a run may set: each setting, what the recipe has there, what it means."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bertwright.config import Section
from bertwright.log import print_settings
from bertwright.train.setup.pretrain_config import resolve


def show_settings(recipe: str) -> None:
    """Print every setting of a run under a recipe (a name, or a TOML file), its value and its meaning to stdout."""
    print_settings(f"recipe {recipe}: what --SECTION.FIELD VALUE may change", list(settings_of(resolve(recipe, {}))))


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
