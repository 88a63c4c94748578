"""Answers `POST /` by the kind of model, in the shapes that huggingface_hub's InferenceClient expects of its tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import numpy as np
from scipy.special import expit, softmax

from bertwright.inference.text_rows import MASK
from bertwright.server.endpoints.call import Call, Reply
from bertwright.server.endpoints.task_endpoints import answer, choose, fill_mask, predict, rerank, tag, translate
from bertwright.server.endpoints.vector_endpoints import embed, similarity
from bertwright.server.messages import (
    ChooseRequest,
    EmbedRequest,
    FillMaskRequest,
    HubAnswerRequest,
    HubPredictRequest,
    HubTagRequest,
    Prediction,
    RerankRequest,
    SimilarityRequest,
    TranslateRequest,
)
from bertwright.server.refusal import Refusal

R = TypeVar("R", bound=msgspec.Struct)


async def root(call: Call, body: dict[str, Any]) -> Reply:
    """Return what the model is for: `body` has inputs, and the fields of the endpoint or, as InferenceClient has it,
    these in `parameters`."""
    return await ROOTS[call.model.kind](call, body)


def flat(body: dict[str, Any], kind: type[R]) -> R:
    """Return a body as a request whose fields stand beside those of `parameters`; raises msgspec.ValidationError."""
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise msgspec.ValidationError("Expected `object` - at `$.parameters`")
    given = {name: value for name, value in parameters.items() if value is not None}
    return msgspec.convert({**{name: value for name, value in body.items() if name != "parameters"}, **given}, kind)


async def _vectors(call: Call, body: dict[str, Any]) -> Reply:
    if isinstance(body.get("inputs"), dict):
        return await similarity(call, msgspec.convert(body, SimilarityRequest))
    return await embed(call, flat(body, EmbedRequest))


async def _classified(call: Call, body: dict[str, Any]) -> Reply:
    """Return [[{label, score}]], the best first, as transformers' pipelines do."""
    request = flat(body, HubPredictRequest)
    raw = request.raw_scores or request.function_to_apply is not None
    wanted = msgspec.structs.replace(request, raw_scores=raw)
    reply = await predict(call, wanted)
    texts: list[list[Prediction]] = reply.body if reply.body and isinstance(reply.body[0], list) else [reply.body]
    for found in texts:
        _apply(request.function_to_apply, found)
    return Reply([found[: request.top_k] for found in texts], reply.answered, reply.characters)


def _apply(function: str | None, found: list[Prediction]) -> None:
    """Turn logits into what was asked for."""
    logits = np.array([one.score for one in found])
    scores = expit(logits) if function == "sigmoid" else softmax(logits) if function == "softmax" else logits
    for one, score in zip(found, scores.tolist(), strict=True):
        one.score = score


async def _filled(call: Call, body: dict[str, Any]) -> Reply:
    """Return [{score, token, token_str, sequence}] of a text with one [MASK], a list of those for several."""
    mask = call.model.tokenizer.tokens[call.model.tokenizer.special.mask]
    request = flat(body, FillMaskRequest)
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    texts = [text.replace(mask, MASK) for text in texts]
    reply = await fill_mask(call, msgspec.structs.replace(request, inputs=texts))
    found = []
    for text, masks in zip(texts, reply.body, strict=True):
        lists = [
            [
                {
                    "score": one.score,
                    "token": one.token,
                    "token_str": one.token_str,
                    "sequence": text.replace(MASK, one.token_str) if len(masks) == 1 else text,
                }
                for one in guesses
            ]
            for guesses in masks
        ]
        found.append(lists[0] if len(lists) == 1 else lists)
    return Reply(found[0] if isinstance(request.inputs, str) else found, reply.answered, reply.characters)


async def _tagged(call: Call, body: dict[str, Any]) -> Reply:
    """Return the entities of a text, or of plain tags its words, as {entity_group, score, word, start, end}."""
    request = flat(body, HubTagRequest)
    reply = await tag(call, request)
    left_out = set(request.ignore_labels or ())
    if any(one.tags is not None for one in reply.body):
        raise Refusal("this model gives tags to words, not entities; ask /tag", "Backend", counted_as="model_type")
    found = [
        [
            {"entity_group": one.type, "score": one.probability, "word": one.text, "start": one.start, "end": one.end}
            for one in tagged.entities or ()
            if one.type not in left_out
        ]
        for tagged in reply.body
    ]
    return Reply(found[0] if isinstance(request.inputs, str) else found, reply.answered, reply.characters)


async def _answered(call: Call, body: dict[str, Any]) -> Reply:
    """Return {answer, score, start, end} of a question."""
    request = flat(body, HubAnswerRequest)
    reply = await answer(call, request)
    found = []
    for one in reply.body:
        spans = [one, *one.others] if one.answer or request.handle_impossible_answer is not False else one.others
        best = spans[0] if spans else one
        found.append({"answer": best.answer, "score": best.probability, "start": best.start, "end": best.end})
    return Reply(found if isinstance(request.inputs, list) else found[0], reply.answered, reply.characters)


async def _translated(call: Call, body: dict[str, Any]) -> Reply:
    """Return [{translation_text}]."""
    reply = await translate(call, flat(body, TranslateRequest))
    return Reply([{"translation_text": one.translation} for one in reply.body], reply.answered, reply.characters)


async def _chosen(call: Call, body: dict[str, Any]) -> Reply:
    return await choose(call, flat(body, ChooseRequest))


async def _ranked(call: Call, body: dict[str, Any]) -> Reply:
    if "inputs" in body:
        return await _classified(call, body)
    return await rerank(call, msgspec.convert(body, RerankRequest))


async def _pretrained(call: Call, body: dict[str, Any]) -> Reply:
    """Fill masks where a text has one; vectors otherwise, which every encoder has."""
    inputs = body.get("inputs")
    texts = inputs if isinstance(inputs, list) else [inputs]
    marks = {MASK, call.model.tokenizer.tokens[call.model.tokenizer.special.mask]}
    has_mask = any(isinstance(text, str) and any(mark in text for mark in marks) for text in texts)
    if "fill_mask" in call.model.lanes and (has_mask or "embed" not in call.model.lanes):
        return await _filled(call, body)
    return await _vectors(call, body)


ROOTS: dict[str, Callable[[Call, dict[str, Any]], Awaitable[Reply]]] = {
    "embedding": _vectors,
    "pretrained": _pretrained,
    "replaced-tokens": _vectors,
    "classify": _classified,
    "regress": _classified,
    "rank": _ranked,
    "tag": _tagged,
    "answer": _answered,
    "choose": _chosen,
    "translate": _translated,
}
"""What `POST /` does, by kind of model."""
