"""Turns calls such as `graph("MatMul", hidden, weight)` into an ONNX graph, node by node, in the order of the calls.

The graph of an encoder is written down, not traced: it takes milliseconds, needs no example, has free batch and length
by construction, and uses those operators that onnxruntime fuses and quantises. That it computes what the model
computes is checked on real input each time (see export_check.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from torch import Tensor

OPSET = 20
"""The first version of the standard operators that has Gelu; onnxruntime 1.17 and later know it."""
IR_VERSION = 9
"""The version of the file format that came with it."""


@dataclass
class Graph:
    """An ONNX graph that grows by calls; values are named by strings.

    >>> graph = Graph()
    >>> doubled = graph("Mul", "input", graph.constant(np.float32(2)))
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return its name."""
        return self.several(operator, *inputs, outputs=1, **attributes)[0]

    def several(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with so many outputs and return their names."""
        name = f"{operator}_{len(self.nodes)}"
        made = [f"{name}_{place}" for place in range(outputs)] if outputs > 1 else [name]
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), made, name=name, **attributes))
        return made

    def constant(self, value: np.ndarray | np.generic | Sequence[int], name: str | None = None) -> str:
        """Add a tensor, integers as int64, and return its name."""
        array = np.asarray(value, dtype=np.int64) if isinstance(value, Sequence) else np.asarray(value)
        name = name or f"constant_{len(self.tensors)}"
        self.tensors[name] = onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def weight(self, name: str, tensor: Tensor, *, transposed: bool = False) -> str:
        """Add a weight of the model, in float32, under its name, once; [I, O] of [O, I] where `transposed`."""
        if name not in self.tensors:
            array = tensor.detach().float().cpu().numpy()
            self.constant(array.T if transposed else array, name)
        return name

    def linear(self, hidden: str, name: str, weight: Tensor, bias: Tensor | None) -> str:
        """Return [..., O] of values [..., I], a weight [O, I] and a bias [O]."""
        product = self("MatMul", hidden, self.weight(f"{name}.weight", weight, transposed=True))
        return product if bias is None else self("Add", product, self.weight(f"{name}.bias", bias))

    def model(
        self, *, inputs: Mapping[str, Sequence[int | str]], outputs: Mapping[str, tuple[str, Sequence[int | str]]]
    ) -> onnx.ModelProto:
        """Return the whole as a model: int64 inputs by name and axes, float32 outputs by name, value and axes."""
        for name, (value, _) in outputs.items():
            self.nodes.append(onnx.helper.make_node("Identity", [value], [name], name=name))
        graph = onnx.helper.make_graph(
            self.nodes,
            "bertwright",
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, axes) for name, axes in inputs.items()],
            [
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, axes)
                for name, (_, axes) in outputs.items()
            ],
            initializer=list(self.tensors.values()),
        )
        return onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="bertwright",
        )
