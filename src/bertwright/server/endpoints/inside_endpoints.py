"""Turns requests to look inside a model into answers: /attention, and /inspect, which the page at / asks."""

from __future__ import annotations

from bertwright.server.endpoints.call import Call, Reply, checked_batch
from bertwright.server.inside import Inside
from bertwright.server.messages import AttentionAnswer, AttentionRequest, InspectRequest
from bertwright.server.refusal import Refusal


async def attention(call: Call, request: AttentionRequest) -> Reply:
    """Return the tokens of a text or a pair, and how much each attends to each, by layer and head."""
    texts = (request.inputs,) if isinstance(request.inputs, str) else tuple(request.inputs)
    inside = inside_of(call)
    checked_batch(call, texts)
    found = await inside.ask(lambda inspector: inspector.attention(texts, request.layers))
    return Reply(AttentionAnswer(**found), characters=sum(map(len, texts)))


async def inspect(call: Call, request: InspectRequest) -> Reply:
    """Return all that the page shows of a text or a pair, or with `others` how alike each of these is."""
    inside = inside_of(call)
    if request.others is not None:
        others = checked_batch(call, request.others, more=1, name="others")
        alike = await inside.ask(lambda inspector: inspector.alike(request.text, others))
        return Reply({"alike": alike}, characters=len(request.text) + sum(map(len, others)))
    found = await inside.ask(lambda inspector: inspector.read(request.text, request.second, seed=request.seed))
    return Reply(found, characters=len(request.text) + len(request.second or ""))


def inside_of(call: Call) -> Inside:
    """Return the inside of the model that is asked; raises Refusal where it cannot be looked into."""
    if call.model.inside is None:
        raise Refusal(
            f"the model {call.model.name!r} is exported or a translator, and cannot be looked into",
            "Backend",
            counted_as="model_type",
        )
    return call.model.inside
