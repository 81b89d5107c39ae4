"""A model from whatever a user names: a run or fit folder, a checkpoint file, a network."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from resfit.data.preprocessing import Preprocessing
from resfit.errors import UsageError
from resfit.model.foreign import (
    DEFAULT_SIZE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    STEM_SIZES,
    imagenet,
    load_checkpoint,
)
from resfit.model.model import Model, Provenance
from resfit.model.run_folder import is_run, load_run
from resfit.nn.architectures import architecture
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec
from resfit.randomness import derived_seed

NOT_MODELS = {".onnx": "an artifact: evaluate and predict read it, other verbs need the model it was built from"}


def load(
    source: str | Path,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    img_size: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    labels: Sequence[str] | None = None,
    seed: int = 0,
) -> Model:
    """The model that a user named.

    source: a folder that train or fit left, a checkpoint file, or the name of a network, which gives random
        weights (provenance.trained is False). A path that exists comes before a name.
    mean, std: normalisation as fractions of 255, a value a channel; img_size: side, or (height, width), in
        pixels; labels: class names. Each replaces what the model carries or what is assumed of foreign files.
    num_classes, in_channels, seed: of an untrained network; other sources must have as many.
    A source that is none of these is a UsageError, a damaged one a ModelError.
    """
    path = Path(source)
    if path.is_dir():
        model = _changed(_from_folder(path), mean, std, img_size, labels)
    elif path.exists():
        if path.suffix in NOT_MODELS:
            raise UsageError(f"{path} is {NOT_MODELS[path.suffix]}")
        model = load_checkpoint(path, mean=mean, std=std, img_size=img_size, labels=labels)
    else:
        named = _untrained(str(source), num_classes=num_classes, in_channels=in_channels, seed=seed)
        return _changed(named, mean, std, img_size, labels)
    for name, expected in (("num_classes", num_classes), ("in_channels", in_channels)):
        found = getattr(model.spec, name)
        if expected not in (None, found):
            raise UsageError(f"{source} has {name} {found}, expected {expected}")
    return model


def _from_folder(path: Path) -> Model:
    for folder in (path, path / "model"):
        if is_run(folder):
            return load_run(folder)
    raise UsageError(
        f"the folder {path} holds no model (there is no config.json)",
        hint="give a folder that train or fit finished, a checkpoint file or the name of a network",
    )


def _untrained(name: str, *, num_classes: int | None, in_channels: int | None, seed: int) -> Model:
    try:
        spec = architecture(name)
    except UsageError as error:
        raise UsageError(f"{name} is no folder, no file and no network's name", hint=error.hint) from error
    spec = dataclasses.replace(
        spec,
        num_classes=spec.num_classes if num_classes is None else num_classes,
        in_channels=spec.in_channels if in_channels is None else in_channels,
    )
    side = STEM_SIZES.get(spec.stem, DEFAULT_SIZE)
    return untrained(
        spec,
        preprocessing=Preprocessing(
            height=side,
            width=side,
            channels=spec.in_channels,
            mean=imagenet(IMAGENET_MEAN, spec.in_channels),
            std=imagenet(IMAGENET_STD, spec.in_channels),
        ),
        labels=tuple(str(index) for index in range(spec.num_classes)),
        source=name,
        seed=seed,
    )


def untrained(
    spec: ResNetSpec, *, preprocessing: Preprocessing, labels: tuple[str, ...], source: str, seed: int = 0
) -> Model:
    """A model of random weights, the same for the same seed; provenance.trained is False and a note says so."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "initial weights"))
        module = ResNet(spec)
    note = f"{source} is untrained: its weights are random (seed {seed})"
    return Model.from_module(
        module,
        preprocessing=preprocessing,
        labels=labels,
        provenance=Provenance(trained=False, source=source, notes=(note,)),
    )


def _changed(
    model: Model,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    img_size: int | tuple[int, int] | None,
    labels: Sequence[str] | None,
) -> Model:
    """A model with the preprocessing and labels a user gave in place of its own."""
    own = model.preprocessing
    size = (own.height, own.width) if img_size is None else img_size
    height, width = (size, size) if isinstance(size, int) else size
    preprocessing = dataclasses.replace(
        own,
        height=height,
        width=width,
        mean=own.mean if mean is None else tuple(mean),
        std=own.std if std is None else tuple(std),
    )
    return dataclasses.replace(
        model, preprocessing=preprocessing, labels=model.labels if labels is None else tuple(labels)
    )
