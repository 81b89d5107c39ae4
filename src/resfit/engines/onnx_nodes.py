"""The nodes and constants of an ONNX graph while it is written: short names, equal constants stored once."""

import math
import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

OPSET = 21  # GroupNormalization as PyTorch means it
IR_VERSION = 10
_LETTERS = string.ascii_letters + string.digits
_KINDS = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.int64): TensorProto.INT64,
}


class GraphWriter:
    """Collects nodes in order; `finish` gives the model.

    Names are counters, because a name is stored once where a tensor is made and again at each use: in a small
    network dotted names would outweigh the int8 weights.
    """

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def _name(self) -> str:
        number, self._count = self._count, self._count + 1
        name = _LETTERS[number % 52]  # a letter first
        number //= 52
        while number:
            name += _LETTERS[number % 62]
            number //= 62
        return name

    def constant(self, values: Any, dtype: type[np.generic] = np.float32) -> str:
        """The name of a constant tensor."""
        array = np.asarray(values, dtype=dtype, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._name()
            self._initializers.append(
                TensorProto(name=self._constants[key], dims=array.shape, data_type=_KINDS[array.dtype], raw_data=key[2])
            )
        return self._constants[key]

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append an operator; the name of its output."""
        output = output or self._name()
        node = NodeProto(op_type=kind, input=inputs, output=[output])
        node.attribute.extend(_attribute(name, value) for name, value in sorted(attributes.items()))
        self._nodes.append(node)
        return output

    def finish(
        self, *, input_type: int, input_shape: Sequence[int], output: str, num_classes: int, metadata: dict[str, str]
    ) -> ModelProto:
        """The model: `input` (N, *input_shape) of a type, an output float32 (N, num_classes), and metadata_props.

        input_type: of onnx.TensorProto. output: the name of the node's output that the model gives.
        """
        graph = GraphProto(name="resfit", node=self._nodes, initializer=self._initializers)
        graph.input.append(helper.make_tensor_value_info("input", input_type, ["N", *input_shape]))
        graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", num_classes]))
        model = ModelProto(ir_version=IR_VERSION, producer_name="resfit", graph=graph)
        model.opset_import.append(helper.make_opsetid("", OPSET))
        helper.set_model_props(model, metadata)
        return model


def _attribute(name: str, value: Any) -> AttributeProto:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"attribute {name} is {value}")
    return helper.make_attribute(name, value)
