"""Turns words such as --optimizer.learning-rate 5e-4 into nested settings."""

from __future__ import annotations

from typing import Any

from bertwright.config import merge, override
from bertwright.errors import UsageError


def parse_overrides(words: tuple[str, ...], *, verb: str) -> dict[str, Any]:
    """Return the nested settings of words such as --optimizer.learning-rate 5e-4 or --objective.whole-word=true."""
    settings: dict[str, Any] = {}
    queue = list(words)
    while queue:
        name = queue.pop(0)
        if not name.startswith("--") or "." not in name:
            raise UsageError(f"{name!r} is no flag of {verb}; settings are given as --SECTION.FIELD VALUE")
        name, joined, value = name[2:].partition("=")
        if not joined:
            if not queue:
                raise UsageError(f"--{name} needs a value")
            value = queue.pop(0)
        settings = merge(settings, override(name, value))
    return settings
