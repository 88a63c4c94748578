"""Turns the figures of runs into a page of curves: one that asks for new figures, or a file that opens offline."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bertwright.reports.watching.run_curves import LOGARITHMIC, OTHER, PANELS, RunCurves

TEMPLATES = Path(__file__).parents[1] / "templates"


@cache
def script() -> str:
    """Return the script of the page."""
    return (TEMPLATES / "watch.js").read_text(encoding="utf-8")


@cache
def style() -> str:
    """Return its style sheet."""
    return (TEMPLATES / "watch.css").read_text(encoding="utf-8")


def figures_json(runs: Sequence[RunCurves]) -> str:
    """Return all that the page shows, as JSON."""
    titles = [title for title, _ in PANELS]
    panels = [{"title": title, "log": title in LOGARITHMIC} for title in (*titles, OTHER)]
    return json.dumps({"panels": panels, "runs": [run.figures() for run in runs]}, ensure_ascii=False, allow_nan=False)


def live_page(home: str | None = None) -> str:
    """Return the page that asks for runs.json again and again; `home` is the address of what it belongs to."""
    return _filled(live=True, home=home, script="", style="", figures="", policy="")


def offline_page(runs: Sequence[RunCurves]) -> str:
    """Return a page that holds the figures, and loads nothing."""
    policy = f"default-src 'none'; script-src {_digest(script())}; style-src {_digest(style())}"
    figures = figures_json(runs).replace("<", "\\u003c")
    return _filled(live=False, home=None, script=script(), style=style(), figures=figures, policy=policy)


def _filled(**values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True, trim_blocks=True
    )
    return environment.get_template("watch.html").render(values)


def _digest(text: str) -> str:
    """Return what allows a browser an inline script or style, and no other."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
