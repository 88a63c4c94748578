"""Turns HTTP requests into calls of endpoints, and their replies into responses: limits, keys, headers, errors.

    request -> host, key -> body within limits -> struct -> endpoint -> reply -> JSON and headers

A client that hangs up ends its call, and what still waits of it is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive

from bertwright.log import note
from bertwright.server.batcher import Batcher
from bertwright.server.documentation import docs_page, openapi
from bertwright.server.endpoints.call import Call, Limits, Reply
from bertwright.server.endpoints.routes import ENDPOINTS, Endpoint
from bertwright.server.guard import Guard, error_response
from bertwright.server.home_page import home_page
from bertwright.server.information import info_of
from bertwright.server.prometheus import PARTS, Metrics
from bertwright.server.refusal import Refusal
from bertwright.server.served_model import ServedModel
from bertwright.server.warm_up import warm_up

HANGS_UP = 499
"""The status of a response that nobody reads any more."""
SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; frame-ancestors 'none'",
}
"""Headers of pages, which load nothing from elsewhere; that of `inspect` itself allows no script but its own."""


@dataclass(eq=False)
class Service:
    """What a server holds while it runs.

    models  by name, the first of them answers where none is named
    key     that requests must bring, if any
    hosts   names by which it may be called; None for any
    pages   routes of what else it shows: runs
    page    the HTML of `GET /`, made when it is first asked for
    """

    models: Mapping[str, ServedModel]
    batcher: Batcher
    limits: Limits
    metrics: Metrics
    key: str | None = None
    hosts: frozenset[str] | None = None
    pages: Sequence[Route] = ()
    page: str | None = None
    is_warm: bool = False
    decoders: dict[str, msgspec.json.Decoder[Any]] = field(default_factory=dict)

    @property
    def first(self) -> ServedModel:
        """The model that answers where none is named."""
        return next(iter(self.models.values()))

    def model_of(self, name: str | None, *, by_path: bool = False) -> ServedModel:
        """Return a model by its name; raises Refusal where there is none of it.

        Where one model is served, any name in a body means that: OpenAI's clients must give one.
        """
        if name is None or (not by_path and len(self.models) == 1):
            return self.first
        if name not in self.models:
            raise Refusal(f"there is no model {name[:100]!r}; served are {', '.join(self.models)}", status=404)
        return self.models[name]


def build_app(service: Service) -> ASGIApp:
    """Return the app of a service, which warms its models up when it starts, and answers what waits when it stops."""
    routes = [
        Route("/", _home(service), methods=["GET"]),
        *(Route(path, _health(service), methods=["GET"]) for path in ("/health", "/ping")),
        Route("/info", _get(lambda: info_of(service.models, service.limits, service.batcher.budget)), methods=["GET"]),
        Route("/metrics", _metrics(service), methods=["GET"]),
        Route("/docs", _docs, methods=["GET"]),
        *service.pages,
        *(Route(path, _get(openapi), methods=["GET"]) for path in ("/openapi.json", "/api-doc/openapi.json")),
    ]
    for prefix in ("", "/{model}"):
        for endpoint in ENDPOINTS:
            service.decoders[endpoint.path] = msgspec.json.Decoder(endpoint.request)
            path = prefix if prefix and endpoint.path == "/" else prefix + endpoint.path
            routes.append(Route(path, _post(service, endpoint), methods=["POST"]))
    app = Starlette(
        routes=routes,
        lifespan=lambda _: _running(service),
        exception_handlers={404: _no_route, 405: _no_route, Exception: _failed},
    )
    return Guard(app, key=service.key, hosts=service.hosts)


@asynccontextmanager
async def _running(service: Service) -> AsyncIterator[None]:
    """Start the batcher, and warm up beside it; at the end answer what waits."""

    async def warm() -> None:
        for model in service.models.values():
            try:
                await asyncio.to_thread(warm_up, model)
            except Exception as error:  # whatever it is, the server must say so rather than wait for ever
                note(f"error: {model.name} cannot answer, so that /health stays 503: {type(error).__name__}: {error}")
                return
        service.is_warm = True
        note(f"ready: {', '.join(f'{model.name} ({model.kind})' for model in service.models.values())}")

    service.batcher.start()
    warming = asyncio.create_task(warm())
    try:
        yield
    finally:
        warming.cancel()
        await asyncio.to_thread(service.batcher.close)


Handler = Callable[[Request], Awaitable[Response]]


def _post(service: Service, endpoint: Endpoint) -> Handler:
    """Return what answers the requests of an endpoint."""

    async def handle(request: Request) -> Response:
        began = time.perf_counter()
        watcher = None
        try:
            async with asyncio.timeout(service.limits.seconds):
                body = await read_body(request, service.limits.body_bytes)
                asked = decoded(service.decoders[endpoint.path], body)
                service.metrics.count("te_request_count", "method", method_of(asked))
                named = asked.pop("model", None) if isinstance(asked, dict) else asked.model
                model = service.model_of(_model_name(request, named), by_path="model" in request.path_params)
                task = asyncio.current_task()
                watcher = asyncio.create_task(_cancel_when_gone(request.receive, task))
                reply = await endpoint.answers(Call(model, service.batcher, service.limits), asked)
            service.metrics.count("te_request_success", "method", method_of(asked))
            return _succeeded(service, reply, began)
        except (ClientDisconnect, asyncio.CancelledError):
            if watcher is not None and not watcher.done():
                raise
            service.metrics.count("te_request_failure", "err", "disconnected")
            return Response(status_code=HANGS_UP)
        except TimeoutError:
            refusal = Refusal(
                f"no answer within {service.limits.seconds:g} seconds; send less, or try again later",
                "Backend",
                status=503,
                counted_as="timeout",
            )
        except Refusal as error:
            refusal = error
        except msgspec.ValidationError as error:
            refusal = Refusal(f"the body does not fit this endpoint: {error}")
        finally:
            if watcher is not None:
                watcher.cancel()
        service.metrics.count("te_request_failure", "err", refusal.counted_as)
        return error_response(refusal, openai=endpoint.openai)

    return handle


def method_of(asked: Any) -> str:
    """Return what TEI counts a request as: "batch" of one that has a list of texts, else "single"."""
    names = ("inputs", "input", "texts")
    values = (asked.get(name) if isinstance(asked, dict) else getattr(asked, name, None) for name in names)
    return "batch" if any(isinstance(value, list) for value in values) else "single"


def _model_name(request: Request, in_body: Any) -> str | None:
    """Return the model a request names, in its path or its body; raises Refusal where both differ."""
    in_path: str | None = request.path_params.get("model")
    if in_body is not None and not isinstance(in_body, str):
        raise Refusal("`model` should be the name of a model")
    if in_path is not None and in_body is not None and in_body != in_path:
        raise Refusal(f"the path names the model {in_path[:100]!r}, and the body {in_body[:100]!r}; give one")
    return in_path or in_body


async def _cancel_when_gone(receive: Receive, task: asyncio.Task[Any] | None) -> None:
    """Cancel a task when the client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if task is not None:
        task.cancel()


