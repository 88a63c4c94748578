"""Lets requests through that come to a known host name and bring the key, and answers others with an error."""

from __future__ import annotations

import base64
import hmac

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bertwright.server.home_page import RUNS
from bertwright.server.refusal import Refusal

PUBLIC = ("/health", "/ping", "/metrics", "/docs", "/openapi.json", "/api-doc/openapi.json")
"""What is answered without a key: nothing of it has seen a text."""


class Guard:
    """Lets through what comes to a known host name, with the key where there is one."""

    def __init__(self, app: ASGIApp, *, key: str | None, hosts: frozenset[str] | None) -> None:
        """Take what is behind; any key, or any host, where there is none."""
        self.app, self.hosts = app, hosts
        self.key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 or 401 where a request may not pass."""
        if scope["type"] == "http" and (refusal := self._refusal(scope)) is not None:
            await error_response(refusal)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").rpartition("]")[2].partition(":")[0].lower()
        if self.hosts is not None and host and host not in self.hosts:
            return Refusal(f"this server listens to this machine alone, not to the name {host[:100]!r}", status=403)
        if self.key is None or (scope["method"] in ("GET", "HEAD") and scope["path"] in PUBLIC):
            return None
        if hmac.compare_digest(key_of(headers.get(b"authorization", b"")), self.key):
            return None
        refusal = Refusal("the key is missing or wrong; send `Authorization: Bearer KEY`", status=401)
        is_page = scope["method"] == "GET" and (scope["path"].endswith("/") or scope["path"] == RUNS.rstrip("/"))
        refusal.headers["www-authenticate"] = 'Basic realm="the key is the password"' if is_page else "Bearer"
        return refusal


def key_of(authorization: bytes) -> bytes:
    """Return the key of a header: `Bearer KEY`, or the password of `Basic ...`, which browsers ask people for."""
    scheme, _, value = authorization.partition(b" ")
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return value if scheme.lower() == b"bearer" else b""


def error_response(refusal: Refusal, *, openai: bool = False) -> Response:
    """Return the response of a refusal."""
    body = refusal.openai_body() if openai else refusal.body()
    return Response(
        msgspec.json.encode(body), status_code=refusal.status, headers=refusal.headers, media_type="application/json"
    )
