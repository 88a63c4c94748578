"""Turns RUN folders into the routes of a web server: the page of curves, its script and style, and the figures."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from bertwright.reports.watching.run_curves import named_runs
from bertwright.reports.watching.watch_page import figures_json, live_page, script, style

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
"""Headers of every answer: the page loads nothing from elsewhere."""


def watch_routes(folders: Sequence[Path], at: str = "/", *, home: str | None = None) -> list[Route]:
    """Return the routes of a page of these runs at a path that ends with a slash, or is asked for without it.

    They only answer GET.

    `home` is the address of the page it belongs to, if any, which it links to.
    """
    runs, lock = named_runs(folders), threading.Lock()

    def page(request: Request) -> Response:
        return Response(live_page(home), media_type="text/html", headers=HEADERS)

    def code(request: Request) -> Response:
        return Response(script(), media_type="text/javascript", headers=HEADERS)

    def sheet(request: Request) -> Response:
        return Response(style(), media_type="text/css", headers=HEADERS)

    def figures(request: Request) -> Response:
        """Answer with the figures of all runs, or that they are as before."""
        with lock:  # requests are answered in threads
            content = figures_json(runs)
        tag = f'"{hashlib.sha256(content.encode()).hexdigest()[:32]}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={**HEADERS, "etag": tag})
        return Response(content, media_type="application/json", headers={**HEADERS, "etag": tag})

    answers = {"": page, "watch.js": code, "watch.css": sheet, "runs.json": figures}
    routes = [Route(f"{at}{name}", answer, methods=["GET"]) for name, answer in answers.items()]
    bare = at.rstrip("/")
    if bare:

        def with_slash(request: Request) -> Response:
            return RedirectResponse(bare.rpartition("/")[2] + "/")

        routes.append(Route(bare, with_slash, methods=["GET"]))
    return routes
