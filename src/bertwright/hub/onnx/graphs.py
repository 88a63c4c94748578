"""Turns a model into an ONNX graph that computes what the model computes.

row       input_ids, token_type_ids, attention_mask [B, S]     -> logits [B, outputs]
token     the same                                             -> logits [B, S, outputs]
vector    the same                                             -> vectors [B, H], pooled, of unit length where set
masked    the same and asked [B, M], the positions of [MASK]   -> mlm_logits [B, M, V], and nsp_logits [B, 2] of BERT
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from bertwright.hub.onnx.encoders import (
    EVERY,
    FIRST,
    INPUTS,
    QueriedTokens,
    write_activation,
    write_encoder,
    write_transform,
)
from bertwright.hub.onnx.operators import Graph
from bertwright.model.bert import BertForPreTraining
from bertwright.model.encoder import SEQUENCE_HEADS, Encoder
from bertwright.model.modernbert import ModernForMaskedLM
from bertwright.model.sentence_encoder import Pooling, SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.types import LabelledBatch

TOLERANCE = 1e-4
"""Largest difference from torch, for logits up to 1; larger logits may differ as much more (float32 keeps 7 digits)."""

Values = dict[str, tuple[str, Sequence[int | str]]]
"""Outputs of a graph: by name, the value and its axes."""


def write_model(
    model: FineTuned | SentenceEncoder | Encoder, file: Path, *, pairs: bool = True
) -> dict[str, dict[str, Sequence[int | str]]]:
    """Write the graph of a model to `file`; return the axes of its inputs and outputs by name.

    With `pairs` a pre-trained model has its next-sentence head too, if it has one. Raises ModelError where the
    architecture cannot be written.
    """
    graph = Graph()
    inputs: dict[str, Sequence[int | str]] = dict.fromkeys(INPUTS, ("batch", "length"))
    if isinstance(model, SentenceEncoder):
        encoder, outputs = model.encoder, _pooled(graph, model)
    elif isinstance(model, FineTuned):
        encoder, outputs = model.encoder, _head(graph, model)
    else:
        encoder = model
        outputs = _masked(graph, encoder, pairs=pairs and encoder.has_nsp_head)
        inputs["asked"] = ("batch", "asked")
    if not encoder.config.reads_token_types:
        del inputs["token_type_ids"]
    onnx.save(graph.model(inputs=inputs, outputs=outputs), str(file))
    return {"inputs": inputs, "outputs": {name: axes for name, (_, axes) in outputs.items()}}


def reference(
    model: FineTuned | SentenceEncoder | Encoder, arrays: Mapping[str, np.ndarray], *, pairs: bool = True
) -> list[np.ndarray]:
    """Return what torch computes for a batch of arrays, in float32: the outputs of the graph, in their order.

    The first is as `OnnxFolder.logits` gives it: at the positions `asked`, [B, 1, H] for vectors.
    """
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    batch = LabelledBatch(asked=tensors.pop("asked", None), **tensors)
    with torch.inference_mode():
        if isinstance(model, FineTuned):
            return [model(batch).numpy()]
        if isinstance(model, SentenceEncoder):
            return [model(batch).unsqueeze(1).numpy()]
        assert batch.asked is not None
        at = torch.nn.functional.pad(batch.asked, (1, 0))
        hidden = model.encode(batch.input_ids, batch.token_type_ids, batch.attention_mask, at)
        following = model.nsp_logits(hidden) if pairs else None
        return [model.mlm_logits(hidden[:, 1:]).numpy(), *([] if following is None else [following.numpy()])]


def graph_difference(expected: np.ndarray, output: np.ndarray) -> tuple[float, bool]:
    """Return the largest difference of two arrays of logits or vectors, and whether that is within tolerance."""
    largest = float(np.abs(expected - output).max())
    return largest, largest <= TOLERANCE * max(1.0, float(np.abs(expected).max()))


def _pooled(graph: Graph, model: SentenceEncoder) -> Values:
    """Write an encoder of sentence vectors, as `SentenceEncoder.forward` reads its last block."""
    queries, pool = POOLINGS[model.pooling]
    vectors = graph("Squeeze", pool(graph, write_encoder(graph, model.encoder, queries)), graph.constant([1]))
    if model.normalize:
        length = graph("ReduceL2", vectors, graph.constant([-1]))
        vectors = graph("Div", vectors, graph("Max", length, graph.constant(np.float32(1e-12))))
    return {"vectors": (vectors, ("batch", model.encoder.config.hidden_size))}


def _first(graph: Graph, hidden: str) -> str:
    """Return hidden states [B, 1, H] as they are: they are of the first token alone."""
    return hidden


def _largest(graph: Graph, hidden: str) -> str:
    """Return the largest value [B, 1, H] of each unit of hidden states [B, S, H] where there is a token."""
    here = graph("Cast", graph("Unsqueeze", "attention_mask", graph.constant([2])), to=9)  # 9 is bool
    least = graph.constant(np.finfo(np.float32).min)
    return graph("ReduceMax", graph("Where", here, hidden, least), graph.constant([1]))


def _mean(graph: Graph, hidden: str) -> str:
    """Return the mean [B, 1, H] of hidden states [B, S, H] where there is a token."""
    mask = graph("Cast", graph("Unsqueeze", "attention_mask", graph.constant([2])), to=1)  # 1 is float32
    summed, count = (graph("ReduceSum", one, graph.constant([1])) for one in (graph("Mul", hidden, mask), mask))
    return graph("Div", summed, count)


def _head_inputs(graph: Graph, model: FineTuned, hidden: str) -> str:
    """Return what a head reads, [B, M, H], as `Encoder.head_inputs` does."""
    encoder = model.encoder
    if isinstance(encoder, ModernForMaskedLM):
        return write_transform(graph, encoder.mlm_head, hidden)
    if isinstance(encoder, BertForPreTraining) and model.head_type in SEQUENCE_HEADS:
        dense = encoder.pooler.dense
        return write_activation(
            graph, encoder.pooler.activation, graph.linear(hidden, "pooler", dense.weight, dense.bias)
        )
    return hidden


def _head(graph: Graph, model: FineTuned) -> Values:
    """Write a fine-tuned model: over rows its head reads one token, or the mean of all; else every token."""
    over_rows = model.head_type in SEQUENCE_HEADS
    queries = QueriedTokens(FIRST) if over_rows and not model.averages else EVERY
    hidden = write_encoder(graph, model.encoder, queries)
    vectors = _head_inputs(graph, model, _mean(graph, hidden) if model.averages else hidden)
    if over_rows:
        vectors = graph("Squeeze", vectors, graph.constant([1]))
    logits = graph.linear(vectors, "classifier", model.classifier.weight, model.classifier.bias)
    axes = ("batch",) if over_rows else ("batch", "length")
    return {"logits": (logits, (*axes, model.classifier.out_features))}


def _masked(graph: Graph, encoder: Encoder, *, pairs: bool) -> Values:
    """Write a pre-trained model; with `pairs`, [CLS] comes out before the masked positions."""
    assert isinstance(encoder, BertForPreTraining | ModernForMaskedLM)
    places = graph("Concat", graph("Mul", _slice(graph, "asked", 0, 1), graph.constant([0])), "asked", axis=1)
    hidden = write_encoder(graph, encoder, QueriedTokens(places if pairs else "asked"))
    masked = _slice(graph, hidden, 1, np.iinfo(np.int64).max) if pairs else hidden
    vectors = write_transform(graph, encoder.mlm_head, masked)
    logits = graph.linear(vectors, "decoder", encoder.output_matrix, encoder.mlm_head.bias)
    outputs: Values = {"mlm_logits": (logits, ("batch", "asked", encoder.config.vocab_size))}
    if pairs:
        assert isinstance(encoder, BertForPreTraining)
        start = graph("Gather", hidden, graph.constant(np.int64(0)), axis=1)
        dense, classifier = encoder.pooler.dense, encoder.nsp_head.dense
        pooled = graph("Tanh", graph.linear(start, "pooler", dense.weight, dense.bias))
        outputs["nsp_logits"] = (graph.linear(pooled, "nsp_head", classifier.weight, classifier.bias), ("batch", 2))
    return outputs


def _slice(graph: Graph, values: str, begin: int, end: int) -> str:
    """Return values [B, begin:end, ...]."""
    return graph("Slice", values, *(graph.constant([number]) for number in (begin, end, 1)))


POOLINGS: dict[Pooling, tuple[QueriedTokens, Callable[[Graph, str], str]]] = {
    "mean": (EVERY, _mean),
    "cls": (QueriedTokens(FIRST), _first),
    "max": (EVERY, _largest),
}
"""How sentence vectors are written: which tokens of the last block they read, and what becomes of these."""
