"""Turns TOML files and flags into settings as nested dictionaries, before a section says what is allowed.

Apart from `config`, so that a command's --help need not wait for pydantic; nor for tomllib, which reads alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertwright.errors import ConfigError


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` overridden by `over`, mappings merged key by key, everything else replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file as nested dictionaries; raises ConfigError with file and place where it cannot be read."""
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no settings file {path}; give a TOML file that exists") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the settings file {path}: {error}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def override(dotted: str, value: str) -> dict[str, Any]:
    """Return the nested mapping of one ``--section.field value`` flag; the value is read as TOML, else as text."""
    import tomllib

    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        parsed = value
    return nested(dotted.replace("-", "_"), parsed)


def nested(dotted: str, value: Any) -> dict[str, Any]:
    """Return a value under a dotted name as nested mappings.

    >>> nested("optimizer.learning_rate", 0.1)
    {'optimizer': {'learning_rate': 0.1}}
    """
    for name in reversed(dotted.split(".")):
        value = {name: value}
    return dict(value)
