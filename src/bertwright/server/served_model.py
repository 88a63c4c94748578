"""Turns a model of any kind into what is served of it: a lane for each thing that the model can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bertwright.errors import ModelError
from bertwright.hub.sentence_layout import Prompts
from bertwright.inference.base import Predictor
from bertwright.inference.predictors import TaskPredictor
from bertwright.inference.pretrained_predictor import PretrainedPredictor
from bertwright.server.batcher import Lane
from bertwright.server.lanes import FillMaskLane, PredictorLane
from bertwright.server.refusal import Refusal
from bertwright.tasks.classification.long_texts import ClassifyLong
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import Tokenizer

if TYPE_CHECKING:
    from bertwright.server.inside import Inside

Kind = Literal[
    "embedding", "pretrained", "classify", "regress", "rank", "tag", "answer", "choose", "translate", "replaced-tokens"
]
"""What a model is for."""
TEI_KINDS = {"classify": "classifier", "regress": "classifier", "rank": "reranker"}
"""What Text Embeddings Inference calls kinds of models; "embedding" all others."""
Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True)
class ServedModel:
    """A model that answers.

    lanes        by the name of the endpoint that uses it
    max_length   tokens of the longest row
    labels       names of its outputs, if any
    prompts      that its folder puts before texts; `prompt_is_pooled`, whether their tokens count in a vector
    always_unit  whether its vectors have unit length whatever is asked for, as those of an exported graph
    """

    name: str
    kind: Kind
    tokenizer: Tokenizer
    lanes: Mapping[str, Lane]
    max_length: int
    dtype: str
    device: str
    labels: tuple[str, ...] = ()
    prompts: Prompts = field(default_factory=Prompts)
    prompt_is_pooled: bool = True
    always_unit: bool = False
    pooling: str = "mean"
    about_pairs: str = "next"
    """What the probability of a pair is called: "next" or "in_order"."""
    pairs: bool = False
    """Whether it has learned from pairs of texts alone."""
    inside: Inside | None = None
    """What looks into it; None where nobody can, as into an exported model."""

    def lane(self, name: str) -> Lane:
        """Return the lane of an endpoint; raises Refusal where the model is of another kind."""
        if name not in self.lanes:
            can = ", ".join(f"/{one}" for one in self.endpoints)
            raise Refusal(
                f"the model {self.name!r} is of the kind {self.kind} and has no head for /{name}; it answers {can}",
                "Backend",
                counted_as="model_type",
            )
        return self.lanes[name]

    @property
    def endpoints(self) -> list[str]:
        """The endpoints that it answers, beside those of the server itself."""
        more = [*(["similarity", "v1/embeddings"] if "embed" in self.lanes else []), "tokenize", "decode"]
        more += ["attention", "inspect"] if self.inside is not None else []
        return [*self.lanes, *more]


def served_predictor(
    name: str,
    predictor: Predictor,
    *,
    dtype: str,
    device: str,
    more: Mapping[str, Lane] | None = None,
) -> ServedModel:
    """Return what is served of a predictor; `more` are lanes of its encoder."""
    if isinstance(predictor, TaskPredictor):
        kind, lanes = _task_lanes(predictor)
        tokenizer, labels = predictor.encoder.tokenizer, predictor.task.outputs
        length, about = predictor.encoder.max_length, "next"
    elif isinstance(predictor, PretrainedPredictor):
        kind, lanes = "pretrained", _pretrained_lanes(predictor)
        tokenizer, labels, length, about = predictor.tokenizer, (), predictor.max_length, predictor.about_pairs
    else:
        raise ModelError(f"a model of the kind {type(predictor).__name__} is not served; give one of another kind")
    return ServedModel(
        name,
        kind,
        tokenizer,
        {**lanes, **(more or {})},
        length,
        dtype=dtype,
        device=device,
        labels=tuple(labels),
        pairs=predictor.pairs is True,
        about_pairs=about,
    )


def _task_lanes(predictor: TaskPredictor) -> tuple[Kind, dict[str, Lane]]:
    """Return what the model of a task is for, and the lane of its endpoint."""
    task = predictor.task
    kinds: dict[str, Kind] = {
        "tag": "tag", "answer": "answer", "choose": "choose", "rank": "rank", "regress": "regress"
    }  # fmt: skip
    kind: Kind = kinds.get(task.name, "classify")
    if kind in ("tag", "answer", "choose"):
        lane = PredictorLane(predictor.encoder, predictor.predict, splits=kind != "choose", others=kind == "choose")
        return kind, {kind: lane}
    splits = isinstance(task, ClassifyLong)
    lanes: dict[str, Lane] = {"predict": PredictorLane(predictor.encoder, partial(_scored, predictor), splits=splits)}
    return kind, lanes | ({"rerank": lanes["predict"]} if kind == "rank" else {})


def _scored(predictor: TaskPredictor, questions: Sequence[tuple[str, ...]]) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Return the prediction of each question, and its logits [outputs], of texts alone or of pairs."""
    found: list[Any] = [None] * len(questions)
    for size in {len(one) for one in questions}:
        places = [place for place, one in enumerate(questions) if len(one) == size]
        examples = predictor.task.from_questions([questions[place] for place in places])
        encoded = predictor.task.encode(examples, predictor.encoder)
        logits = predictor.score(encoded.rows)
        predictions = predictor.task.predictions(logits, encoded.examples)
        rows = logits if len(logits) == len(places) else [np.empty(0)] * len(places)
        for place, prediction, row in zip(places, predictions, rows, strict=True):
            found[place] = (prediction, row)
    return found


def _pretrained_lanes(predictor: PretrainedPredictor) -> dict[str, Lane]:
    """Return a lane for each head that a pre-trained model has."""
    encoder = TextEncoder(predictor.tokenizer, max_length=predictor.max_length)
    heads: dict[str, tuple[Literal["masked-token", "next-sentence"], Callable[[], Lane]]] = {
        "fill_mask": ("masked-token", lambda: FillMaskLane(predictor)),
        "next_sentence": ("next-sentence", lambda: PredictorLane(encoder, predictor.next_sentence)),
    }
    lanes = {}
    for name, (head, make) in heads.items():
        try:
            predictor.forward(head)
        except ModelError:
            continue
        lanes[name] = make()
    return lanes
