"""Turns what cannot be answered into an HTTP status and the error body of Text Embeddings Inference."""

from __future__ import annotations

from typing import Literal

import msgspec

from bertwright.log import note

ErrorType = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]

STATUS: dict[ErrorType, int] = {
    "Unhealthy": 503,
    "Backend": 424,
    "Overloaded": 429,
    "Validation": 422,
    "Tokenizer": 422,
    "Empty": 400,
}
"""The status of each type, where nothing more exact is known."""


class ErrorBody(msgspec.Struct):
    """What went wrong, in one sentence, and of which type it is."""

    error: str
    error_type: ErrorType


class OpenAIErrorBody(msgspec.Struct):
    """The same as OpenAI's endpoint has it."""

    message: str
    code: int
    type: ErrorType


class Refusal(Exception):
    """A request, or one of its questions, that is answered with an error.

    counted_as  the value of `err` that te_request_failure counts it under
    """

    def __init__(
        self, message: str, error_type: ErrorType = "Validation", *, status: int = 0, counted_as: str = ""
    ) -> None:
        """Take the sentence for the client; the status is that of the type, where no other is given."""
        super().__init__(message)
        self.error_type: ErrorType = error_type
        self.status = status or STATUS[error_type]
        self.counted_as = counted_as or error_type.lower()
        self.headers: dict[str, str] = {}

    def body(self) -> ErrorBody:
        """Return the body of the response."""
        return ErrorBody(str(self), self.error_type)

    def openai_body(self) -> OpenAIErrorBody:
        """Return the body of the response of OpenAI's endpoint."""
        return OpenAIErrorBody(str(self), self.status, self.error_type)


def as_refusal(error: Exception) -> Refusal:
    """Return what a client is told of an error inside; its text may name paths of this machine, and is printed here."""
    if isinstance(error, Refusal):
        return error
    note(f"error: {type(error).__name__}: {error}")
    return Refusal(f"the model could not answer ({type(error).__name__})", "Backend", counted_as="inference")
