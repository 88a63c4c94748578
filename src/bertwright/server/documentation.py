"""Turns the table of endpoints into OpenAPI 3.1, and that into a page that needs no network."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, select_autoescape

from bertwright import __version__
from bertwright.server.endpoints.routes import ENDPOINTS, Endpoint
from bertwright.server.information import Info
from bertwright.server.refusal import ErrorBody, OpenAIErrorBody

ERRORS = {
    "400": "The body is not JSON, or holds no text",
    "401": "The key is missing or wrong",
    "403": "The server is called by another name than those of this machine",
    "404": "There is no model of that name",
    "413": "Too many texts, or too long a body",
    "415": "The body is not declared as JSON",
    "422": "The body does not fit the endpoint, or a text is too long",
    "424": "The model is of another kind, or could not answer",
    "429": "Too many requests wait",
    "503": "The server is stopping, or the answer took too long",
}
"""What errors mean, by status."""
GETS = {
    "/health": ("Say whether the models are warmed up", None),
    "/ping": ("Say whether the models are warmed up", None),
    "/info": ("Say what is served, and the limits", Info),
    "/metrics": ("Count requests, times and batches, as Prometheus reads them", str),
    "/openapi.json": ("Describe the endpoints", None),
}
"""What is got rather than posted to."""


@cache
def openapi() -> dict[str, Any]:
    """Return the description of all endpoints, as OpenAPI 3.1."""
    types = {type_ for one in ENDPOINTS for type_ in (one.request, one.answer)} | {ErrorBody, OpenAIErrorBody, Info}
    ordered = sorted(types, key=str)
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    of = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, Any] = {one.path: {"post": _operation(one, of)} for one in ENDPOINTS}
    for path, (summary, answer) in GETS.items():
        kind = "text/plain" if answer is str else "application/json"
        content = {} if answer is None else {"content": {kind: {"schema": of.get(answer, {"type": "string"})}}}
        responses = {"200": {"description": "The answer", **content}}
        if path in ("/health", "/ping"):
            responses["503"] = _error("The models are warming up", of[ErrorBody])
        paths.setdefault(path, {})["get"] = {"summary": summary, "responses": responses}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bertwright",
            "version": __version__,
            "description": "Models of bertwright over HTTP. Every POST is also under /MODEL/..., for one of several.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(endpoint: Endpoint, of: dict[Any, Any]) -> dict[str, Any]:
    """Return the description of a POST."""
    error = of[OpenAIErrorBody if endpoint.openai else ErrorBody]
    return {
        "summary": endpoint.summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": of[endpoint.request]}}},
        "responses": {
            "200": {"description": "The answer", "content": {"application/json": {"schema": of[endpoint.answer]}}},
            **{status: _error(meaning, error) for status, meaning in ERRORS.items()},
        },
    }


def _error(meaning: str, schema: Any) -> dict[str, Any]:
    return {"description": meaning, "content": {"application/json": {"schema": schema}}}


@cache
def docs_page(*, shows_runs: bool = False) -> str:
    """Return the page of /docs, with a link to that of runs where it is shown at `/`."""
    pages = Environment(loader=PackageLoader("bertwright.server"), autoescape=select_autoescape())
    return pages.get_template("docs.html").render(document=openapi(), json=_pretty, shows_runs=shows_runs)


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
