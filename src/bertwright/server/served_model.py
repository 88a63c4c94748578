"""Turns a model folder of any kind into what is served of it: a lane for each thing that the model can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bertwright.errors import ModelError
from bertwright.hub.onnx.onnx_folder import OnnxFolder, is_onnx_folder, open_onnx
from bertwright.hub.sentence_layout import Prompts
from bertwright.inference.base import Predictor
from bertwright.inference.batching import BatchPolicy, logits_of
from bertwright.inference.predictors import TaskPredictor, open_predictor
from bertwright.inference.pretrained_predictor import PretrainedPredictor
from bertwright.server.batcher import Lane
from bertwright.server.lanes import EmbedLane, FillMaskLane, PredictorLane
from bertwright.server.refusal import Refusal
from bertwright.tasks.classification.long_texts import ClassifyLong
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from bertwright.model.encoder import Encoder

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
    encoder      the encoder itself, of torch, for whoever looks inside
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
    encoder: Encoder | None = None

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
        return [*self.lanes, *more]


def open_model(name: str, folder: Path, *, precision: Precision, budget: int) -> ServedModel:
    """Return the model of a folder, ready to be asked in batches of about `budget` tokens by one thread or several.

    Raises ModelError where the folder is damaged or lacks weights, and UsageError where onnxruntime is not installed.
    """
    if is_onnx_folder(folder):
        return _exported(name, open_onnx(folder), budget=budget)
    from bertwright.server.torch_models import open_torch_model

    return open_torch_model(name, folder, precision=precision, budget=budget)


def _exported(name: str, opened: OnnxFolder, *, budget: int) -> ServedModel:
    if opened.head_type == "vector":
        tokenizer = load_tokenizer(opened.folder)
        prompt = str(opened.about.get("prompt", ""))
        lane = EmbedLane(TextEncoder(tokenizer, max_length=opened.max_length), opened.logits)
        return ServedModel(
            name,
            "embedding",
            tokenizer,
            {"embed": lane},
            opened.max_length,
            dtype=_exported_dtype(opened),
            device="cpu",
            prompts=Prompts({"default": prompt}, "default") if prompt else Prompts(),
            always_unit=bool(opened.about["normalize"]),
            pooling=str(opened.about["pooling"]),
        )
    predictor = open_predictor(opened.folder)
    policy = BatchPolicy(tokens=budget)
    if isinstance(predictor, TaskPredictor):
        predictor.score = partial(logits_of, opened.logits, policy=policy)
    elif isinstance(predictor, PretrainedPredictor):
        predictor.policy = policy
    return served_predictor(name, predictor, dtype=_exported_dtype(opened), device="cpu")


def _exported_dtype(opened: OnnxFolder) -> str:
    return "int8" if opened.about.get("quantized") == "int8" else "float32"


def served_predictor(
    name: str,
    predictor: Predictor,
    *,
    dtype: str,
    device: str,
    more: Mapping[str, Lane] | None = None,
    encoder: Encoder | None = None,
) -> ServedModel:
    """Return what is served of a predictor; `more` are lanes of its encoder, which goes along for who looks inside."""
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
        encoder=encoder,
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
