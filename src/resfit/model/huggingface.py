"""What a Hugging Face folder says of a ResNet: config.json and preprocessor_config.json as spec, labels, preprocessing.

The inverse of huggingface_layout, and wider: it reads what others wrote, as microsoft/resnet-50.
"""

from collections.abc import Mapping
from typing import Any

from resfit.data.preprocessing import Preprocessing
from resfit.errors import ModelError, UsageError
from resfit.model.huggingface_layout import BILINEAR
from resfit.nn.spec import ResNetSpec
from resfit.texts import labels_of

# ResNetConfig's own values, which a config.json leaves out where they hold
DEFAULTS: Mapping[str, Any] = {
    "num_channels": 3, "embedding_size": 64, "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3],
    "layer_type": "bottleneck", "hidden_act": "relu", "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}  # fmt: skip
DEFAULT_SIZE = 224
DEFAULT_CROP = 0.875  # of image processors that resize to more than they keep and whose file does not say it
CONVNEXT_STRETCHES = 384
_CONVNEXT = ("ConvNextImageProcessor", "ConvNextFeatureExtractor", "ConvNextImageProcessorFast")


def spec_from_config(config: Mapping[str, Any], *, num_classes: int) -> ResNetSpec:
    """The network of a ResNetForImageClassification's configuration; ModelError for a value that is none.

    num_classes: of the weights, as configurations that never name classes do not count them.
    """
    values = {name: config.get(name, default) for name, default in DEFAULTS.items()}
    if values["hidden_act"] != "relu":
        raise ModelError(
            f"hidden_act is {values['hidden_act']!r}: there this library mixes two activations, which resfit cannot"
        )
    try:
        widths = tuple(values["hidden_sizes"])
        return ResNetSpec(
            depths=tuple(values["depths"]),
            widths=widths,
            strides=(2 if values["downsample_in_first_stage"] else 1, *(2,) * (len(widths) - 1)),
            block=values["layer_type"],
            stride_in="1x1" if values["downsample_in_bottleneck"] else "3x3",
            stem_width=values["embedding_size"],
            in_channels=values["num_channels"],
            num_classes=num_classes,
        )
    except (TypeError, UsageError) as error:
        raise ModelError(f"no ResNet: {getattr(error, 'message', error)}") from error


def labels_from_config(config: Mapping[str, Any], *, num_classes: int) -> tuple[str, ...] | None:
    """Class names in the order of the logits; None where the configuration names none, or another number."""
    names = config.get("id2label")
    if not isinstance(names, Mapping):
        return None
    ordered = [names.get(str(index), names.get(index)) for index in range(num_classes)]
    if None in ordered or len(names) != num_classes or ordered == [f"LABEL_{index}" for index in range(num_classes)]:
        return None
    return labels_of([str(name) for name in ordered], what="id2label")


def preprocessing_from_config(
    config: Mapping[str, Any], *, channels: int, mean: tuple[float, ...], std: tuple[float, ...], notes: list[str]
) -> Preprocessing:
    """The preprocessing of an image processor's configuration; `mean` and `std` where it has none.

    `notes` receives what this program does otherwise. ModelError for values that are none.
    """
    try:
        if config.get("do_normalize", True):
            mean = _by_channel(config.get("image_mean", mean), channels)
            std = _by_channel(config.get("image_std", std), channels)
        else:
            mean, std = (0.0,) * channels, (1.0,) * channels
        # It computes (pixel x factor - mean) / std, this program (pixel / 255 - mean) / std
        factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
        scale = 1.0 if abs(factor * 255 - 1) < 1e-6 else 1 / (255 * factor)
        crop = _crops(config)
        height, width = _size(config["crop_size"] if config.get("do_center_crop") and "crop_size" in config
                              else config.get("size", DEFAULT_SIZE))  # fmt: skip
        _note_differences(config, height, notes)
        return Preprocessing(
            height=height,
            width=width,
            channels=channels,
            mean=tuple(value * scale for value in mean),
            std=tuple(value * scale for value in std),
            fit="crop" if crop else "squash",
        )
    except (TypeError, ValueError, KeyError, ArithmeticError, UsageError) as error:
        raise ModelError(f"no preprocessing: {getattr(error, 'message', error)!s}") from error


def _by_channel(values: Any, channels: int) -> tuple[float, ...]:
    numbers = (float(values),) * channels if isinstance(values, int | float) else tuple(float(v) for v in values)
    return numbers * channels if len(numbers) == 1 else numbers


def _crops(config: Mapping[str, Any]) -> bool:
    """Whether images keep their shape and lose their sides; else they are stretched."""
    if _is_convnext(config):
        return _enlarges(config)
    size = config.get("size")
    shortest = size is None or (isinstance(size, Mapping) and "shortest_edge" in size)
    return bool(config.get("do_center_crop")) or shortest


def _is_convnext(config: Mapping[str, Any]) -> bool:
    return config.get("image_processor_type", config.get("feature_extractor_type")) in _CONVNEXT


def _enlarges(config: Mapping[str, Any]) -> bool:
    """ConvNext's processor, as microsoft/resnet-50 has it, enlarges before it cuts; to large sizes it stretches."""
    return _is_convnext(config) and _size(config.get("size", DEFAULT_SIZE))[0] < CONVNEXT_STRETCHES


def _size(size: Any) -> tuple[int, int]:
    if isinstance(size, Mapping):
        if "shortest_edge" in size:
            return int(size["shortest_edge"]), int(size["shortest_edge"])
        return int(size["height"]), int(size["width"])
    return int(size), int(size)


def _note_differences(config: Mapping[str, Any], height: int, notes: list[str]) -> None:
    """What the processor does and this program does not."""
    if config.get("resample", BILINEAR) != BILINEAR:
        notes.append("its processor resamples with another filter than the linear one that is used here")
    kept = 1.0
    if _enlarges(config):
        kept = float(config.get("crop_pct") or DEFAULT_CROP)
    elif config.get("do_center_crop") and not _is_convnext(config):
        kept = height / _size(config.get("size", DEFAULT_SIZE))[0]
    if kept < 1:
        notes.append(
            f"its processor keeps the inner {kept:.1%} of an image's shorter side; here the whole of it is read"
        )
