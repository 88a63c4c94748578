"""The table of endpoints: path, bodies, what answers, and the sentence that describes it; the app and /docs read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bertwright.server.endpoints.call import Call, Reply
from bertwright.server.endpoints.hub_root import root
from bertwright.server.endpoints.inside_endpoints import attention, inspect
from bertwright.server.endpoints.task_endpoints import (
    answer,
    choose,
    fill_mask,
    next_sentence,
    predict,
    rerank,
    tag,
    translate,
)
from bertwright.server.endpoints.text_endpoints import decode, tokenize
from bertwright.server.endpoints.vector_endpoints import embed, embed_all, openai_embeddings, similarity
from bertwright.server.messages import (
    AnsweredQuestion,
    AnswerRequest,
    AttentionAnswer,
    AttentionRequest,
    ChooseRequest,
    Chosen,
    DecodeRequest,
    EmbedAllRequest,
    EmbedRequest,
    FillMaskRequest,
    Guess,
    InspectRequest,
    NextSentence,
    NextSentenceRequest,
    OpenAIAnswer,
    OpenAIRequest,
    Prediction,
    PredictRequest,
    Rank,
    RerankRequest,
    SimilarityRequest,
    Tagged,
    TagRequest,
    Token,
    TokenizeRequest,
    Translated,
    TranslateRequest,
)


@dataclass(frozen=True)
class Endpoint:
    """A path that is posted to.

    path     without the model before it
    request  type of the body; a dict where it depends on the kind of model
    answer   type of the answer
    answers  what is called
    openai   whether errors have OpenAI's shape
    """

    path: str
    request: Any
    answer: Any
    answers: Callable[[Call, Any], Awaitable[Reply]]
    openai: bool = False

    @property
    def summary(self) -> str:
        """One sentence on it: that of the function."""
        return (self.answers.__doc__ or "").split("\n")[0].removeprefix("Return ").rstrip(".")


ENDPOINTS = (
    Endpoint("/embed", EmbedRequest, list[list[float]], embed),
    Endpoint("/embed_all", EmbedAllRequest, list[list[list[float]]], embed_all),
    Endpoint("/similarity", SimilarityRequest, list[float], similarity),
    Endpoint("/v1/embeddings", OpenAIRequest, OpenAIAnswer, openai_embeddings, openai=True),
    Endpoint("/embeddings", OpenAIRequest, OpenAIAnswer, openai_embeddings, openai=True),
    Endpoint("/predict", PredictRequest, list[Prediction | list[Prediction]], predict),
    Endpoint("/rerank", RerankRequest, list[Rank], rerank),
    Endpoint("/fill_mask", FillMaskRequest, list[list[list[Guess]]], fill_mask),
    Endpoint("/next_sentence", NextSentenceRequest, list[NextSentence], next_sentence),
    Endpoint("/tag", TagRequest, list[Tagged], tag),
    Endpoint("/answer", AnswerRequest, list[AnsweredQuestion], answer),
    Endpoint("/choose", ChooseRequest, list[Chosen], choose),
    Endpoint("/translate", TranslateRequest, list[Translated], translate),
    Endpoint("/attention", AttentionRequest, AttentionAnswer, attention),
    Endpoint("/inspect", InspectRequest, dict[str, Any], inspect),
    Endpoint("/tokenize", TokenizeRequest, list[list[Token]], tokenize),
    Endpoint("/decode", DecodeRequest, list[str], decode),
    Endpoint("/", dict[str, Any], Any, root),
)
