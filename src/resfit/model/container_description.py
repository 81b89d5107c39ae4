"""What a `.resfit` file says of a model besides its numbers, as short JSON: what has its default value is left out."""

from collections.abc import Mapping
from typing import Any

from resfit.data.labels import mere_numbers, numbered
from resfit.data.preprocessing import Preprocessing
from resfit.errors import ModelError
from resfit.model.model import Model, Provenance, Range
from resfit.nn.spec import ResNetSpec
from resfit.texts import labels_of

# Of files of version 1, for ever: what a field left out means. The class may change its own defaults.
SPEC_DEFAULTS: dict[str, Any] = {
    "block": "basic", "order": "post", "mid_ratio": 1.0, "groups": 1, "stride_in": "3x3", "stem": "imagenet",
    "stem_width": 64, "shortcut": "projection", "activation": "relu", "norm": "batch", "bias": False, "se_ratio": 0.0,
    "drop_path": 0.0, "dropout": 0.0, "zero_gamma": False, "num_classes": 1000, "in_channels": 3, "inner_widths": None,
    "shortcut_pads": None, "stem_inner_widths": None, "se_widths": None,
}  # fmt: skip
PROVENANCE_DEFAULTS: dict[str, Any] = {"recipe": None, "data": None, "notes": []}


def described(model: Model) -> dict[str, Any]:
    """Plain data for JSON, from which the functions below make the model's parts again."""
    description: dict[str, Any] = {
        "spec": _without(model.spec.to_dict(), SPEC_DEFAULTS),
        "preprocessing": model.preprocessing.to_dict(),
        "provenance": _without(model.provenance.to_dict(), PROVENANCE_DEFAULTS),
    }
    if not mere_numbers(model.labels):
        description["labels"] = list(model.labels)
    if model.activation_ranges:
        description["activation_ranges"] = {
            name: [item.low, item.high] for name, item in model.activation_ranges.items()
        }
    return description


def spec_of(description: Mapping[str, Any]) -> ResNetSpec:
    """The spec; ModelError where there is none."""
    return ResNetSpec.from_dict({**SPEC_DEFAULTS, **_object(description, "spec")})


def parts_of(description: Mapping[str, Any], spec: ResNetSpec) -> dict[str, Any]:
    """Preprocessing, labels, provenance and activation ranges, as `Model` takes them; ModelError where it cannot be."""
    ranges = _object(description, "activation_ranges") if "activation_ranges" in description else {}
    return {
        "preprocessing": Preprocessing.from_dict(_object(description, "preprocessing")),
        "labels": labels_of(description.get("labels", numbered(spec.num_classes))),
        "provenance": Provenance.from_dict({**PROVENANCE_DEFAULTS, **_object(description, "provenance")}),
        "activation_ranges": {name: Range(low=low, high=high) for name, (low, high) in ranges.items()},
    }


def _without(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}


def _object(description: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = description.get(name)
    if not isinstance(value, dict):
        raise ModelError(f"the description gives {value!r:.100} as its {name}, expected an object")
    return value
