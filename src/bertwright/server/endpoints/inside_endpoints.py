"""Answers what looks inside a model: /attention, and /inspect, which the page asks."""

from __future__ import annotations

import numpy as np

from bertwright.server.endpoints.call import Call, Reply, checked_batch
from bertwright.server.messages import AttentionAnswer, AttentionRequest, InspectRequest
from bertwright.server.refusal import Refusal

MOST_NUMBERS = 1_000_000
"""Numbers of an answer of /attention at most."""
DIGITS = 6


async def attention(call: Call, request: AttentionRequest) -> Reply:
    """Return how much each token of a text or a pair attends to each other, in every head of the layers asked for."""
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    checked_batch(call, texts)
    row, weights = await call.inside.ask(call.model.name, lambda inspector: inspector.attention(tuple(texts)))
    layers, heads, length, _ = weights.shape
    wanted = list(range(layers)) if request.layers is None else request.layers
    if max(wanted) >= layers:
        raise Refusal(f"`layers` goes up to {layers - 1}, not {max(wanted)}")
    if (count := len(wanted) * heads * length**2) > MOST_NUMBERS:
        raise Refusal(
            f"the answer would hold {count:,} numbers, and may hold {MOST_NUMBERS:,}; shorten the text, or name fewer "
            "`layers`"
        )
    names = call.model.tokenizer.tokens
    found: list[list[list[list[float]]]] = np.round(weights[wanted].numpy().astype(np.float64), DIGITS).tolist()
    tokens = [names[token] for token in row.ids.tolist()]
    return Reply(AttentionAnswer(tokens, row.types.tolist(), wanted, found))


async def inspect(call: Call, request: InspectRequest) -> Reply:
    """Return all that the page shows of a text or a pair, or how alike `others` are to it."""
    if request.others is not None:
        others = checked_batch(call, request.others, name="others")
        alike = await call.inside.ask(call.model.name, lambda inspector: inspector.alike(request.text, others))
        return Reply({"alike": alike})
    found = await call.inside.ask(
        call.model.name, lambda inspector: inspector.read(request.text, request.second, seed=request.seed)
    )
    return Reply(found)
