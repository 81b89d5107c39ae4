"""What a timm folder's config.json says of a ResNet besides its tensors: activation, labels, preprocessing."""

import re
from collections.abc import Mapping
from typing import Any

from resfit.data.preprocessing import Fit, Preprocessing
from resfit.errors import ModelError, UsageError
from resfit.model.timm_layout import ACTIVATIONS
from resfit.texts import SHOWN, check_text, labels_of

# Networks with the tensors of another, which do something without weights besides
_SILENT = re.compile(r"aa\d|blur|_gn$|rs\d")
# Arguments that shapes of tensors tell, or that no answer depends on
_TOLD = {
    "layers", "channels", "in_chans", "num_classes", "stem_type", "stem_width", "avg_down", "cardinality",
    "base_width", "block", "drop_rate", "drop_path_rate", "drop_block_rate", "zero_init_last", "block_reduce_first",
}  # fmt: skip
# Other arguments, and the values at which they change nothing of what tensors tell
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "global_pool": ("avg",), "output_stride": (32,), "block_args": (None, {}, {"attn_layer": "se"}),
    "aa_layer": (None,), "replace_stem_pool": (False,), "down_kernel_size": (1,), "norm_layer": (None, "batchnorm2d"),
}  # fmt: skip
DEFAULT_SIZE = 224


def changes_from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the spec that tensors do not tell; ModelError for what no spec can say."""
    name = config["architecture"]
    check_text(name, "architecture")
    if _SILENT.search(name):
        raise ModelError(f"the architecture {name} does more than its tensors tell, which resfit has no form for")
    if config.get("global_pool", "avg") != "avg":
        raise ModelError(f"global_pool is {config['global_pool']!r:.{SHOWN}}, expected 'avg'")
    arguments = config.get("model_args") or {}
    if not isinstance(arguments, Mapping):
        raise ModelError(f"model_args is {arguments!r:.{SHOWN}}, expected an object")
    for argument, value in arguments.items():
        if argument != "act_layer" and argument not in _TOLD and value not in _NEUTRAL.get(argument, ()):
            check_text(argument, "an argument of model_args", most=SHOWN)
            raise ModelError(f"model_args has {argument} {value!r:.{SHOWN}}, which resfit has no form for")
    return {"activation": _activation(arguments["act_layer"])} if "act_layer" in arguments else {}


def labels_from_config(config: Mapping[str, Any], *, num_classes: int) -> tuple[str, ...] | None:
    """Class names in the order of the logits; None where the configuration names none, or another number."""
    names = config.get("label_names", _pretrained(config).get("label_names"))
    if not isinstance(names, list) or len(names) != num_classes:
        return None
    return labels_of([str(name) for name in names], what="label_names")


def preprocessing_from_config(
    config: Mapping[str, Any], *, channels: int, mean: tuple[float, ...], std: tuple[float, ...], notes: list[str]
) -> Preprocessing:
    """The preprocessing of `pretrained_cfg` (or of the file itself, as older ones have it).

    mean, std: where it has none. `notes` receives what this program does otherwise. ModelError for values that
    are none.
    """
    values = _pretrained(config)
    try:
        size = values.get("input_size", (channels, DEFAULT_SIZE, DEFAULT_SIZE))
        fits: dict[str, Fit] = {"center": "crop", "squash": "squash"}
        fit = fits.get(values.get("crop_mode") or "center")
        if fit is None:
            fit = "letterbox" if values.get("crop_mode") == "border" else "crop"
            notes.append(f"its crop_mode {values['crop_mode']!r:.{SHOWN}} has no like here: {fit} is taken")
        if (other := values.get("interpolation")) not in (None, "", "bilinear"):
            check_text(other, "interpolation", most=SHOWN)
            notes.append(f"its preprocessing resamples by {other}; here linearly")
        kept = float(values.get("crop_pct") or 1.0)
        if kept < 1:
            notes.append(
                f"its preprocessing keeps the inner {kept:.1%} of an image's shorter side; here the whole of it is read"
            )
        return Preprocessing(
            height=size[1],
            width=size[2],
            channels=channels,
            mean=_by_channel(values.get("mean") or mean, channels),
            std=_by_channel(values.get("std") or std, channels),
            fit=fit,
        )
    except (TypeError, ValueError, KeyError, IndexError, UsageError) as error:
        raise ModelError(f"no preprocessing: {getattr(error, 'message', error)!s}") from error


def _pretrained(config: Mapping[str, Any]) -> Mapping[str, Any]:
    values = config.get("pretrained_cfg", config)
    if not isinstance(values, Mapping):
        raise ModelError(f"pretrained_cfg is {values!r:.{SHOWN}}, expected an object")
    return values


def _by_channel(values: Any, channels: int) -> tuple[float, ...]:
    """As many values as there are channels: timm's configurations of grey networks often hold three."""
    numbers = tuple(float(value) for value in values)
    return numbers if len(numbers) == channels else (sum(numbers) / len(numbers),) * channels


def _activation(value: Any) -> str:
    known = {theirs: ours for ours, theirs in ACTIVATIONS.items()}
    if value in (None, "relu"):
        return "relu"
    if value not in known:
        raise ModelError(f"act_layer is {value!r:.{SHOWN}}, expected {', '.join(known)}")
    return known[value]
