"""Turns search spaces into optuna's distributions, and what a trial has drawn from them into settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from bertwright.config import OneOf, Range
from bertwright.nested import merge, nested

DIGITS = 3
"""Significant digits of a number that is drawn."""


def distribution_of(one: Range) -> BaseDistribution:
    """Return the distribution that optuna draws a setting from."""
    if isinstance(one, OneOf):
        return CategoricalDistribution(one.values)
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log)
    return FloatDistribution(one.low, one.high, log=one.log)


def value_of(one: Range, drawn: Any, *, default: Any, layers: int) -> Any:
    """Return the value of a setting for what was drawn.

    >>> from bertwright.config import Between
    >>> value_of(Between(0.5, 10.0, times="default"), 2.0, default=6e-5, layers=6)
    0.00012
    >>> value_of(OneOf((0.0, 0.34), times="layers"), 0.34, default=0, layers=6)
    2
    """
    if one.times == "layers":
        return round(drawn * layers)
    value = drawn * default if one.times == "default" else drawn
    if one.times == "default" and isinstance(default, int):
        return max(1, round(value))
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def usual_of(one: Range, default: Any) -> Any:
    """Return what would be drawn for the default of a setting, the nearest number of the range."""
    return nearest(one, 1.0 if one.times == "default" else 0.0 if one.times == "layers" else default)


def nearest(one: Range, value: Any) -> Any:
    """Return what of a range is nearest to a value; the first of single values where that is none of them.

    >>> from bertwright.config import Between
    >>> nearest(Between(2, 12, whole=True), 20.0)
    12
    """
    if isinstance(one, OneOf):
        return value if value in one.values else one.values[0]
    value = min(max(value, one.low), one.high)
    return int(value) if one.whole else float(value)


def settings_of(
    space: Mapping[str, Range], params: Mapping[str, Any], defaults: Mapping[str, Any], *, layers: int
) -> dict[str, Any]:
    """Return the nested settings that parameters of a trial stand for, without those that are as they are by default.

    `defaults` are the values of all settings by their dotted names.
    """
    settings: dict[str, Any] = {}
    for name, one in space.items():
        if name in params and params[name] != usual_of(one, defaults[name]):
            value = value_of(one, params[name], default=defaults[name], layers=layers)
            settings = merge(settings, nested(name, value))
    return settings


def without_fixed(space: Mapping[str, Range], settings: Mapping[str, Any]) -> dict[str, Range]:
    """Return a space without what the settings of a call fix; of the head all, where they fix something of it.

    >>> from bertwright.config import Between
    >>> list(without_fixed({"schedule.epochs": Between(2, 12), "head.crf": OneOf((False, True))}, {"head": {"x": 1}}))
    ['schedule.epochs']
    """
    found = {}
    for name, one in space.items():
        section, _, field = name.rpartition(".")
        given = settings.get(section, {}) if section else settings
        if not (isinstance(given, Mapping) and (field in given or (section == "head" and given))):
            found[name] = one
    return found
