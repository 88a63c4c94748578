"""Turns the models that are served into the page for people at `GET /`: it looks inside them, by /inspect."""

from __future__ import annotations

from collections.abc import Iterable

from bertwright.server.documentation import docs_page
from bertwright.server.served_model import ServedModel

RUNS = "/runs/"
"""Where the page of runs is, if any."""


def home_page(models: Iterable[ServedModel], *, shows_runs: bool) -> str:
    """Return the page that looks into the models that can be looked into; where none can, that of /docs."""
    insides = [model.inside for model in models if model.inside is not None]
    if not insides:
        return docs_page(shows_runs=shows_runs)
    from bertwright.inspection.page import page_content, page_html  # brings torch along

    content = page_content([one.inspector() for one in insides], reads=False)
    return page_html(content, endpoint="inspect", runs=RUNS.lstrip("/") if shows_runs else None)
