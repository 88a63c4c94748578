"""Turns an ONNX graph into one that multiplies 8-bit integers: a quarter of the bytes, and about twice as fast.

Weights are rounded once, a scale a column; the values they are multiplied with are rounded as they come, a scale a
token, so that no text changes the answer of another in its batch. Sums, norms and attention stay in float32.
Embeddings are rounded too, a scale a row, which makes the file small.

A few units of BERT's hidden states are ten times as large as the others, and one scale for all leaves those few bits.
So the units that real rows show to be the largest are multiplied in float32 (Dettmers et al., 2022, LLM.int8).

x86 CPUs without VNNI add two neighbouring products in 16 bits, and a sum above 32,767 becomes 32,767 (vpmaddubsw). So
the scale of a column is chosen such that no two neighbouring weights can reach that sum, whatever they are multiplied
with: the answer is then the same on every CPU.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bertwright.hub.onnx.onnx_folder import open_session

LARGE_UNITS = 8
"""Units of each product, and at most an eighth of them, that stay in float32. Sentence vectors of MiniLM, 150 texts of
STS-B and 150 of SST-2, cosine with float32, mean and least: 0.9993 and 0.9984; 0.9967 and 0.9875 with none. CPU time a
text, AMD EPYC with VNNI, least of five turns on a busy machine: 1.30 ms with 8, 1.11 with none, 2.31 in float32."""

PAIR = 127
"""The sum of two neighbouring weights of a sign, before rounding. Rounding adds 1 at most, and 255 x 128 is 32,640."""

MIDDLE = 128
"""What stands for 0 among values of 8 bits without a sign; the largest of a token, 127 steps from it, are 1 and 255."""

TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class RoundedGraph:
    """The nodes and tensors of the graph with 8-bit products, in the order they are added."""

    nodes: list[NodeProto] = field(default_factory=list)
    tensors: list[TensorProto] = field(default_factory=list)

    def add(self, name: str, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, both of that name, and return it."""
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        """Add a tensor and return its name."""
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def quantize_int8(model: Path, out: Path, batches: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Write the graph in `model` to `out` with 8-bit products and embeddings.

    `batches` are inputs by name, of real rows; the largest units are looked up on them.
    """
    proto = onnx.load(str(model))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    products = [node for node in proto.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    largest = largest_values(model, sorted({node.input[0] for node in products}), batches)
    graph = RoundedGraph()
    for node in proto.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            _write_product(graph, node, weights[node.input[1]], largest[node.input[0]])
        elif node.op_type == "Gather" and _is_table(weights.get(node.input[0])):
            _write_lookup(graph, node, weights[node.input[0]])
        else:
            graph.nodes.append(node)
    used = {name for node in graph.nodes for name in node.input}
    tensors = [*(tensor for tensor in proto.graph.initializer if tensor.name in used), *graph.tensors]
    for kept, changed in ((proto.graph.node, graph.nodes), (proto.graph.initializer, tensors)):
        written = list(changed)
        del kept[:]
        kept.extend(written)
    onnx.save(proto, str(out))


def rounded_columns(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights [I, O] as 8-bit integers [I, O] and the scale [O] they are multiplied with.

    Weights 2k and 2k + 1 of a column, whose products are added in 16 bits, sum up to -128 to 128 where they have the
    same sign. (One bit less for every weight would do as well, at twice the rounding error of most columns.)
    """
    pairs = np.pad(weights, ((0, len(weights) % 2), (0, 0))).reshape(-1, 2, weights.shape[1])
    sums = [np.maximum(sign * pairs, 0).sum(1).max(0) for sign in (1, -1)]
    scale = np.maximum(np.maximum(*sums) / PAIR, TINY).astype(np.float32)
    return np.rint(weights / scale).astype(np.int8), scale


def largest_values(
    model: Path, names: Sequence[str], batches: Iterable[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the largest absolute value [I] of each unit of the values [..., I] called `names`."""
    graph = onnx.load(str(model))
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    found: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as scratch:
        onnx.save(graph, str(Path(scratch) / "probe.onnx"))
        session = open_session(Path(scratch) / "probe.onnx")
        for batch in batches if names else ():  # no names would mean every output
            for name, values in zip(names, session.run(list(names), dict(batch)), strict=True):
                largest = np.abs(values).max(axis=tuple(range(values.ndim - 1)))
                found[name] = np.maximum(found.get(name, largest), largest)
    return found


def _write_product(graph: RoundedGraph, node: NodeProto, weights: np.ndarray, largest: np.ndarray) -> None:
    """Write the product of values [..., I] with weights [I, O]: the largest units in float32, the others in 8 bits."""
    name, values, product = node.name, node.input[0], node.output[0]
    count = min(LARGE_UNITS, len(weights) // 8)
    if not count:
        _write_rounded(graph, name, values, weights, product)
        return
    large = np.sort(np.argsort(-largest, kind="stable")[:count])
    others = np.ones(len(weights), np.float32)
    others[large] = 0
    small = graph.add(f"{name}_small", "Mul", values, graph.constant(f"{name}_others", others))
    rounded = _write_rounded(graph, name, small, weights * others[:, None], f"{name}_rounded")
    places = graph.constant(f"{name}_large_units", large.astype(np.int64))
    few = graph.add(f"{name}_large", "Gather", values, places, axis=-1)
    exact = graph.add(f"{name}_exact", "MatMul", few, graph.constant(f"{name}_large_weights", weights[large]))
    graph.add(product, "Add", rounded, exact)


def _write_rounded(graph: RoundedGraph, name: str, values: str, weights: np.ndarray, product: str) -> str:
    """Write `product` [..., O] of values [..., I], a scale a token, with weights [I, O], a scale a column."""
    last = graph.constant(f"{name}_last", np.array([-1]))
    largest = graph.add(f"{name}_largest", "ReduceMax", graph.add(f"{name}_size", "Abs", values), last, keepdims=1)
    step = graph.add(f"{name}_step", "Mul", largest, graph.constant(f"{name}_127th", np.float32(1 / 127)))
    scale = graph.add(f"{name}_scale", "Max", step, graph.constant(f"{name}_tiny", np.float32(TINY)))
    rows = graph.add(f"{name}_rows", "Reshape", values, graph.constant(f"{name}_flat", np.array([-1, len(weights)])))
    scales = graph.add(f"{name}_scales", "Reshape", scale, last)
    count = graph.add(f"{name}_count", "Shape", scales)
    middle = helper.make_tensor("value", TensorProto.UINT8, [1], [MIDDLE])
    middles = graph.add(f"{name}_middles", "ConstantOfShape", count, value=middle)
    rounded = graph.add(f"{name}_rounded_rows", "QuantizeLinear", rows, scales, middles, axis=0)
    shape = graph.add(f"{name}_shape", "Shape", values)
    integers, columns = rounded_columns(weights)
    sums = graph.add(
        f"{name}_sums",
        "MatMulInteger",
        graph.add(f"{name}_integers", "Reshape", rounded, shape),
        graph.constant(f"{name}_weights", integers),
        graph.constant(f"{name}_middle", np.uint8(MIDDLE)),
        graph.constant(f"{name}_zero", np.int8(0)),
    )
    steps = graph.add(f"{name}_steps", "Mul", graph.add(f"{name}_cast", "Cast", sums, to=TensorProto.FLOAT), scale)
    return graph.add(product, "Mul", steps, graph.constant(f"{name}_columns", columns))


def _is_table(weights: np.ndarray | None) -> bool:
    return weights is not None and weights.ndim == 2 and weights.dtype == np.float32


def _write_lookup(graph: RoundedGraph, node: NodeProto, table: np.ndarray) -> None:
    """Write the vectors [..., E] at places [...] of a table [V, E]."""
    name, places = node.name, node.input[1]
    scale = np.maximum(np.abs(table).max(1, keepdims=True) / 127, TINY).astype(np.float32)
    rounded = graph.constant(f"{name}_table", np.rint(table / scale).astype(np.int8))
    found = graph.add(f"{name}_found", "Gather", rounded, places)
    steps = graph.add(f"{name}_steps", "Cast", found, to=TensorProto.FLOAT)
    scales = graph.add(f"{name}_scales", "Gather", graph.constant(f"{name}_row_scales", scale), places)
    graph.add(node.output[0], "Mul", steps, scales)
