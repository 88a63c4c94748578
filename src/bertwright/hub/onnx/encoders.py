"""Writes an encoder down as an ONNX graph: BERT and ModernBERT, block by block, with the weights they have.

B rows, S tokens a row, M of them asked about, A heads of D units, H = A x D. What the model computes anew each time is
done once here: query, key and value stand side by side, and the scale of the scores is part of the query's weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bertwright.errors import ModelError
from bertwright.hub.onnx.operators import Graph
from bertwright.model.bert import BertForPreTraining
from bertwright.model.encoder import Encoder
from bertwright.model.heads import MaskedTokenHead
from bertwright.model.layers.attention import Attention
from bertwright.model.layers.attention_mask import MASK_VALUE
from bertwright.model.layers.block import Block
from bertwright.model.layers.embeddings import Embeddings
from bertwright.model.modernbert import ModernBlock, ModernForMaskedLM

INPUTS = ("input_ids", "token_type_ids", "attention_mask")
"""What an encoder reads, [batch, length] int64 each, as transformers calls it."""
FIRST = "first"
"""Stands for the first token of each row, where positions are asked about."""


@dataclass(frozen=True)
class QueriedTokens:
    """Which tokens come out: all of them (None), the first of each row (FIRST), or those at positions [B, M]."""

    positions: str | None


def write_encoder(graph: Graph, encoder: Encoder, asked: QueriedTokens) -> str:
    """Add the encoder to `graph` and return its hidden states [B, S or M, H], as `Encoder.encode` does.

    Raises ModelError where the architecture cannot be written.
    """
    write = ENCODERS.get(type(encoder))
    if write is None:
        raise ModelError(f"{type(encoder).__name__} cannot be written as ONNX; BERT and ModernBERT can")
    return write(graph, encoder, asked)


def write_transform(graph: Graph, head: MaskedTokenHead, hidden: str) -> str:
    """Add the dense layer, GELU and LayerNorm of the masked-token head: [..., H] of [..., H]."""
    dense = graph.linear(hidden, "mlm_head.dense", head.dense.weight, head.dense.bias)
    return _norm(graph, graph("Gelu", dense), "mlm_head.norm", head.norm)


def pick(graph: Graph, values: str, asked: QueriedTokens) -> str:
    """Return [B, M, ...] of values [B, S, ...]: those asked about."""
    if asked.positions is None:
        return values
    if asked.positions == FIRST:
        return graph("Gather", values, graph.constant([0]), axis=1)
    places = graph("Unsqueeze", asked.positions, graph.constant([2]))
    return graph("GatherND", values, places, batch_dims=1)


def _write_bert(graph: Graph, model: Encoder, asked: QueriedTokens) -> str:
    assert isinstance(model, BertForPreTraining)
    parts = model.embeddings
    words = graph("Gather", graph.weight("embeddings.words", parts.words.weight), "input_ids")
    types = graph("Gather", graph.weight("embeddings.types", parts.types.weight), _types(graph, parts))
    length = graph("Shape", "input_ids", start=1)
    positions = graph(
        "Slice", graph.weight("embeddings.positions", parts.positions.weight), graph.constant([0]), length
    )
    hidden = graph("Add", graph("Add", words, types), positions)
    hidden = _norm(graph, hidden, "embeddings.norm", parts.norm)
    bias = _padding_bias(graph)
    for place, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        last = asked if place == len(model.blocks) - 1 else QueriedTokens(None)
        hidden = _write_block(graph, f"blocks.{place}", block, hidden, bias, last)
    return hidden


def _types(graph: Graph, parts: Embeddings) -> str:
    """Return the token types [B, S] that have an embedding: in a model of one type all are of that, in pairs too."""
    only_one = parts.types.num_embeddings == 1
    return graph("Mul", "token_type_ids", graph.constant(np.int64(0))) if only_one else "token_type_ids"


def _write_block(graph: Graph, name: str, block: Block, hidden: str, bias: str, asked: QueriedTokens) -> str:
    attended = _attention(graph, f"{name}.attention", block.attention, hidden, bias, asked)
    summed = graph("Add", pick(graph, hidden, asked), attended)
    between = _norm(graph, summed, f"{name}.attention_norm", block.attention_norm)
    inner = graph("Gelu", graph.linear(between, f"{name}.inner", block.inner.weight, block.inner.bias))
    outer = graph.linear(inner, f"{name}.outer", block.outer.weight, block.outer.bias)
    return _norm(graph, graph("Add", between, outer), f"{name}.norm", block.norm)


def _write_modern(graph: Graph, model: Encoder, asked: QueriedTokens) -> str:
    assert isinstance(model, ModernForMaskedLM)
    config, parts = model.config, model.embeddings
    words = graph("Gather", graph.weight("embeddings.words", parts.words.weight), "input_ids")
    hidden = _norm(graph, words, "embeddings.norm", parts.norm)
    padding = _padding_bias(graph)
    for place, block in enumerate(model.blocks):
        assert isinstance(block, ModernBlock)
        last = asked if place == len(model.blocks) - 1 else QueriedTokens(None)
        whole = config.is_global(place)
        bias = padding if whole else _window_bias(graph, padding, config.local_window, last)
        rotation = model.get_buffer("global_rotation" if whole else "local_rotation")
        angles = _angles(graph, "global" if whole else "local", rotation)
        hidden = _write_modern_block(graph, f"blocks.{place}", block, hidden, bias, angles, last)
    return _norm(graph, hidden, "norm", model.norm)


def _write_modern_block(
    graph: Graph, name: str, block: ModernBlock, hidden: str, bias: str, angles: tuple[str, str], asked: QueriedTokens
) -> str:
    norm = block.attention_norm
    normed = _norm(graph, hidden, f"{name}.attention_norm", norm) if isinstance(norm, nn.LayerNorm) else hidden
    attended = _attention(graph, f"{name}.attention", block.attention, normed, bias, asked, angles)
    summed = graph("Add", pick(graph, hidden, asked), attended)
    between = _norm(graph, summed, f"{name}.mlp_norm", block.mlp_norm)
    mlp = block.mlp
    both = graph.linear(between, f"{name}.inner_and_gate", torch.cat([mlp.inner.weight, mlp.gate.weight]), None)
    inner, gate = graph.several("Split", both, outputs=2, axis=-1, num_outputs=2)
    product = graph("Mul", graph("Gelu", inner), gate)
    return graph("Add", summed, graph.linear(product, f"{name}.outer", mlp.outer.weight, None))


def _attention(
    graph: Graph,
    name: str,
    part: Attention,
    hidden: str,
    bias: str,
    asked: QueriedTokens,
    angles: tuple[str, str] | None = None,
) -> str:
    """Return [B, M, H] of hidden states [B, S, H]; `bias` is added to the scores [B, A, M, S]."""
    width = part.query.out_features // part.heads
    scale = width**-0.5
    query = (part.query.weight * scale, None if part.query.bias is None else part.query.bias * scale)
    key, value = ((layer.weight, layer.bias) for layer in (part.key, part.value))
    if asked.positions is None:
        q, k, v = _projected(graph, f"{name}.query_key_value", hidden, [query, key, value], part.heads, width)
    else:
        (q,) = _projected(graph, f"{name}.query", pick(graph, hidden, asked), [query], part.heads, width)
        k, v = _projected(graph, f"{name}.key_value", hidden, [key, value], part.heads, width)
    if angles is not None:
        q, k = _rotated(graph, q, angles, asked), _rotated(graph, k, angles, QueriedTokens(None))
    q, k, v = (graph("Transpose", one, perm=[0, 2, 1, 3]) for one in (q, k, v))
    scores = graph("MatMul", q, graph("Transpose", k, perm=[0, 1, 3, 2]))  # onnxruntime makes this one product
    shares = graph("Softmax", graph("Add", scores, bias), axis=-1)
    mixed = graph("Transpose", graph("MatMul", shares, v), perm=[0, 2, 1, 3])
    joined = graph("Reshape", mixed, graph.constant([0, 0, part.heads * width]))
    return graph.linear(joined, f"{name}.output", part.output.weight, part.output.bias)


def _projected(
    graph: Graph, name: str, hidden: str, layers: list[tuple[Tensor, Tensor | None]], heads: int, width: int
) -> list[str]:
    """Return [B, S, A, D] for each (weight, bias), by one product over them side by side."""
    biases = [bias for _, bias in layers if bias is not None]
    weight = torch.cat([weight for weight, _ in layers])
    joined = graph.linear(hidden, name, weight, torch.cat(biases) if biases else None)
    count = len(layers)
    parts = graph.several("Split", joined, outputs=count, axis=-1, num_outputs=count) if count > 1 else [joined]
    shape = graph.constant([0, 0, heads, width])
    return [graph("Reshape", part, shape) for part in parts]


def _rotated(graph: Graph, vectors: str, angles: tuple[str, str], asked: QueriedTokens) -> str:
    """Return vectors [B, S, A, D] turned by their positions (see `model/layers/rotary.py`)."""
    cosines, sines = (_at_positions(graph, one, asked) for one in angles)
    first, second = graph.several("Split", vectors, outputs=2, axis=-1, num_outputs=2)
    swapped = graph("Concat", second, first, axis=-1)
    return graph("Add", graph("Mul", vectors, cosines), graph("Mul", swapped, sines))


def _at_positions(graph: Graph, angles: str, asked: QueriedTokens) -> str:
    """Return the rows of angles [positions, 1, D] that belong to the tokens asked about."""
    if asked.positions is None:
        return graph("Slice", angles, graph.constant([0]), graph("Shape", "input_ids", start=1))
    return graph("Gather", angles, graph.constant([0]) if asked.positions == FIRST else asked.positions)


def _angles(graph: Graph, name: str, rotation: Tensor) -> tuple[str, str]:
    """Add cosines and sines [positions, 1, D] of rotary angles [2, positions, 2, D / 2]."""
    cosines, sines = rotation.flatten(2).unsqueeze(2)
    return graph.weight(f"{name}.cosines", cosines), graph.weight(f"{name}.sines", sines)


def _padding_bias(graph: Graph) -> str:
    """Return [B, 1, 1, S] float32: 0 where a token stands, MASK_VALUE for padding."""
    here = graph("Cast", graph("Unsqueeze", "attention_mask", graph.constant([1, 2])), to=9)  # 9 is bool
    return graph("Where", here, graph.constant(np.float32(0)), graph.constant(np.float32(MASK_VALUE)))


def _window_bias(graph: Graph, padding: str, window: int, asked: QueriedTokens) -> str:
    """Return [B, 1, M, S]: `padding`, and MASK_VALUE where keys are over window // 2 tokens away."""
    length = graph("Squeeze", graph("Shape", "input_ids", start=1))
    keys = graph("Range", graph.constant(np.int64(0)), length, graph.constant(np.int64(1)))
    if asked.positions is None:
        queries = graph("Unsqueeze", keys, graph.constant([1]))
    elif asked.positions == FIRST:
        queries = graph.constant(np.zeros((1, 1), dtype=np.int64))
    else:
        queries = graph("Unsqueeze", asked.positions, graph.constant([1, 3]))
    distance = graph("Abs", graph("Sub", queries, keys))
    far = graph("Greater", distance, graph.constant(np.int64(window // 2)))
    return graph("Where", far, graph.constant(np.float32(MASK_VALUE)), padding)


def _norm(graph: Graph, values: str, name: str, norm: nn.LayerNorm) -> str:
    scale = graph.weight(f"{name}.weight", norm.weight)
    parts = [scale] if norm.bias is None else [scale, graph.weight(f"{name}.bias", norm.bias)]
    return graph("LayerNormalization", values, *parts, axis=-1, epsilon=norm.eps)


ENCODERS: dict[type[Encoder], Callable[[Graph, Encoder, QueriedTokens], str]] = {
    BertForPreTraining: _write_bert,
    ModernForMaskedLM: _write_modern,
}
"""How each architecture is written."""