async def read_body(request: Request, most: int) -> bytes:
    """Return the body of a request; raises Refusal where it is no JSON by its type, or longer than `most` bytes."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal("send JSON, with the header `content-type: application/json`", status=415)
    parts, size = [], 0
    too_long = Refusal(f"the body has more than {most:,} bytes; send several requests", status=413)
    if int(request.headers.get("content-length") or 0) > most:
        raise too_long
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise too_long
        parts.append(part)
    return b"".join(parts)


def decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """Return a body as the struct of its endpoint; raises Refusal where it is no JSON, ValidationError elsewhere."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(f"the body is not JSON: {error}", status=400) from error


def _succeeded(service: Service, reply: Reply, began: float) -> Response:
    """Return the response of a reply, with the headers of TEI, and count it."""
    seconds = time.perf_counter() - began
    headers = {"x-total-time": _milliseconds(seconds)}
    answered = reply.answered
    if answered is not None:
        times = (answered.tokenization, answered.queue, answered.inference)
        service.metrics.answered(seconds, times, answered.tokens / len(answered.answers))
        headers |= {
            "x-compute-type": service.first.device,
            "x-compute-time": _milliseconds(seconds),
            "x-compute-characters": str(reply.characters),
            "x-compute-tokens": str(answered.tokens),
            **{f"x-{part}-time": _milliseconds(value) for part, value in zip(PARTS, times, strict=True)},
        }
        if answered.truncated:
            headers["x-truncated-inputs"] = str(answered.truncated)
        if answered.split:
            headers["x-split-inputs"] = str(answered.split)
    return Response(msgspec.json.encode(reply.body), headers=headers, media_type="application/json")


def _milliseconds(seconds: float) -> str:
    return str(round(1000 * seconds))


def _get(make: Callable[[], Any]) -> Handler:
    async def handle(_: Request) -> Response:
        return Response(msgspec.json.encode(make()), media_type="application/json")

    return handle


async def _docs(_: Request) -> Response:
    return Response(docs_page(), headers=SAFE, media_type="text/html")


def _home(service: Service) -> Handler:
    async def handle(_: Request) -> Response:
        if service.page is None:
            service.page = await asyncio.to_thread(home_page, service.models.values(), shows_runs=bool(service.pages))
        return Response(service.page, headers=SAFE, media_type="text/html")

    return handle


def _health(service: Service) -> Handler:
    async def handle(_: Request) -> Response:
        if service.is_warm:
            return Response(status_code=200)
        return error_response(Refusal("the models are warming up", "Unhealthy"))

    return handle


def _metrics(service: Service) -> Handler:
    async def handle(_: Request) -> Response:
        text = service.metrics.text(queue=service.batcher.waiting)
        return Response(text, media_type="text/plain; version=0.0.4")

    return handle


async def _no_route(request: Request, error: Exception) -> Response:
    """Answer what no route is for, or is for another method."""
    status = getattr(error, "status_code", 404)
    what = f"no endpoint {request.url.path[:100]}" if status == 404 else f"{request.method} is not for this endpoint"
    refusal = Refusal(f"{what}; see /docs", status=status)
    refusal.headers |= dict(getattr(error, "headers", None) or {})
    return error_response(refusal)


async def _failed(_: Request, error: Exception) -> Response:
    """Answer where something broke that should not; what it was is printed here, and not sent."""
    note(f"error: {type(error).__name__}: {error}")
    return error_response(Refusal("the server failed; its log says why", "Backend", status=500))
