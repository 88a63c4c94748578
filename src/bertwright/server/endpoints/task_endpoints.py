"""Turns requests to models with a head into answers: /predict, /rerank, /fill_mask, /tag and their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from bertwright.server.batcher import Answered
from bertwright.server.endpoints.call import Call, Reply, checked_batch
from bertwright.server.lanes import Asked, Masked
from bertwright.server.messages import (
    AnsweredQuestion,
    AnswerRequest,
    ChooseRequest,
    Chosen,
    FillMaskRequest,
    Guess,
    NextSentence,
    NextSentenceRequest,
    PredictInput,
    Prediction,
    PredictRequest,
    Rank,
    RerankRequest,
    Tagged,
    TagRequest,
    Translated,
    TranslateRequest,
)
from bertwright.server.refusal import Refusal
from bertwright.server.served_model import ServedModel


async def predict(call: Call, request: PredictRequest) -> Reply:
    """Return for a text its labels and their scores, the best first; for several a list of those."""
    single, questions = questions_of(request.inputs)
    require_right_end(request.truncation_direction)
    answered, characters = await asked(call, "predict", questions, truncate=call.truncates(request.truncate))
    found = [scores_of(call.model, *one, raw=request.raw_scores) for one in answered.answers]
    return Reply(found[0] if single else found, answered, characters)


async def rerank(call: Call, request: RerankRequest) -> Reply:
    """Return the texts of a query, the best first."""
    lane = call.model.lane("rerank")
    require_right_end(request.truncation_direction)
    texts = checked_batch(call, request.texts, name="texts")
    questions = [Asked((request.query, text), call.truncates(request.truncate)) for text in texts]
    answered = await call.batcher.submit(lane, questions)
    scores = [
        float(logits[0]) if request.raw_scores else prediction["passages"][0]["score"]
        for prediction, logits in answered.answers
    ]
    order = sorted(range(len(texts)), key=lambda place: -scores[place])
    ranks = [Rank(place, scores[place], texts[place] if request.return_text else None) for place in order]
    return Reply(ranks, answered, len(request.query) + sum(map(len, texts)))


async def fill_mask(call: Call, request: FillMaskRequest) -> Reply:
    """Return for each text, and each [MASK] in it, the most probable tokens, the best first."""
    texts = checked_batch(call, [request.inputs] if isinstance(request.inputs, str) else request.inputs)
    targets = None if request.targets is None else target_ids(call.model, request.targets)
    answered = await call.ask("fill_mask", [Masked(text, request.top_k, targets) for text in texts])
    found = [[guesses(call.model, of_mask) for of_mask in of_text] for of_text in answered.answers]
    return Reply(found, answered, sum(map(len, texts)))


async def next_sentence(call: Call, request: NextSentenceRequest) -> Reply:
    """Return for each pair the probability that the second text follows the first."""
    _, questions = questions_of(list(request.inputs))
    if any(len(one) != 2 for one in questions):
        raise Refusal("`inputs` should be a pair of texts [first, second], or a list of pairs")
    answered, characters = await asked(call, "next_sentence", questions)
    found = [NextSentence(**{call.model.about_pairs: value}) for value in answered.answers]
    return Reply(found, answered, characters)


async def tag(call: Call, request: TagRequest) -> Reply:
    """Return each text with its entities, or of plain tags with its words."""
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    answered, characters = await asked(call, "tag", [(text,) for text in texts])
    return Reply(msgspec.convert(answered.answers, list[Tagged]), answered, characters)


async def answer(call: Call, request: AnswerRequest) -> Reply:
    """Return for each question the best answer in its context, and the next best."""
    inputs = request.inputs if isinstance(request.inputs, list) else [request.inputs]
    answered, characters = await asked(call, "answer", [(one.question, one.context) for one in inputs])
    return Reply(msgspec.convert(answered.answers, list[AnsweredQuestion]), answered, characters)


async def choose(call: Call, request: ChooseRequest) -> Reply:
    """Return for each context the most probable choice."""
    inputs = request.inputs if isinstance(request.inputs, list) else [request.inputs]
    require_right_end(request.truncation_direction)
    checked_batch(call, [choice for one in inputs for choice in one.choices], name="choices")
    questions = [(one.context, *one.choices) for one in inputs]
    answered, characters = await asked(call, "choose", questions, truncate=call.truncates(request.truncate))
    return Reply(msgspec.convert(answered.answers, list[Chosen]), answered, characters)


async def translate(call: Call, request: TranslateRequest) -> Reply:
    """Return each text with its translation."""
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    require_right_end(request.truncation_direction)
    questions = [(text,) for text in texts]
    answered, characters = await asked(call, "translate", questions, truncate=call.truncates(request.truncate))
    return Reply(msgspec.convert(answered.answers, list[Translated]), answered, characters)


async def asked(
    call: Call, lane: str, questions: Sequence[tuple[str, ...]], *, truncate: bool = False
) -> tuple[Answered, int]:
    """Return the answers to questions, and how many characters these have; raises Refusal for too many, or empty."""
    call.model.lane(lane)
    checked_batch(call, ["".join(texts) for texts in questions])
    answered = await call.ask(lane, [Asked(texts, truncate) for texts in questions])
    return answered, sum(len(text) for texts in questions for text in texts)


def questions_of(inputs: PredictInput) -> tuple[bool, list[tuple[str, ...]]]:
    """Return whether there is one question, and the questions: a text or a pair, or lists of one or two texts."""
    if isinstance(inputs, str):
        return True, [(inputs,)]
    texts = [one for one in inputs if isinstance(one, str)]
    if not texts:
        return False, [tuple(one) for one in inputs if not isinstance(one, str)]
    if len(texts) != len(inputs) or len(texts) > 2:
        raise Refusal("`inputs` should be a text, a pair [first, second], or a list of [text] or [first, second]")
    return True, [tuple(texts)]


def require_right_end(direction: str) -> None:
    """Raise Refusal where a text should be cut at its beginning: only those of single vectors can be."""
    if direction.lower() != "right":
        raise Refusal("`truncation_direction` can only be Right here; left out is what comes last")


def scores_of(model: ServedModel, prediction: dict[str, Any], logits: np.ndarray, *, raw: bool) -> list[Prediction]:
    """Return the labels of a prediction, the best first, with their probabilities or, `raw`, their logits."""
    if raw:
        if not len(logits):
            raise Refusal(
                f"{model.name!r} reads a long text in windows, and has no logits of it; leave `raw_scores` out"
            )
        scores = dict(zip(model.labels, logits.tolist(), strict=True))
    elif "passages" in prediction:
        scores = {model.labels[0]: prediction["passages"][0]["score"]}
    else:
        scores = prediction.get("probabilities") or {model.labels[0]: prediction["score"]}
    return [Prediction(score, label) for label, score in sorted(scores.items(), key=lambda one: -one[1])]


def guesses(model: ServedModel, found: Sequence[tuple[int, float]]) -> list[Guess]:
    """Return tokens as people read them, with their probabilities."""
    return [Guess(token, model.tokenizer.readable(token), score) for token, score in found]


def target_ids(model: ServedModel, targets: Sequence[str]) -> tuple[int, ...]:
    """Return the ids of words, each one token; raises Refusal where one is several, or unknown."""
    found = []
    for word in targets:
        ids = model.tokenizer.encode(word)
        if len(ids) != 1 or ids[0] == model.tokenizer.special.unk:
            raise Refusal(f"`targets`: {word[:50]!r} is no single token of this vocabulary; leave it out")
        found.append(ids[0])
    return tuple(found)
