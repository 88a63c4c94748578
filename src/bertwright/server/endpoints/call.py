"""Says what an endpoint is called with, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bertwright.server.batcher import Answered, Batcher
from bertwright.server.refusal import Refusal
from bertwright.server.served_model import ServedModel

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """How much a client may ask.

    concurrent  requests that are answered at the same time, or wait for it
    batch       texts of a request
    body_bytes  of a request
    seconds     that a request may take
    truncate    whether texts that are too long are cut where the client does not say
    """

    concurrent: int = 512
    batch: int = 32
    body_bytes: int = 2_000_000
    seconds: float = 60.0
    truncate: bool = False


@dataclass(frozen=True)
class Call:
    """What an endpoint is called with: the model that is asked, and what asks it."""

    model: ServedModel
    batcher: Batcher
    limits: Limits

    async def ask(self, lane: str, questions: Sequence[Any]) -> Answered:
        """Return the answers of the model to questions; raises Refusal where it is of another kind."""
        return await self.batcher.submit(self.model.lane(lane), questions)

    def truncates(self, wanted: bool | None) -> bool:
        """Return whether texts that are too long are cut."""
        return self.limits.truncate if wanted is None else wanted


@dataclass(frozen=True)
class Reply:
    """The body of an answer, and what its headers say: nothing where no model was asked."""

    body: Any
    answered: Answered | None = None
    characters: int = 0


def checked_batch(call: Call, questions: Sequence[T], *, more: int = 0, name: str = "inputs") -> Sequence[T]:
    """Return the questions of a request, and `more` of them; raises Refusal where there are none, or too many."""
    if not questions or any(one == "" or one == [] for one in questions):
        raise Refusal(f"`{name}` cannot be empty", "Empty")
    size, most = len(questions) + more, call.limits.batch
    if size > most:
        raise Refusal(
            f"batch size {size:,} > maximum allowed batch size {most:,}; send several requests",
            status=413,
            counted_as="batch_size",
        )
    return questions
