"""Says what is served: the answer of /info, in the words of Text Embeddings Inference and some of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from bertwright import __version__
from bertwright.server.endpoints.call import Limits
from bertwright.server.served_model import TEI_KINDS, ServedModel


class ModelInfo(Struct):
    """A model as it is served, in the words of Text Embeddings Inference and, from `kind` on, in ours."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: dict[str, Any]
    max_input_length: int
    kind: str
    endpoints: list[str]


class Info(ModelInfo):
    """The first model, the limits of the server, and all its models."""

    max_concurrent_requests: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None
    models: list[ModelInfo]


def info_of(models: Mapping[str, ServedModel], limits: Limits, budget: int) -> Info:
    """Return what is served; models are called by the names they were given, not by their folders."""
    every = [model_info(model) for model in models.values()]
    first = {name: getattr(every[0], name) for name in every[0].__struct_fields__}
    return Info(
        **first,
        max_concurrent_requests=limits.concurrent,
        max_batch_tokens=budget,
        max_batch_requests=None,
        max_client_batch_size=limits.batch,
        auto_truncate=limits.truncate,
        tokenization_workers=1,
        version=__version__,
        sha=None,
        docker_label=None,
        models=every,
    )


def model_info(model: ServedModel) -> ModelInfo:
    """Return what is served of one model."""
    labels = {str(place): label for place, label in enumerate(model.labels)}
    about: dict[str, Any] = {"pooling": model.pooling}
    kind = TEI_KINDS.get(model.kind, "embedding")
    if kind != "embedding":
        about = {"id2label": labels, "label2id": {label: int(place) for place, label in labels.items()}}
    return ModelInfo(
        model_id=model.name,
        model_sha=None,
        model_dtype=model.dtype,
        served_model_name=model.name,
        model_type={kind: about},
        max_input_length=model.max_length,
        kind=model.kind,
        endpoints=[f"/{name}" for name in model.endpoints],
    )
