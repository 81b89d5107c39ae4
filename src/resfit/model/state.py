"""Names and shapes of a network's state dict, derived from its plan without building it."""

from collections.abc import Mapping

from resfit.errors import ModelError
from resfit.nn import plan as layout
from resfit.nn.spec import ResNetSpec

SHOWN = 10  # names an error message lists of each kind
NAME_SHOWN = 200  # characters of each: a file of others may name a tensor anything
# In the metadata of a safetensors file of ours: a JSON object of JSON texts, the fields of engines.metadata
DESCRIPTION = "resfit"

Shapes = Mapping[str, tuple[int, ...]]


def state_shapes(spec: ResNetSpec) -> dict[str, tuple[int, ...]]:
    """Shape by name of every tensor in the state dict of ResNet(spec), in its order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, operation in layout.walk(layout.plan(spec)):
        for tensor, shape in _tensors(operation).items():
            shapes[f"{name}.{tensor}"] = shape
    return shapes


def differences(spec: ResNetSpec, shapes: Shapes) -> list[str]:
    """What keeps tensors of these shapes from being the state of a network: a sentence each, or nothing."""
    return tensor_differences(state_shapes(spec), shapes)


def tensor_differences(expected: Shapes, shapes: Shapes) -> list[str]:
    """The tensors that are missing, unexpected or of another shape than expected: a sentence each kind."""
    mismatched = [
        f"{name} is {tuple(shapes[name])}, expected {tuple(expected[name])}"
        for name in expected
        if name in shapes and tuple(shapes[name]) != tuple(expected[name])
    ]
    found = {
        "missing": [name for name in expected if name not in shapes],
        "unexpected": [name for name in shapes if name not in expected],
        "of another shape": mismatched,
    }
    return [f"{len(names)} {kind}: {shortened(names)}" for kind, names in found.items() if names]


def check_state(spec: ResNetSpec, shapes: Shapes) -> None:
    """ModelError when tensors of these shapes are not the network's state; names up to 10 of each kind."""
    if found := differences(spec, shapes):
        raise ModelError(f"the weights do not fit the network: {'; '.join(found)}")


def shortened(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"{name if name.isprintable() else repr(name):.{NAME_SHOWN}}" for name in names[:SHOWN]) + more


def _tensors(operation: layout.Operation) -> dict[str, tuple[int, ...]]:
    match operation:
        case layout.Convolution():
            inputs = operation.in_channels // operation.groups
            weight = {"weight": (operation.out_channels, inputs, operation.kernel, operation.kernel)}
            return weight | ({"bias": (operation.out_channels,)} if operation.bias else {})
        case layout.Norm():
            names = ["weight", "bias"] + (["running_mean", "running_var"] if operation.kind == "batch" else [])
            counter: dict[str, tuple[int, ...]] = {"num_batches_tracked": ()} if operation.kind == "batch" else {}
            return {**dict.fromkeys(names, (operation.channels,)), **counter}
        case layout.Activation(kind="prelu"):
            return {"weight": (1,)}
        case layout.SqueezeExcite():
            channels, reduced = operation.channels, operation.reduced
            return {
                "fc1.weight": (reduced, channels, 1, 1),
                "fc1.bias": (reduced,),
                "fc2.weight": (channels, reduced, 1, 1),
                "fc2.bias": (channels,),
            }
        case layout.Linear():
            return {
                "weight": (operation.out_features, operation.in_features),
                "bias": (operation.out_features,),
            }
    return {}
