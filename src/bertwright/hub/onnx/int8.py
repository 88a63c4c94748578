"""Turns an ONNX graph into one that multiplies 8-bit integers: a quarter of the bytes, and two to three times as fast.

Weights are rounded once, a scale a column; the values they are multiplied with are rounded as they come, a scale a
batch (dynamic quantisation, as in Zafrir et al., 2019, Q8BERT, without training for it). Sums, norms and attention
stay in float32. Embeddings are rounded too, which makes the file small.

x86 CPUs without VNNI add two neighbouring products in 16 bits, and a sum above 32,767 becomes 32,767 (vpmaddubsw). So
the scale of a column is chosen such that no two neighbouring weights can reach that sum, whatever they are multiplied
with: the answer is then the same on every CPU.

A few units of BERT's hidden states are ten times as large as the others, and one scale for all leaves those few bits.
So units that real rows show to be large are divided, and their weights multiplied, by the same number beforehand
(Xiao et al., 2023, SmoothQuant).
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bertwright.hub.onnx.onnx_folder import open_session

LARGE = 1.5
"""Units are made as small as so many times the median unit. MiniLM's sentence vectors, 1 - cosine with float32: 0.0026;
0.0031 at 1, 0.0029 at 3, 0.0048 at 8, 0.0077 left as they are (all measured before `PAIR` bounded sums of two)."""

PAIR = 127
"""The sum of two neighbouring weights of a sign, before rounding. Rounding adds 1 at most, and 255 x 128 is 32,640."""


def quantize_int8(model: Path, out: Path, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Write the graph in `model` to `out` with 8-bit products and embeddings.

    `batches` are inputs by name, of real rows; the largest values of each unit are looked up on them.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it asks for a preparation that is for graphs traced from images
    try:
        with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
            even = Path(scratch) / "even.onnx"
            write_smoothed(model, even, batches)
            quantize_dynamic(
                str(even),
                str(out),
                op_types_to_quantize=["MatMul", "Gather"],
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
            round_weights(even, out)
    finally:
        root.setLevel(level)


def round_weights(model: Path, quantized: Path) -> None:
    """Round the weights of the products in the float32 graph `model` again, and put them into `quantized`, in place."""
    exact = {tensor.name: tensor for tensor in onnx.load(str(model)).graph.initializer}
    graph = onnx.load(str(quantized))
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type == "MatMulInteger":
            name = node.input[1].removesuffix("_quantized")
            weights, scale = rounded_columns(numpy_helper.to_array(exact[name]))
            for part, values in ((node.input[1], weights), (f"{name}_scale", scale)):
                stored[part].CopyFrom(numpy_helper.from_array(values, part))
    onnx.save(graph, str(quantized))


def rounded_columns(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights [I, O] as 8-bit integers [I, O] and the scale [O] they are multiplied with.

    Weights 2k and 2k + 1 of a column, whose products are added in 16 bits, sum up to -128 to 128 where they have the
    same sign. (One bit less for every weight would do as well, at twice the rounding error of most columns.)
    """
    pairs = np.pad(weights, ((0, len(weights) % 2), (0, 0))).reshape(-1, 2, weights.shape[1])
    sums = [np.maximum(sign * pairs, 0).sum(1).max(0) for sign in (1, -1)]
    scale = np.maximum(np.maximum(*sums) / PAIR, np.finfo(np.float32).tiny).astype(np.float32)
    return np.rint(weights / scale).astype(np.int8), scale


def write_smoothed(model: Path, out: Path, batches: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Write the graph with no unit much larger than others in its products, all else being the same.

    A weight that several nodes use stays as it is: what suits one of them would be wrong for the others.
    """
    graph = onnx.load(str(model))
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    uses = Counter(name for node in graph.graph.node for name in node.input)
    products = [
        node
        for node in graph.graph.node
        if node.op_type == "MatMul" and node.input[1] in weights and uses[node.input[1]] == 1
    ]
    largest = largest_values(model, sorted({node.input[0] for node in products}), batches)
    for node in products:
        _even_out(graph, node, weights[node.input[1]], largest[node.input[0]])
    onnx.save(graph, str(out))


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


def _even_out(graph: onnx.ModelProto, product: NodeProto, weight: TensorProto, largest: np.ndarray) -> None:
    """Divide the large units of what goes into a product, and multiply their rows of its weight [I, O], in place."""
    scale = np.maximum(1.0, largest / max(LARGE * float(np.median(largest)), 1e-6)).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * scale[:, None], weight.name))
    smoothed, factors = f"{product.name}_smoothed", f"{product.name}_factors"
    graph.graph.initializer.append(numpy_helper.from_array(1 / scale, factors))
    place = next(at for at, node in enumerate(graph.graph.node) if node.name == product.name)
    node = helper.make_node("Mul", [product.input[0], factors], [smoothed], name=smoothed)
    graph.graph.node.insert(place, node)
    product.input[0] = smoothed
