"""The ONNX graph of a model, written operation by operation from its plan: fp32, or int8 as a QDQ graph.

int8 follows the model's `activation_ranges` and `encodings`: unsigned 8-bit activations, signed 8-bit weights by
output channel, 32-bit biases. A tensor without a range, or a layer without an encoding, stays float.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import ModelProto

from resfit.engines.metadata import Metadata
from resfit.engines.onnx_nodes import GraphWriter
from resfit.engines.quantisation import Grid, activation_grid, quantised_tensors
from resfit.errors import EngineError
from resfit.model.model import Model
from resfit.nn import plan as layout

INT32_LIMIT = 2**31 - 1
EPSILON = 1e-5  # of both kinds of normalisation, as in PyTorch


def onnx_model(model: Model, metadata: Metadata) -> tuple[ModelProto, int]:
    """The graph of a folded model, and how many layers have int8 weights (0 in fp32).

    `metadata.precision` chooses fp32 or int8; its converted_layers is replaced by the count.
    """
    network = _Network(model, int8=metadata.precision == "int8")
    network.run(layout.plan(model.spec), network.normalised_input(), "")
    preprocessing = model.preprocessing
    strings = metadata.to_strings() | {"converted_layers": str(network.converted_layers)}
    proto = network.graph.finish(
        input_shape=(preprocessing.height, preprocessing.width, preprocessing.channels),
        num_classes=model.spec.num_classes,
        metadata=strings,
    )
    return proto, network.converted_layers


class _Network:
    """Walks a plan and writes its nodes; a tensor is the name of a graph value."""

    def __init__(self, model: Model, *, int8: bool):
        self.model = model
        self.graph = GraphWriter()
        self.converted_layers = 0
        self.grids: dict[str, Grid] = {}  # by tensor: the grid it was rounded to, if any
        ranges = model.activation_ranges if int8 else {}
        self._grid_of_name = {
            name: activation_grid(ranges[name].low, ranges[name].high)
            for name in quantised_tensors(model.spec)
            if name in ranges
        }

    def normalised_input(self) -> str:
        """(x / 255 - mean) / std as one multiplication and one addition, then NCHW."""
        mean = np.asarray(self.model.preprocessing.mean, dtype=np.float64)
        std = np.asarray(self.model.preprocessing.std, dtype=np.float64)
        x = self.graph.node("Cast", "input", to=1)
        x = self.graph.node("Mul", x, self.graph.constant(1 / (255 * std)))
        x = self.graph.node("Add", x, self.graph.constant(-mean / std))
        x = self.graph.node("Transpose", x, perm=[0, 3, 1, 2])
        return self.rounded(x, "input")

    def run(self, operations: tuple[layout.Operation, ...], x: str, prefix: str) -> str:
        """The output of operations one after another."""
        for operation in operations:
            name = prefix + operation.name
            x = self.rounded(_WRITERS[type(operation)](self, operation, name, x), name)
        return x

    def rounded(self, x: str, name: str) -> str:
        """x on the 8-bit grid of the tensor `name`; x itself where it has none, or is on a grid already."""
        grid = self._grid_of_name.get(name)
        return x if grid is None or x in self.grids else self.on_grid(x, grid)

    def on_grid(self, x: str, grid: Grid) -> str:
        """x through QuantizeLinear and DequantizeLinear."""
        parameters = (self.graph.constant(grid.scale), self.graph.constant(grid.zero_point, np.uint8))
        integers = self.graph.node("QuantizeLinear", x, *parameters)
        y = self.graph.node("DequantizeLinear", integers, *parameters)
        self.grids[y] = grid
        return y

    def same_grid(self, x: str, y: str) -> str:
        """y, made by moving values of x about, on the grid of x if that has one."""
        return self.on_grid(y, self.grids[x]) if x in self.grids else y

    def weight(self, name: str) -> np.ndarray[Any, Any]:
        """A float32 array of the state dict."""
        return self.model.weights[name].detach().cpu().float().numpy()

    def parameters(self, name: str, x: str) -> tuple[str, ...]:
        """Weight, and bias if there is one, of the layer `name` that reads x: int8 where both are encoded."""
        bias = self.weight(f"{name}.bias") if f"{name}.bias" in self.model.weights else None
        encoding = self.model.encodings.get(f"{name}.weight")
        if encoding is None or x not in self.grids:
            arrays = [self.weight(f"{name}.weight")] + ([] if bias is None else [bias])
            return tuple(self.graph.constant(array) for array in arrays)
        self.converted_layers += 1
        weight = self.weight(f"{name}.weight")
        scales = _scales(encoding, name, len(weight))
        integers = np.rint(weight / scales.reshape(-1, *[1] * (weight.ndim - 1))).clip(-127, 127)
        names = [self._dequantised(integers.astype(np.int8), scales)]
        if bias is not None:
            bias_scales = (np.float32(self.grids[x].scale) * scales).astype(np.float32)
            steps = np.rint(bias.astype(np.float64) / bias_scales).clip(-INT32_LIMIT, INT32_LIMIT)
            names.append(self._dequantised(steps.astype(np.int32), bias_scales))
        return tuple(names)

    def _dequantised(self, integers: np.ndarray[Any, Any], scales: np.ndarray[Any, Any]) -> str:
        return self.graph.node(
            "DequantizeLinear",
            self.graph.constant(integers, integers.dtype.type),
            self.graph.constant(scales),
            axis=0,
        )


def _scales(encoding: Any, name: str, channels: int) -> np.ndarray[Any, Any]:
    scales = np.asarray(encoding.scales, dtype=np.float32)
    if encoding.bits > 8 or scales.shape not in ((channels,), (1,), ()) or encoding.axis not in (None, 0):
        raise EngineError(
            f"{name}.weight is encoded in {encoding.bits} bits with scales of shape {scales.shape} by axis "
            f"{encoding.axis}; int8 graphs take at most 8 bits by output channel",
            hint="quantise the model again, or export with --precision fp32",
        )
    return np.ascontiguousarray(np.broadcast_to(scales, (channels,)))


def _convolution(net: _Network, operation: layout.Convolution, name: str, x: str) -> str:
    pad = operation.kernel // 2
    return net.graph.node(
        "Conv", x, *net.parameters(name, x), strides=[operation.stride] * 2, pads=[pad] * 4,
        **({"group": operation.groups} if operation.groups > 1 else {}),
    )  # fmt: skip


def _norm(net: _Network, operation: layout.Norm, name: str, x: str) -> str:
    graph = net.graph
    scale, shift = (net.weight(f"{name}.{part}") for part in ("weight", "bias"))
    if operation.kind == "batch":
        statistics = (net.weight(f"{name}.running_{part}") for part in ("mean", "var"))
        arrays = (graph.constant(array) for array in (scale, shift, *statistics))
        return graph.node("BatchNormalization", x, *arrays, epsilon=EPSILON)
    # GroupNormalization itself is run as some twenty operators; a group is an instance of one channel.
    groups = operation.groups
    y = graph.node("Reshape", x, graph.constant([0, groups, -1], np.int64))
    ones, zeros = graph.constant(np.ones(groups)), graph.constant(np.zeros(groups))
    y = graph.node("InstanceNormalization", y, ones, zeros, epsilon=EPSILON)
    y = graph.node("Reshape", y, graph.node("Shape", x))
    y = graph.node("Mul", y, graph.constant(scale.reshape(-1, 1, 1)))
    return graph.node("Add", y, graph.constant(shift.reshape(-1, 1, 1)))


def _activation(net: _Network, operation: layout.Activation, name: str, x: str) -> str:
    if operation.kind == "identity":
        return x
    if operation.kind == "silu":
        return net.graph.node("Mul", x, net.graph.node("Sigmoid", x))
    if operation.kind == "prelu":
        return net.graph.node("PRelu", x, net.graph.constant(net.weight(f"{name}.weight").reshape(1, 1, 1)))
    if operation.kind == "relu6":
        return net.graph.node("Clip", x, net.graph.constant(0.0), net.graph.constant(6.0))
    kind, attributes = _ACTIVATIONS[operation.kind]
    return net.graph.node(kind, x, **attributes)


_ACTIVATIONS: Mapping[str, tuple[str, dict[str, float]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "elu": ("Elu", {}),
    "selu": ("Selu", {}),
    "celu": ("Celu", {}),
    "gelu": ("Gelu", {}),
    "mish": ("Mish", {}),
    "hardswish": ("HardSwish", {}),
    "softplus": ("Softplus", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "sin": ("Sin", {}),
}


def _max_pool(net: _Network, _operation: layout.MaxPool, _name: str, x: str) -> str:
    pooled = net.graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    return net.same_grid(x, pooled)


def _average_pool(net: _Network, operation: layout.AveragePool, _name: str, x: str) -> str:
    if operation.kernel == 1:
        return x
    sides = [operation.kernel] * 2
    return net.graph.node("AveragePool", x, kernel_shape=sides, strides=sides, ceil_mode=1)


def _zero_pad(net: _Network, operation: layout.ZeroPad, _name: str, x: str) -> str:
    graph = net.graph
    if operation.stride > 1:  # max pooling of one pixel picks pixels without leaving the runtime's layout
        strides = [operation.stride] * 2
        x = net.same_grid(x, graph.node("MaxPool", x, kernel_shape=[1, 1], strides=strides))
    pads = [0, operation.before, 0, 0, 0, operation.after, 0, 0]
    return net.same_grid(x, graph.node("Pad", x, graph.constant(pads, np.int64)))


def _squeeze_excite(net: _Network, _operation: layout.SqueezeExcite, name: str, x: str) -> str:
    graph = net.graph
    gates = graph.node("GlobalAveragePool", x)
    for part, kind in (("fc1", "Relu"), ("fc2", "Sigmoid")):
        arrays = (graph.constant(net.weight(f"{name}.{part}.{array}")) for array in ("weight", "bias"))
        gates = graph.node(kind, graph.node("Conv", gates, *arrays))
    return graph.node("Mul", x, gates)


def _global_pool(net: _Network, _operation: layout.GlobalPool, name: str, x: str) -> str:
    pooled = net.rounded(net.graph.node("GlobalAveragePool", x), name)
    return net.same_grid(pooled, net.graph.node("Flatten", pooled))


def _linear(net: _Network, _operation: layout.Linear, name: str, x: str) -> str:
    return net.graph.node("Gemm", x, *net.parameters(name, x), transB=1, output="logits")


def _sequence(net: _Network, operation: layout.Sequence, name: str, x: str) -> str:
    return net.run(operation.operations, x, name + ".")


def _residual(net: _Network, operation: layout.Residual, name: str, x: str) -> str:
    y = net.run(operation.pre, x, name + ".")
    branch = net.run(operation.branch, y, name + ".")
    if not operation.plain:
        shortcut = y if operation.shortcut_reads_pre else x
        if operation.shortcut is not None:
            shortcut = net.run((operation.shortcut,), shortcut, name + ".")
        branch = net.graph.node("Add", branch, shortcut)
    return net.run(operation.post, branch, name + ".")


def _dropout(_net: _Network, _operation: layout.Dropout, _name: str, x: str) -> str:
    return x


_WRITERS: Mapping[type, Callable[[_Network, Any, str, str], str]] = {
    layout.Convolution: _convolution,
    layout.Norm: _norm,
    layout.Activation: _activation,
    layout.MaxPool: _max_pool,
    layout.AveragePool: _average_pool,
    layout.ZeroPad: _zero_pad,
    layout.SqueezeExcite: _squeeze_excite,
    layout.Dropout: _dropout,
    layout.GlobalPool: _global_pool,
    layout.Linear: _linear,
    layout.Sequence: _sequence,
    layout.Residual: _residual,
}
