"""Products of 8-bit integers: weights that several read, few units, tokens of nothing, and texts in company."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from bertwright.hub.onnx.int8 import LARGE_UNITS, quantize_int8  # noqa: E402
from bertwright.hub.onnx.onnx_folder import open_session  # noqa: E402


def graph_of(products: dict[str, str], units: int) -> onnx.ModelProto:
    """Return a graph of products {output: input} that share one weight [units, 3]."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).normal(size=(units, 3)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", [name, "weight"], [out], name=f"product_{out}") for out, name in products.items()
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", units]) for name in products.values()]
    outputs = [helper.make_tensor_value_info(out, TensorProto.FLOAT, ["rows", 3]) for out in products]
    graph = helper.make_graph(nodes, "products", inputs, outputs, [numpy_helper.from_array(weight, "weight")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize("units", [4, 16, 128])
@pytest.mark.parametrize("products", [{"a": "x"}, {"a": "x", "b": "y"}])
def test_products_are_near_whoever_reads_the_weight(tmp_path: Path, products: dict[str, str], units: int) -> None:
    random = np.random.default_rng(1)
    feed = {name: random.normal(size=(6, units)).astype(np.float32) for name in products.values()}
    for place, name in enumerate(feed):
        feed[name][:, place :: units // 2] *= 50  # other units are large for each
        feed[name][3] = 0
    onnx.save(graph_of(products, units), str(tmp_path / "exact.onnx"))
    quantize_int8(tmp_path / "exact.onnx", tmp_path / "int8.onnx", [feed])
    graph = onnx.load(str(tmp_path / "int8.onnx"))
    onnx.checker.check_model(graph, full_check=True)
    places = [tensor.dims[0] for tensor in graph.graph.initializer if tensor.name.endswith("_large_units")]
    assert places == [min(LARGE_UNITS, units // 8)] * (len(products) if units >= 8 else 0)
    before = open_session(tmp_path / "exact.onnx").run(None, feed)
    session = open_session(tmp_path / "int8.onnx")
    for place, (exact, found) in enumerate(zip(before, session.run(None, feed), strict=True)):
        assert np.abs(found - exact).max() < 0.02 * np.abs(exact).max()
        assert not found[3].any()
        alone = session.run(None, {name: rows[:1] for name, rows in feed.items()})[place]
        np.testing.assert_allclose(alone, found[:1], rtol=1e-6, atol=1e-6)  # other rows change nothing
