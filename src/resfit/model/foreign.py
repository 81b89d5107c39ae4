"""Checkpoints that others published: a state dict in a file, and what it leaves unsaid."""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from resfit.data.preprocessing import Preprocessing
from resfit.errors import ModelError, UsageError
from resfit.model.fold import EPSILON
from resfit.model.infer import infer_spec
from resfit.model.model import Model, Provenance
from resfit.model.run_folder import check_finite
from resfit.model.state import differences, shortened, state_shapes
from resfit.nn.spec import ResNetSpec

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
STEM_SIZES = {"cifar": 32}
DEFAULT_SIZE = 224

# Where training scripts put the state dict in a checkpoint; averaged weights first, as timm does.
_WRAPPERS = (
    "state_dict_ema", "model_ema", "ema_state_dict",
    "state_dict", "model_state_dict", "model", "net", "weights",
)  # fmt: skip
_PREFIXES = ("module.", "_orig_mod.", "model.")
_BARE_PROJECTION = re.compile(r".*\.downsample\.(weight|bias)")
_RENAMED = {"linear.": "fc.", "classifier.": "fc."}


def load_checkpoint(
    path: str | Path,
    *,
    spec: ResNetSpec | None = None,
    num_classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    img_size: int | tuple[int, int] | None = None,
    labels: Sequence[str] | None = None,
) -> Model:
    """The model of a foreign checkpoint: .safetensors, or anything torch saved (only tensors are unpickled).

    spec: the network; None reads it from tensor names and shapes.
    num_classes: what the classifier must have, if given.
    mean, std: normalisation as fractions of 255, a value a channel; None assumes ImageNet's.
    img_size: side, or (height, width), in pixels; None assumes 32 for a CIFAR stem and 224 otherwise.
    labels: class names in the order of the logits; None numbers them.
    What was inferred or assumed is said in provenance.notes. A file that is no ResNet's is a ModelError that
    lists the tensors in the way.
    """
    path = Path(path)
    notes: list[str] = []
    weights = _state(path, _read(path), notes)
    _complete_projections(weights)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if spec is None:
        try:
            spec, assumed = infer_spec(shapes)
        except ModelError as error:
            raise ModelError(f"{path}: {error.message}", hint=error.hint) from error
        notes += [_summary(spec), *assumed]
    _add_counters(spec, weights)
    if found := differences(spec, {name: tuple(tensor.shape) for name, tensor in weights.items()}):
        raise ModelError(f"{path} does not fit the network {_summary(spec)}: {'; '.join(found)}")
    if num_classes not in (None, spec.num_classes):
        raise ModelError(f"{path} has {spec.num_classes} classes, expected {num_classes}")
    check_finite(path, weights)
    preprocessing = _preprocessing(spec, mean, std, img_size, notes)
    if labels is None:
        notes.append("the file names no classes: they are numbered")
    return Model(
        spec=spec,
        weights={name: weights[name] for name in state_shapes(spec)},
        preprocessing=preprocessing,
        labels=tuple(labels) if labels is not None else tuple(str(index) for index in range(spec.num_classes)),
        provenance=Provenance(trained=True, source=str(path), notes=tuple(notes)),
    )


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(path.read_bytes())
        # timm's and others' checkpoints hold their command line, and such a Namespace is inert data
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error
    except Exception as error:  # a damaged or hostile file can make an unpickler raise anything
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ModelError(
            f"{path} cannot be read as tensors alone: {reason}",
            hint="save it anew with torch.save(network.state_dict(), PATH)",
        ) from error


def _state(path: Path, content: Any, notes: list[str]) -> dict[str, Tensor]:
    """The state dict in a checkpoint: unwrapped, without prefixes, torchvision's names, float32."""
    if isinstance(content, Mapping):
        wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if wrapper is not None:
            content = content[wrapper]
            if wrapper in _WRAPPERS[:3]:
                notes.append(f"the averaged weights are taken ({wrapper})")
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__}, expected a state dict")
    tensors = {str(name): item for name, item in content.items() if isinstance(item, Tensor)}
    if not tensors:
        raise ModelError(f"{path} holds no state dict, only {shortened([str(key) for key in content])}")
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return {_renamed(name): _plain(tensor) for name, tensor in tensors.items()}


def _renamed(name: str) -> str:
    for old, new in _RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name.replace(".shortcut.", ".downsample.")


def _plain(tensor: Tensor) -> Tensor:
    """A tensor with memory of its own; half and double precision become float32."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).clone(memory_format=torch.contiguous_format)


def _complete_projections(weights: dict[str, Tensor]) -> None:
    """Give a projection that stands alone the norm every projection here has: one that only adds its bias.

    Many networks have a bare 1x1 convolution as shortcut, often with a bias where the others have none.
    """
    for name in [name for name in weights if _BARE_PROJECTION.fullmatch(name)]:
        weights[name.replace("downsample.", "downsample.0.")] = weights.pop(name)
    if "bn1.running_mean" not in weights:  # no norms at all, or a pre-activation's projections, which have none
        return
    for name in [name for name in weights if name.endswith(".downsample.0.weight")]:
        prefix = name.removesuffix("0.weight")
        if any(other.startswith((f"{prefix}1.", f"{prefix}2.")) for other in weights):
            continue
        width = len(weights[name])
        zeros = torch.zeros(width)
        weights[f"{prefix}1.weight"] = torch.full((width,), (1 + EPSILON) ** 0.5)
        weights[f"{prefix}1.bias"] = weights.pop(f"{prefix}0.bias", zeros)
        weights[f"{prefix}1.running_mean"] = zeros.clone()
        weights[f"{prefix}1.running_var"] = torch.ones(width)
        if f"{prefix.removesuffix('downsample.')}conv1.bias" in weights:
            weights[f"{prefix}0.bias"] = zeros.clone()


def _add_counters(spec: ResNetSpec, weights: dict[str, Tensor]) -> None:
    """Files from before torch 0.4.1 lack the batch counters of norms, which no answer depends on."""
    for name in state_shapes(spec):
        if name.endswith("num_batches_tracked"):
            weights.setdefault(name, torch.zeros((), dtype=torch.int64))


def _preprocessing(
    spec: ResNetSpec,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    img_size: int | tuple[int, int] | None,
    notes: list[str],
) -> Preprocessing:
    assumed = [name for name, value in (("mean", mean), ("deviation", std)) if value is None]
    if assumed:
        notes.append(
            f"the file carries no preprocessing: ImageNet's {' and '.join(assumed)} assumed "
            "(--mean and --std change it)"
        )
    size = STEM_SIZES.get(spec.stem, DEFAULT_SIZE) if img_size is None else img_size
    height, width = (size, size) if isinstance(size, int) else size
    channels = spec.in_channels
    return Preprocessing(
        height=height,
        width=width,
        channels=channels,
        mean=tuple(mean) if mean is not None else imagenet(IMAGENET_MEAN, channels),
        std=tuple(std) if std is not None else imagenet(IMAGENET_STD, channels),
    )


def imagenet(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """ImageNet's mean or deviation; their average in each channel of images that are not RGB."""
    return values if channels == len(values) else (sum(values) / len(values),) * channels


def _summary(spec: ResNetSpec) -> str:
    depths = "-".join(map(str, spec.depths))
    return (
        f"read from the tensors: {spec.stem} stem, {spec.block} blocks {depths}, widths "
        f"{'-'.join(map(str, spec.widths))}, {spec.shortcut} shortcuts, {spec.num_classes} classes"
    )
