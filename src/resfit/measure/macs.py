"""What a network costs before it exists: parameters and multiply-accumulates, from its plan, without torch.

Parameters are those that train. MACs are the multiply-accumulates of convolutions (squeeze-and-excite's
too) and of the classifier, for one image; norms, activations, pools and sums count nothing.
"""

from collections.abc import Iterable
from typing import Any

from resfit.errors import UsageError
from resfit.nn import plan as layout
from resfit.nn.spec import ResNetSpec

Shape = tuple[int, ...]  # (channels, height, width), or (features,) after the global pool


def macs(spec: ResNetSpec, height: int, width: int) -> int:
    """Multiply-accumulates for one image of height x width pixels."""
    return sum(row["macs"] for row in stages(spec, height, width))


def macs_by_operation(spec: ResNetSpec, height: int, width: int) -> dict[str, int]:
    """Multiply-accumulates for one image of every operation that has any, by its full name, in order."""
    rows: dict[str, int] = {}
    _cost_of_all(layout.plan(spec), (spec.in_channels, height, width), rows)
    return rows


def parameters(spec: ResNetSpec) -> int:
    """The number of trained values; running statistics are not among them."""
    return sum(_parameters(operation) for _, operation in layout.walk(layout.plan(spec)))


def stages(spec: ResNetSpec, height: int, width: int) -> list[dict[str, Any]]:
    """A row for the stem, each stage and the head: name, output_shape, parameters, macs.

    output_shape is (channels, height, width) of one image, and (classes,) for the head.
    A size below one pixel is a UsageError.
    """
    if height < 1 or width < 1:
        raise UsageError(f"the image size is {height}x{width}, expected at least 1x1")
    rows: dict[str, dict[str, Any]] = {}
    shape: Shape = (spec.in_channels, height, width)
    for operation in layout.plan(spec):
        name = operation.name if operation.name.startswith("layer") else "head" if len(rows) > 1 else "stem"
        row = rows.setdefault(name, {"name": name, "output_shape": shape, "parameters": 0, "macs": 0})
        costs: dict[str, int] = {}
        shape = _cost(operation, shape, costs, operation.name)
        row["output_shape"] = shape
        row["parameters"] += sum(_parameters(part) for _, part in layout.walk((operation,)))
        row["macs"] += sum(costs.values())
    return list(rows.values())


def _cost(operation: layout.Operation, shape: Shape, rows: dict[str, int], name: str) -> Shape:
    """The output shape of an operation on `shape`; its MACs, and those of its parts, are added to `rows` by name."""
    match operation:
        case layout.Sequence():
            return _cost_of_all(operation.operations, shape, rows, f"{name}.")
        case layout.Residual():
            before = _cost_of_all(operation.pre, shape, rows, f"{name}.")
            after = _cost_of_all(operation.branch, before, rows, f"{name}.")
            if operation.shortcut is not None:
                _cost_of_all((operation.shortcut,), before, rows, f"{name}.")
            return after
        case layout.Convolution(kernel=kernel, stride=stride):
            channels = operation.out_channels
            shape = (channels, *(_strided(side, kernel, stride) for side in shape[1:]))
            each = operation.in_channels // operation.groups * kernel**2
            rows[name] = each * channels * shape[1] * shape[2]
        case layout.MaxPool():
            return (shape[0], *(_strided(side, 3, 2) for side in shape[1:]))
        case layout.SqueezeExcite(channels=channels, reduced=reduced):
            rows[name] = 2 * channels * reduced
        case layout.GlobalPool():
            return shape[:1]
        case layout.Linear():
            rows[name] = operation.in_features * operation.out_features
            return (operation.out_features,)
        case _:
            return _pooled(operation, shape)
    return shape


def _cost_of_all(operations: Iterable[layout.Operation], shape: Shape, rows: dict[str, int], prefix: str = "") -> Shape:
    for operation in operations:
        shape = _cost(operation, shape, rows, prefix + operation.name)
    return shape


def _strided(side: int, kernel: int, stride: int) -> int:
    return (side + 2 * (kernel // 2) - kernel) // stride + 1


def _pooled(operation: layout.Operation, shape: Shape) -> Shape:
    if isinstance(operation, layout.AveragePool):
        return (shape[0], *(-(-side // operation.kernel) for side in shape[1:]))
    if isinstance(operation, layout.ZeroPad):
        channels = shape[0] + operation.before + operation.after
        return (channels, *(-(-side // operation.stride) for side in shape[1:]))
    return shape


def _parameters(operation: layout.Operation) -> int:
    """The trained values of one operation, without those of its children."""
    match operation:
        case layout.Convolution(kernel=kernel, in_channels=before, out_channels=after):
            return after * (before // operation.groups * kernel**2 + operation.bias)
        case layout.Norm(channels=channels):
            return 2 * channels
        case layout.Activation(kind="prelu"):
            return 1
        case layout.SqueezeExcite(channels=channels, reduced=reduced):
            return 2 * channels * reduced + channels + reduced
        case layout.Linear(in_features=before, out_features=after):
            return after * (before + 1)
        case _:
            return 0
