"""Where the int8 graph has 8-bit tensors, and what an 8-bit activation grid is; without torch.

Writer (`onnx_graph`) and calibration (`compression.quantise`) follow the same list of names.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from resfit.nn import plan as layout
from resfit.nn.spec import ResNetSpec

RECTIFIERS = ("relu", "relu6", "identity")  # after these an 8-bit grid does the clipping itself: no grid before them


@dataclass(frozen=True, kw_only=True)
class ActivationGrid:
    """Unsigned 8-bit activations: value = scale * (integer - zero_point)."""

    scale: float
    zero_point: int


def activation_grid(low: float, high: float) -> ActivationGrid:
    """The u8 grid that covers low..high and holds zero exactly (padding and ReLU need it)."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    return ActivationGrid(scale=scale, zero_point=min(255, max(0, round(-low / scale))))


def quantised_layers(spec: ResNetSpec) -> tuple[str, ...]:
    """The convolutions and the classifier, whose weights may be int8; gates of squeeze-and-excite stay float."""
    return tuple(
        name
        for name, operation in layout.walk(layout.plan(spec))
        if isinstance(operation, layout.Convolution | layout.Linear)
    )


def quantised_tensors(spec: ResNetSpec) -> tuple[str, ...]:
    """Names of the tensors that the int8 graph rounds to 8 bits, in order of computation.

    A convolution's output is rounded after its ReLU, so that a runtime can fuse both; a sum after its own.
    Normalisations that do not fold, and logits, stay float. Max pools and zero-pads keep the grid they read.
    """
    return ("input", *_tensors(layout.plan(spec), "", None))


def _tensors(
    operations: tuple[layout.Operation, ...], prefix: str, following: layout.Operation | None
) -> Iterator[str]:
    operations = tuple(part for part in operations if not isinstance(part, layout.Dropout))
    for operation, after in zip(operations, (*operations[1:], following), strict=False):
        name = prefix + operation.name
        clipped = isinstance(after, layout.Activation) and after.kind in RECTIFIERS
        if isinstance(operation, layout.Sequence):
            yield from _tensors(operation.operations, name + ".", after)
        elif isinstance(operation, layout.Residual):
            yield from _residual(operation, name)
        elif isinstance(operation, layout.Activation | layout.GlobalPool) or (
            isinstance(operation, layout.Convolution | layout.AveragePool | layout.SqueezeExcite) and not clipped
        ):
            yield name


def _residual(operation: layout.Residual, name: str) -> Iterator[str]:
    inner = name + "."
    first_post = operation.post[0] if operation.post else None
    yield from _tensors(operation.pre, inner, None)
    yield from _tensors(operation.branch, inner, first_post if operation.plain else None)
    if isinstance(operation.shortcut, layout.Sequence):
        yield from _tensors((operation.shortcut,), inner, None)
    if not operation.plain or operation.post:
        yield name
