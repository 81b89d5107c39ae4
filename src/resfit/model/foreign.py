"""Checkpoints that others published: a state dict in a file, and what it leaves unsaid."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resfit.data.labels import numbered
from resfit.data.preprocessing import Preprocessing
from resfit.errors import ModelError
from resfit.model.checkpoint_file import read_tensors, torchvision_names
from resfit.model.fold import EPSILON
from resfit.model.huggingface_names import from_huggingface
from resfit.model.infer import infer_spec
from resfit.model.model import Model, Provenance
from resfit.model.run_folder import check_finite
from resfit.model.state import differences, shortened, state_shapes
from resfit.nn.architectures import summary
from resfit.nn.spec import ResNetSpec

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
STEM_SIZES = {"cifar": 32}
DEFAULT_SIZE = 224
COUNTER = "num_batches_tracked"

_BARE_PROJECTION = re.compile(r".*\.downsample\.(weight|bias)")


def load_checkpoint(
    path: str | Path,
    *,
    spec: ResNetSpec | None = None,
    num_classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    img_size: int | tuple[int, int] | None = None,
    labels: Sequence[str] | None = None,
    usual_size: Callable[[], tuple[int, int]] | None = None,
) -> Model:
    """The model of a foreign checkpoint: .safetensors, or anything torch saved (only tensors are unpickled).

    spec: the network; None reads it from tensor names and shapes.
    num_classes: what the classifier must have, if given.
    mean, std: normalisation as fractions of 255, a value a channel; None assumes ImageNet's.
    img_size: side, or (height, width), in pixels; None asks usual_size for the latter, once the
        file is known to be a network's, or without it assumes 32 for a CIFAR stem and 224 otherwise.
    labels: class names in the order of the logits; None numbers them.
    What was inferred or assumed is said in provenance.notes. A file that is no ResNet's is a ModelError that
    lists the tensors in the way.
    """
    path = Path(path)
    notes: list[str] = []
    tensors = read_tensors(path, notes)
    spec, weights = network_of(path, tensors, notes, spec=spec)
    if num_classes not in (None, spec.num_classes):
        raise ModelError(f"{path} has {spec.num_classes} classes, expected {num_classes}")
    if img_size is None and usual_size is not None:
        img_size = usual_size()
    preprocessing = _preprocessing(spec, mean, std, img_size, notes)
    if labels is None:
        notes.append("the file names no classes: they are numbered")
    return Model(
        spec=spec,
        weights=weights,
        preprocessing=preprocessing,
        labels=tuple(labels) if labels is not None else numbered(spec.num_classes),
        provenance=Provenance(trained=True, source=str(path), notes=tuple(notes)),
    )


def network_of(
    path: Path,
    tensors: Mapping[str, Tensor],
    notes: list[str],
    *,
    spec: ResNetSpec | None = None,
    changes: Mapping[str, Any] | None = None,
) -> tuple[ResNetSpec, dict[str, Tensor]]:
    """The network that tensors of a file belong to, and its whole state dict in its order.

    spec: the network, where it is known; None reads it from names and shapes, and `changes` are fields that
    something besides the tensors tells. `notes` receives what was inferred. ModelError names the file and lists
    the tensors that are missing, unexpected, of another shape or not finite.
    """
    weights = torchvision_names(from_huggingface(tensors))
    _complete_projections(weights)
    if spec is None:
        try:
            spec, assumed = infer_spec({name: tuple(tensor.shape) for name, tensor in weights.items()})
        except ModelError as error:
            raise ModelError(f"{path}: {error.message}", hint=error.hint) from error
        spec = dataclasses.replace(spec, **(changes or {}))
        notes += [f"read from the tensors: {summary(spec)}", *assumed]
    _add_counters(spec, weights)
    if found := differences(spec, {name: tuple(tensor.shape) for name, tensor in weights.items()}):
        raise ModelError(f"{path} does not fit the network ({summary(spec)}): {'; '.join(found)}")
    _check_numbers(path, weights)
    return spec, {name: weights[name] for name in state_shapes(spec)}


def _check_numbers(path: Path, weights: dict[str, Tensor]) -> None:
    """ModelError for weights that are whole or complex numbers or not finite; counters become whole numbers."""
    for name, tensor in weights.items():
        if name.endswith(COUNTER):
            weights[name] = tensor.long()
    others = [name for name, item in weights.items() if not (item.is_floating_point() or name.endswith(COUNTER))]
    if others:
        raise ModelError(
            f"{path} holds {weights[others[0]].dtype} in {shortened(others)}, expected floats",
            hint="give the checkpoint from before it was quantised",
        )
    check_finite(path, weights)


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
        if name.endswith(COUNTER):
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
