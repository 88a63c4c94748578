"""Whatever is sent, the answer is one that the OpenAPI document has, and never an error of the server itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

schemathesis = pytest.importorskip("schemathesis")

from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bertwright.server.documentation import openapi  # noqa: E402
from bertwright.server.endpoints.routes import ENDPOINTS  # noqa: E402

MODELS = {
    "/predict": "classify", "/rerank": "rank", "/fill_mask": "words", "/next_sentence": "words", "/tag": "tagger",
    "/answer": "reader", "/choose": "chooser", "/attention": "words", "/inspect": "words", "/translate": "classify",
}  # fmt: skip
"""Who is asked at each path; the model of vectors elsewhere."""
PATHS = [one.path for one in ENDPOINTS]
SEEN = {200, 400, 404, 413, 422, 424}
QUICK = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), database=None)

numbers = st.integers() | st.floats()
texts = st.text(max_size=12) | st.sampled_from(["the cat", "the [MASK] sat", "\x00", "\ufeff", "𝕏", "a" * 400, "中文"])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "inputs",
    "input",
    "truncate",
    "normalize",
    "dimensions",
    "query",
    "texts",
    "ids",
    "top_k",
    "model",
    "parameters",
]
bodies = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)


def sent(served: Any, path: str, body: bytes) -> None:
    """Post a body to who is asked there; the answer must be JSON, of an error that says what is wrong."""
    found = served.post(f"/{MODELS.get(path, 'vectors')}{path.rstrip('/')}", body)
    assert found.status in SEEN, (found, body)
    if found.status != 200:
        assert found.json.get("error") or found.json.get("message")


@pytest.mark.parametrize("path", PATHS)
@QUICK
@given(body=bodies)
def test_bodies_of_any_shape(served: Any, path: str, body: Any) -> None:
    sent(served, path, json.dumps(body).encode())


@pytest.mark.parametrize("path", ["/embed", "/fill_mask", "/"])
@QUICK
@given(body=st.binary(max_size=30))
def test_bodies_that_are_no_json(served: Any, path: str, body: bytes) -> None:
    sent(served, path, body)


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"inputs":' * 5000, b'{"inputs": "\\ud83d"}', b'{"inputs": 1e999}', b'{"inputs": "\xff"}'],
)
@pytest.mark.parametrize("path", ["/embed", "/"])
def test_json_that_breaks_readers(served: Any, path: str, body: bytes) -> None:
    sent(served, path, body)


@schemathesis.openapi.from_dict(openapi()).parametrize()
@QUICK
def test_the_server_keeps_to_its_openapi(case: Any, served: Any) -> None:
    response = case.call(base_url=f"{served.url}/{MODELS[case.path]}" if case.path in MODELS else served.url)
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    case.validate_response(response, checks=checks)
