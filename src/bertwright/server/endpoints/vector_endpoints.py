"""Turns requests for vectors into answers: /embed, /embed_all, /similarity and OpenAI's /v1/embeddings."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from bertwright.server.batcher import Answered
from bertwright.server.endpoints.call import Call, Reply, checked_batch
from bertwright.server.lanes import EmbedText
from bertwright.server.messages import (
    EmbedAllRequest,
    Embeddable,
    EmbedRequest,
    OpenAIAnswer,
    OpenAIEmbedding,
    OpenAIRequest,
    OpenAIUsage,
    SimilarityParameters,
    SimilarityRequest,
)
from bertwright.server.refusal import Refusal
from bertwright.server.served_model import ServedModel


async def embed(call: Call, request: EmbedRequest) -> Reply:
    """Return a vector for each text, of unit length unless asked otherwise."""
    truncate = call.truncates(request.truncate)
    texts = texts_of(
        call, request.inputs, truncate=truncate, direction=request.truncation_direction, prompt=request.prompt_name
    )
    answered = await call.ask("embed", texts)
    unit = request.normalize is not False
    vectors = finished(call.model, answered, unit=unit, dimensions=request.dimensions)
    return Reply(vectors.tolist(), answered, characters_of(texts))


async def embed_all(call: Call, request: EmbedAllRequest) -> Reply:
    """Return a vector for each token of each text, special tokens included, as they come."""
    truncate = call.truncates(request.truncate)
    texts = texts_of(
        call, request.inputs, truncate=truncate, direction=request.truncation_direction, prompt=request.prompt_name
    )
    answered = await call.ask("embed_all", texts)
    return Reply([one.tolist() for one in answered.answers], answered, characters_of(texts))


async def similarity(call: Call, request: SimilarityRequest) -> Reply:
    """Return the cosine of the source sentence with each of the others."""
    parameters = request.parameters or SimilarityParameters()
    sentences = request.inputs.sentences
    if not sentences:
        raise Refusal("`inputs.sentences` cannot be empty", "Empty")
    texts = texts_of(
        call,
        [request.inputs.source_sentence, *sentences],
        truncate=call.truncates(parameters.truncate),
        direction=parameters.truncation_direction,
        prompt=parameters.prompt_name,
    )
    answered = await call.ask("embed", texts)
    vectors = finished(call.model, answered, unit=True)
    return Reply((vectors[1:] @ vectors[0]).tolist(), answered, characters_of(texts))


async def openai_embeddings(call: Call, request: OpenAIRequest) -> Reply:
    """Return the vectors as OpenAI's endpoint does: numbers, or base64 of little-endian float32."""
    texts = texts_of(call, request.input, truncate=call.truncates(request.truncate))
    answered = await call.ask("embed", texts)
    vectors = finished(call.model, answered, unit=True, dimensions=request.dimensions)
    if request.encoding_format == "base64":
        written = [base64.b64encode(one.astype("<f4").tobytes()).decode("ascii") for one in vectors]
    else:
        written = vectors.tolist()
    data = [OpenAIEmbedding("embedding", one, place) for place, one in enumerate(written)]
    usage = OpenAIUsage(answered.tokens, answered.tokens)
    return Reply(OpenAIAnswer("list", data, call.model.name, usage), answered, characters_of(texts))


def finished(model: ServedModel, answered: Answered, *, unit: bool, dimensions: int | None = None) -> np.ndarray:
    """Return vectors [N, H] float32, or their first `dimensions` numbers, of unit length where wanted."""
    vectors = np.stack(answered.answers)
    width = vectors.shape[1]
    if dimensions is not None and dimensions > width:
        raise Refusal(f"`dimensions` is {dimensions:,}, but the vectors of {model.name!r} have {width:,}; give fewer")
    if model.always_unit and not unit:
        raise Refusal(f"the vectors of {model.name!r}, an exported graph, have unit length; leave `normalize` out")
    vectors = vectors[:, :dimensions]
    if not unit:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny))


def texts_of(
    call: Call, inputs: Embeddable, *, truncate: bool, direction: str = "Right", prompt: str | None = None
) -> list[EmbedText]:
    """Return what is to be turned into vectors: texts with their prompt before them, or tokens."""
    before, keep_end = prompt_text(call.model, prompt), direction.lower() == "left"
    return [
        EmbedText(before + one if isinstance(one, str) else one, truncate, keep_end)
        for one in checked_batch(call, listed(inputs))
    ]


def listed(inputs: Embeddable) -> list[str | list[int]]:
    """Return one text, or one list of tokens, as a list of it; raises Refusal where both kinds are mixed."""
    if isinstance(inputs, str):
        return [inputs]
    tokens = [one for one in inputs if isinstance(one, int)]
    if not tokens:
        return [one for one in inputs if not isinstance(one, int)]
    if len(tokens) != len(inputs):
        raise Refusal("`inputs` mixes token ids with texts or lists; give a list of one kind")
    return [tokens]


def prompt_text(model: ServedModel, name: str | None) -> str:
    """Return the prompt of that name of a model's folder, or the one it puts before every text; often none."""
    if name is None:
        return model.prompts.text
    if name not in model.prompts.by_name:
        known = ", ".join(model.prompts.by_name) or "none"
        raise Refusal(f"`prompt_name` {name!r} is no prompt of {model.name!r}; it has {known}")
    if not model.prompt_is_pooled and name != model.prompts.default:
        raise Refusal(f"{model.name!r} leaves its prompt out of its vectors, so that only the usual one can be taken")
    return model.prompts.by_name[name]


def characters_of(texts: Sequence[EmbedText]) -> int:
    """Return the characters, or tokens where these were given."""
    return sum(len(one.text) for one in texts)
