"""Serves the page of `watch` until a signal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from bertwright.log import Facts, note
from bertwright.reports.watching.watch_routes import watch_routes
from bertwright.result import Result
from bertwright.server.running import LOOPBACK, is_loopback, listening, server_of

LAST_SECONDS = 2.0
"""Seconds that an answer has to be done once a signal came."""


def page_app(folders: Sequence[Path], *, host: str) -> Starlette:
    """Return the application of the page; called by this machine's own names alone, unless it listens elsewhere."""
    names = [f"[{name}]" if ":" in name else name for name in (*LOOPBACK, host)] if is_loopback(host) else ["*"]
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)
    return Starlette(routes=watch_routes(folders), middleware=[guard])


def serve_page(folders: Sequence[Path], *, host: str, port: int) -> Result:
    """Serve the page of these runs until Ctrl-C or SIGTERM; raises UsageError where the address cannot be used."""
    with listening(host, port) as found:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{found.getsockname()[1]}/"
        note(f"open {address} in a browser; Ctrl-C ends")
        if not is_loopback(host):
            note("warning: whoever reaches this address sees the runs; leave --host out to show them here alone")
        server_of(page_app(folders, host=host), seconds=LAST_SECONDS).run(sockets=[found])
    return Result({"address": address, "runs": len(folders)}, Facts("ended", {"page": address}))
