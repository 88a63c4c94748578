"""Serves the page of `watch` until a signal."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from bertwright.errors import UsageError
from bertwright.log import Facts, note
from bertwright.reports.watching.watch_routes import watch_routes
from bertwright.result import Result

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def page_app(folders: Sequence[Path], *, host: str) -> Starlette:
    """Return the application of the page; called by this machine's own names alone, unless it listens elsewhere."""
    own = host in ("127.0.0.1", "localhost", "::1")
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK) if own else ["*"], www_redirect=False)
    return Starlette(routes=watch_routes(folders), middleware=[guard])


def serve_page(folders: Sequence[Path], *, host: str, port: int) -> Result:
    """Serve the page of these runs until Ctrl-C or SIGTERM; raises UsageError where the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, port))
        except (OSError, OverflowError) as error:
            raise UsageError(f"--host {host} --port {port} cannot be listened to ({error}); give others") from error
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{found.getsockname()[1]}/"
        note(f"open {address} in a browser; Ctrl-C ends")
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        config = uvicorn.Config(
            page_app(folders, host=host), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2
        )
        uvicorn.Server(config).run(sockets=[found])
    return Result({"address": address, "runs": len(folders)}, Facts("ended", {"page": address}))
