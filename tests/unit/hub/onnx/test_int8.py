"""Units are smoothed out before rounding only where nothing else reads the same weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from bertwright.hub.onnx.int8 import write_smoothed  # noqa: E402
from bertwright.hub.onnx.onnx_folder import open_session  # noqa: E402


def graph_of(products: dict[str, str]) -> onnx.ModelProto:
    """Return a graph of products {output: input} that share one weight [4, 3]."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", [name, "weight"], [out], name=f"product_{out}") for out, name in products.items()
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 4]) for name in products.values()]
    outputs = [helper.make_tensor_value_info(out, TensorProto.FLOAT, ["rows", 3]) for out in products]
    graph = helper.make_graph(nodes, "products", inputs, outputs, [numpy_helper.from_array(weight, "weight")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(("products", "smoothed"), [({"a": "x"}, 1), ({"a": "x", "b": "y"}, 0)])
def test_a_weight_of_several_products_stays_as_it_is(tmp_path: Path, products: dict[str, str], smoothed: int) -> None:
    rows = {name: np.array([[1, 1, 1, 50], [1, -1, 1, 40]], np.float32) * place for place, name in enumerate("xy", 1)}
    feed = {name: rows[name] for name in products.values()}
    onnx.save(graph_of(products), str(tmp_path / "exact.onnx"))
    write_smoothed(tmp_path / "exact.onnx", tmp_path / "smoothed.onnx", [feed])
    before = open_session(tmp_path / "exact.onnx").run(None, feed)
    after = open_session(tmp_path / "smoothed.onnx").run(None, feed)
    for exact, found in zip(before, after, strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)
    nodes = onnx.load(str(tmp_path / "smoothed.onnx")).graph.node
    assert sum(node.op_type == "Mul" for node in nodes) == smoothed
