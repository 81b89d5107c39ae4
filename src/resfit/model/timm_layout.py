"""How timm names and describes the networks of this family: what its `local-dir:` folders need."""

import re
from typing import Any

from resfit.model.model import Model
from resfit.model.refusals import Refusal, refuse
from resfit.model.state import state_shapes
from resfit.nn import plan as layout
from resfit.nn.spec import BOTTLENECK_REDUCTION, ResNetSpec

BASE_WIDTH = 64
SE_RATIO = 1 / 16  # timm's own, which a configuration cannot change
STRIDES = (1, 2, 2, 2)
STEMS = {"imagenet": "", "deep": "deep", "tiered": "deep_tiered"}
CROP_MODES = {"crop": "center", "squash": "squash"}
ACTIVATIONS = {
    "relu": "relu", "relu6": "relu6", "leaky_relu": "leaky_relu", "prelu": "prelu", "elu": "elu", "selu": "selu",
    "celu": "celu", "gelu": "gelu", "silu": "silu", "mish": "mish", "hardswish": "hard_swish", "tanh": "tanh",
    "sigmoid": "sigmoid", "identity": "identity",
}  # fmt: skip
ENTRY_POINTS = {"basic": "resnet18", "bottleneck": "resnet50"}  # whose arguments give every network of a block kind
LAST_ACTIVATION = {"basic": "act2", "bottleneck": "act3"}


def timm_names(spec: ResNetSpec) -> dict[str, str]:
    """timm's name of every tensor in the state dict of ResNet(spec), by ours.

    They differ only in the activation after a sum, which holds a weight where it is a PReLU.
    """
    last = LAST_ACTIVATION.get(spec.block, "act")
    return {name: re.sub(r"^(layer\d+\.\d+)\.act\.", rf"\1.{last}.", name) for name in state_shapes(spec)}


def timm_config(model: Model) -> dict[str, Any]:
    """The config.json with which `timm.create_model("local-dir:FOLDER", pretrained=True)` makes the network.

    ModelError names the first field of the spec, or of the preprocessing, that timm's ResNet has no form for.
    """
    spec, preprocessing = model.spec, model.preprocessing
    refuse("timm", _refusals(spec))
    if preprocessing.fit not in CROP_MODES:
        refuse("timm", [Refusal(field="fit", value=preprocessing.fit, allowed=" or ".join(CROP_MODES))])
    return {
        "architecture": ENTRY_POINTS[spec.block],
        "num_classes": spec.num_classes,
        "num_features": spec.widths[-1],
        "global_pool": "avg",
        "label_names": list(model.labels),
        "model_args": _arguments(spec),
        "pretrained_cfg": {
            "num_classes": spec.num_classes,
            "input_size": [preprocessing.channels, preprocessing.height, preprocessing.width],
            "pool_size": None,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": CROP_MODES[preprocessing.fit],
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "first_conv": "conv1" if spec.stem == "imagenet" else "conv1.0",
            "classifier": "fc",
        },
    }


def _arguments(spec: ResNetSpec) -> dict[str, Any]:
    """Arguments of timm's ResNet; every one is written, so that no default of an entry point matters."""
    bottleneck = spec.block == "bottleneck"
    arguments: dict[str, Any] = {
        "layers": list(spec.depths),
        "channels": [width // BOTTLENECK_REDUCTION if bottleneck else width for width in spec.widths],
        "in_chans": spec.in_channels,
        "stem_type": STEMS[spec.stem],
        "stem_width": spec.stem_width if spec.stem == "imagenet" else spec.stem_width // 2,
        "avg_down": spec.shortcut == "avgpool",
        "act_layer": ACTIVATIONS[spec.activation],
    }
    if bottleneck:
        arguments |= {"cardinality": spec.groups, "base_width": _base_width(spec)}
    if spec.se_ratio:
        arguments["block_args"] = {"attn_layer": "se"}
    return arguments


def _base_width(spec: ResNetSpec) -> int | float:
    """timm's measure of a bottleneck's inner width: inner = floor(planes * base_width / 64) * groups."""
    planes = spec.widths[0] // BOTTLENECK_REDUCTION
    width = BASE_WIDTH * spec.inner(0, 0)[0] / (planes * spec.groups)
    return int(width) if width == int(width) else width


def _refusals(spec: ResNetSpec) -> list[Refusal]:
    """What timm's ResNet cannot be, in the order of the spec's importance."""
    choices: dict[str, tuple[Any, ...]] = {
        "block": ("basic", "bottleneck"), "order": ("post",), "norm": ("batch",), "bias": (False,),
        "stem": tuple(STEMS), "shortcut": ("projection", "avgpool"), "activation": tuple(ACTIVATIONS),
        "strides": (STRIDES,), "stride_in": ("3x3",) if spec.block == "bottleneck" else ("1x1", "3x3"),
        "stem_width": (64,) if spec.stem == "imagenet" else (spec.stem_width // 8 * 8,),
        "stem_inner_widths": (None,),
    }  # fmt: skip
    found = [
        Refusal(field=field, value=getattr(spec, field), allowed=" or ".join(map(str, values)))
        for field, values in choices.items()
        if getattr(spec, field) not in values
    ]
    if found:
        return found
    bottleneck = spec.block == "bottleneck"
    if bottleneck and any(width % BOTTLENECK_REDUCTION for width in spec.widths):
        found.append(Refusal(field="widths", value=spec.widths, allowed=f"multiples of {BOTTLENECK_REDUCTION}"))
    elif not _has_timms_inner_widths(spec):
        field = "mid_ratio" if spec.inner_widths is None else "inner_widths"
        allowed = "one ratio for all blocks" if bottleneck else "the stage's own width in every block"
        found.append(Refusal(field=field, value=getattr(spec, field), allowed=allowed))
    if spec.se_ratio and _reduced(spec) != [_timm_reduced(width) for width in spec.widths]:
        found.append(Refusal(field="se_ratio", value=spec.se_ratio, allowed=str(SE_RATIO)))
    return found


def _has_timms_inner_widths(spec: ResNetSpec) -> bool:
    def expected(stage: int) -> tuple[int, ...]:
        if spec.block == "basic":
            return (spec.widths[stage],)
        planes = spec.widths[stage] // BOTTLENECK_REDUCTION
        return (int(planes * (_base_width(spec) / BASE_WIDTH)) * spec.groups,) * 2

    return all(
        spec.inner(stage, block) == expected(stage) for stage, depth in enumerate(spec.depths) for block in range(depth)
    )


def _reduced(spec: ResNetSpec) -> list[int]:
    """Channels between the two layers of the gates, a value a stage."""
    gates = {
        operation.channels: operation.reduced
        for _, operation in layout.walk(layout.plan(spec))
        if isinstance(operation, layout.SqueezeExcite)
    }
    return [gates[width] for width in spec.widths]


def _timm_reduced(channels: int) -> int:
    """timm's width of its gates: a sixteenth, rounded to a multiple of 8."""
    return max(8, int(channels * SE_RATIO + 4) // 8 * 8)
