"""Writes an encoder down as an ONNX graph: BERT, its kin and ModernBERT, block by block, with the weights they have.

B rows, S tokens a row, M of them queries of the last block, A heads of D units, H = A x D. What the model computes
again each time is done once here: query, key and value stand side by side, and the scale of the scores is part of the
weights of the query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bertwright.errors import ModelError
from bertwright.hub.onnx.operators import Graph
from bertwright.model.bert import BertForPreTraining, Block, Embeddings
from bertwright.model.deberta import SCORES, Deberta
from bertwright.model.encoder import Encoder
from bertwright.model.heads import MaskedTokenHead
from bertwright.model.layers.activations import ACTIVATIONS
from bertwright.model.layers.attention import Attention
from bertwright.model.layers.attention_mask import MASK_VALUE
from bertwright.model.modernbert import ModernBlock, ModernForMaskedLM

INPUTS = ("input_ids", "token_type_ids", "attention_mask")
"""What an encoder reads, [batch, length] int64 each, as transformers calls it."""
FIRST = "first"
"""Stands for the first token of each row, where positions are wanted."""

OPERATORS: dict[Callable[[Tensor], Tensor], tuple[str, dict[str, str]]] = {
    ACTIVATIONS["gelu"]: ("Gelu", {}),
    ACTIVATIONS["gelu_new"]: ("Gelu", {"approximate": "tanh"}),
    ACTIVATIONS["relu"]: ("Relu", {}),
    ACTIVATIONS["tanh"]: ("Tanh", {}),
}
"""The operator of each activation, and its attributes."""


@dataclass(frozen=True)
class QueriedTokens:
    """Which tokens come out: all of them (None), the first of each row (FIRST), or those at positions [B, M]."""

    positions: str | None


EVERY = QueriedTokens(None)


def write_encoder(graph: Graph, encoder: Encoder, queries: QueriedTokens) -> str:
    """Add the encoder to `graph` and return its hidden states [B, S or M, H], as `Encoder.encode` does.

    Raises ModelError where the architecture cannot be written.
    """
    found = next((writers for kind, writers in ENCODERS.items() if isinstance(encoder, kind)), None)
    if found is None:
        raise ModelError(f"{type(encoder).__name__} cannot be written as ONNX; BERT, its kin and ModernBERT can")
    write_embeddings, write_block = found
    hidden, padding = write_embeddings(graph, encoder), _padding_bias(graph)
    for number in range(len(encoder.blocks)):
        of_block = queries if number == len(encoder.blocks) - 1 else EVERY
        hidden = write_block(graph, encoder, number, hidden, padding, of_block)
    return _norm(graph, hidden, "norm", encoder.norm)


def write_transform(graph: Graph, head: MaskedTokenHead, hidden: str) -> str:
    """Add the dense layer, activation and LayerNorm of the masked-token head: [..., E] of [..., H]."""
    dense = graph.linear(hidden, "mlm_head.dense", head.dense.weight, head.dense.bias)
    return _norm(graph, write_activation(graph, head.activation, dense), "mlm_head.norm", head.norm)


def write_activation(graph: Graph, activation: Callable[[Tensor], Tensor], values: str) -> str:
    """Add an activation of `ACTIVATIONS`: [...] of [...]."""
    operator, attributes = OPERATORS[activation]
    return graph(operator, values, **attributes)


def pick(graph: Graph, values: str, queries: QueriedTokens) -> str:
    """Return [B, M, ...] of values [B, S, ...]: those of the queries."""
    if queries.positions is None:
        return values
    if queries.positions == FIRST:
        return graph("Gather", values, graph.constant([0]), axis=1)
    places = graph("Unsqueeze", queries.positions, graph.constant([2]))
    return graph("GatherND", values, places, batch_dims=1)


def _bert_embeddings(graph: Graph, model: Encoder) -> str:
    assert isinstance(model, BertForPreTraining)
    tables = model.embeddings
    hidden = graph("Gather", graph.weight("embeddings.words", tables.words.weight), "input_ids")
    if hasattr(tables, "types"):
        hidden = graph("Add", hidden, _types(graph, tables))
    if hasattr(tables, "positions"):  # rows before the first that a text begins with are never used, and not written
        rows = graph.weight("embeddings.positions", tables.positions.weight[tables.first :])
        positions = graph("Slice", rows, graph.constant([0]), graph("Shape", "input_ids", start=1))
        hidden = graph("Add", hidden, positions)
    normed = _norm(graph, hidden, "embeddings.norm", tables.norm)
    if not hasattr(tables, "project"):
        return normed
    return graph.linear(normed, "embeddings.project", tables.project.weight, tables.project.bias)


def _types(graph: Graph, tables: Embeddings) -> str:
    """Return the token-type embeddings, [B, S, E], or [E] where all tokens are of the first type."""
    weight = tables.types.weight
    if not tables.reads_types:
        return graph.weight("embeddings.type", weight[0])
    # In a model of one token type all tokens are of that, in pairs too: an index of 1 would be out of its table.
    only_one = tables.types.num_embeddings == 1
    kinds = graph("Mul", "token_type_ids", graph.constant(np.int64(0))) if only_one else "token_type_ids"
    return graph("Gather", graph.weight("embeddings.types", weight), kinds)


def _bert_block(graph: Graph, model: Encoder, number: int, hidden: str, padding: str, queries: QueriedTokens) -> str:
    block, name = model.blocks[number], f"blocks.{number}"
    assert isinstance(block, Block)
    distances = Distances(graph, model, queries) if isinstance(model, Deberta) else None
    attended = _attention(graph, f"{name}.attention", block.attention, hidden, padding, queries, distances=distances)
    summed = graph("Add", pick(graph, hidden, queries), attended)
    between = _norm(graph, summed, f"{name}.attention_norm", block.attention_norm)
    expanded = graph.linear(between, f"{name}.inner", block.inner.weight, block.inner.bias)
    inner = write_activation(graph, block.activation, expanded)
    outer = graph.linear(inner, f"{name}.outer", block.outer.weight, block.outer.bias)
    return _norm(graph, graph("Add", between, outer), f"{name}.norm", block.norm)


def _modern_embeddings(graph: Graph, model: Encoder) -> str:
    assert isinstance(model, ModernForMaskedLM)
    words = graph("Gather", graph.weight("embeddings.words", model.embeddings.words.weight), "input_ids")
    return _norm(graph, words, "embeddings.norm", model.embeddings.norm)


def _modern_block(graph: Graph, model: Encoder, number: int, hidden: str, padding: str, queries: QueriedTokens) -> str:
    block, name = model.blocks[number], f"blocks.{number}"
    assert isinstance(model, ModernForMaskedLM)
    assert isinstance(block, ModernBlock)
    whole = model.config.is_global(number)
    bias = padding if whole else _window_bias(graph, padding, model.config.local_window, queries)
    kind = "global" if whole else "local"
    angles = _angles(graph, kind, model.get_buffer(f"{kind}_rotation"))
    normed = _norm(graph, hidden, f"{name}.attention_norm", block.attention_norm)
    attended = _attention(graph, f"{name}.attention", block.attention, normed, bias, queries, angles)
    summed = graph("Add", pick(graph, hidden, queries), attended)
    between = _norm(graph, summed, f"{name}.mlp_norm", block.mlp_norm)
    mlp = block.mlp
    both = graph.linear(between, f"{name}.inner_and_gate", torch.cat([mlp.inner.weight, mlp.gate.weight]), None)
    inner, gate = graph.several("Split", both, outputs=2, axis=-1, num_outputs=2)
    product = graph("Mul", graph("Gelu", inner), gate)
    return graph("Add", summed, graph.linear(product, f"{name}.outer", mlp.outer.weight, None))


def _attention(
    graph: Graph,
    name: str,
    layer: Attention,
    hidden: str,
    bias: str,
    queries: QueriedTokens,
    angles: tuple[str, str] | None = None,
    distances: Distances | None = None,
) -> str:
    """Return [B, M, H] of hidden states [B, S, H]; `bias` is added to the scores [B, A, M, S]."""
    width = layer.query.out_features // layer.heads
    scale = (width if distances is None else width * SCORES) ** -0.5
    query = (layer.query.weight * scale, None if layer.query.bias is None else layer.query.bias * scale)
    key, value = ((one.weight, one.bias) for one in (layer.key, layer.value))
    if queries.positions is None:
        q, k, v = _projected(graph, f"{name}.query_key_value", hidden, [query, key, value], layer.heads, width)
    else:
        (q,) = _projected(graph, f"{name}.query", pick(graph, hidden, queries), [query], layer.heads, width)
        k, v = _projected(graph, f"{name}.key_value", hidden, [key, value], layer.heads, width)
    if angles is not None:
        q, k = _rotated(graph, q, angles, queries), _rotated(graph, k, angles, EVERY)
    q, k, v = (graph("Transpose", one, perm=[0, 2, 1, 3]) for one in (q, k, v))
    scores = graph("MatMul", q, graph("Transpose", k, perm=[0, 1, 3, 2]))  # onnxruntime makes this one product
    if distances is not None:
        scores = distances.added_to(scores, name, layer, q, k)
    probabilities = graph("Softmax", graph("Add", scores, bias), axis=-1)
    found = graph("Transpose", graph("MatMul", probabilities, v), perm=[0, 2, 1, 3])
    joined = graph("Reshape", found, graph.constant([0, 0, layer.heads * width]))
    return graph.linear(joined, f"{name}.output", layer.output.weight, layer.output.bias)


def _projected(
    graph: Graph, name: str, hidden: str, layers: list[tuple[Tensor, Tensor | None]], heads: int, width: int
) -> list[str]:
    """Return [B, S, A, D] for each (weight, bias), by one product over them side by side."""
    biases = [bias for _, bias in layers if bias is not None]
    weight = torch.cat([weight for weight, _ in layers])
    joined = graph.linear(hidden, name, weight, torch.cat(biases) if biases else None)
    count = len(layers)
    outputs = graph.several("Split", joined, outputs=count, axis=-1, num_outputs=count) if count > 1 else [joined]
    shape = graph.constant([0, 0, heads, width])
    return [graph("Reshape", part, shape) for part in outputs]


def _rotated(graph: Graph, vectors: str, angles: tuple[str, str], queries: QueriedTokens) -> str:
    """Return vectors [B, S, A, D] turned by their positions (see `rotate` in model/layers/attention.py)."""
    cosines, sines = (_at_positions(graph, one, queries) for one in angles)
    first, second = graph.several("Split", vectors, outputs=2, axis=-1, num_outputs=2)
    swapped = graph("Concat", second, first, axis=-1)
    return graph("Add", graph("Mul", vectors, cosines), graph("Mul", swapped, sines))


def _at_positions(graph: Graph, angles: str, queries: QueriedTokens) -> str:
    """Return the rows of angles [positions, 1, D] that belong to the queries."""
    if queries.positions is None:
        return graph("Slice", angles, graph.constant([0]), graph("Shape", "input_ids", start=1))
    return graph("Gather", angles, graph.constant([0]) if queries.positions == FIRST else queries.positions)


def _angles(graph: Graph, name: str, rotation: Tensor) -> tuple[str, str]:
    """Add cosines and sines [positions, 1, D] of rotary angles [2, positions, 2, D / 2]."""
    cosines, sines = rotation.flatten(2).unsqueeze(2)
    return graph.weight(f"{name}.cosines", cosines), graph.weight(f"{name}.sines", sines)


def _padding_bias(graph: Graph) -> str:
    """Return [B, 1, 1, S] float32: 0 where a token stands, MASK_VALUE for padding."""
    here = graph("Cast", graph("Unsqueeze", "attention_mask", graph.constant([1, 2])), to=9)  # 9 is bool
    return graph("Where", here, graph.constant(np.float32(0)), graph.constant(np.float32(MASK_VALUE)))


class Distances:
    """What DeBERTa adds to the scores of a block: products with the vectors of distances (see model/deberta.py)."""

    def __init__(self, graph: Graph, model: Deberta, queries: QueriedTokens) -> None:
        """Write which vector stands for the distance of each query to each key, [B or 1, 1, M, S]."""
        self.graph, self.vectors = graph, model.embeddings.distance_vectors().detach()
        at, keys = _query_positions(graph, queries)
        first = graph.constant(np.int64(model.config.max_positions - 1))
        table = graph.constant(model.get_buffer("buckets").numpy(), "buckets")
        self.buckets = graph("Gather", table, graph("Add", graph("Sub", at, keys), first))

    def added_to(self, scores: str, name: str, layer: Attention, query: str, key: str) -> str:
        """Return the scores [B, A, M, S] with both products added, of queries [B, A, M, D], scaled, and keys."""
        graph, width = self.graph, layer.query.out_features // layer.heads
        far_query, far_key = (
            self._projected(f"{name}.far_{kind}", linear, layer.heads, scale)
            for kind, linear, scale in (("query", layer.query, (width * SCORES) ** -0.5), ("key", layer.key, 1.0))
        )
        shape = graph("Shape", scores)
        everywhere = graph("Expand", self.buckets, shape)
        of_query = graph("GatherElements", graph("MatMul", query, far_key), everywhere, axis=3)
        turned = graph("Transpose", everywhere, perm=[0, 1, 3, 2])
        of_key = graph("GatherElements", graph("MatMul", key, far_query), turned, axis=3)
        return graph("Add", graph("Add", scores, of_query), graph("Transpose", of_key, perm=[0, 1, 3, 2]))

    def _projected(self, name: str, linear: nn.Linear, heads: int, scale: float) -> str:
        """Add the vectors of distances as queries or keys, [A, D, 2 K]: they are the same for every row.

        As what a node gives, they are not taken for a weight that is rounded to 8 bits, of which each is a matrix.
        """
        projected = linear(self.vectors).detach() * scale
        vectors = projected.view(len(projected), heads, -1).permute(1, 2, 0)
        return self.graph("Identity", self.graph.weight(name, vectors))


def _query_positions(graph: Graph, queries: QueriedTokens) -> tuple[str, str]:
    """Return the positions of queries, [B, 1, M, 1], [M, 1] or [1, 1], and of keys, [S]."""
    length = graph("Squeeze", graph("Shape", "input_ids", start=1))
    keys = graph("Range", graph.constant(np.int64(0)), length, graph.constant(np.int64(1)))
    if queries.positions is None:
        return graph("Unsqueeze", keys, graph.constant([1])), keys
    if queries.positions == FIRST:
        return graph.constant(np.zeros((1, 1), dtype=np.int64)), keys
    return graph("Unsqueeze", queries.positions, graph.constant([1, 3])), keys


def _window_bias(graph: Graph, padding: str, window: int, queries: QueriedTokens) -> str:
    """Return [B, 1, M, S]: `padding`, and MASK_VALUE where keys are over window // 2 tokens away."""
    distance = graph("Abs", graph("Sub", *_query_positions(graph, queries)))
    far = graph("Greater", distance, graph.constant(np.int64(window // 2)))
    return graph("Where", far, graph.constant(np.float32(MASK_VALUE)), padding)


def _norm(graph: Graph, values: str, name: str, norm: nn.Module) -> str:
    """Add a LayerNorm, or nothing for the identity that stands where an architecture has none."""
    if not isinstance(norm, nn.LayerNorm):
        return values
    scale = graph.weight(f"{name}.weight", norm.weight)
    inputs = [scale] if norm.bias is None else [scale, graph.weight(f"{name}.bias", norm.bias)]
    return graph("LayerNormalization", values, *inputs, axis=-1, epsilon=norm.eps)


WriteEmbeddings = Callable[[Graph, Encoder], str]
WriteBlock = Callable[[Graph, Encoder, int, str, str, QueriedTokens], str]
ENCODERS: dict[type[Encoder], tuple[WriteEmbeddings, WriteBlock]] = {
    BertForPreTraining: (_bert_embeddings, _bert_block),
    ModernForMaskedLM: (_modern_embeddings, _modern_block),
}
"""How embeddings and blocks of each architecture are written."""
