"""A model from whatever a user names: a folder or file of any library's, cached weights, a network."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from resfit.data.preprocessing import Preprocessing
from resfit.errors import UsageError
from resfit.model.container import load_container
from resfit.model.container_bytes import is_container
from resfit.model.foreign import (
    DEFAULT_SIZE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    STEM_SIZES,
    imagenet,
    load_checkpoint,
    numbered,
)
from resfit.model.foreign_folder import library_of, load_foreign_folder
from resfit.model.hub import snapshot
from resfit.model.model import Model, Provenance
from resfit.model.own_weights import load_own_weights
from resfit.model.run_folder import is_run, load_run
from resfit.model.sources import Located, locate, locate_weights, pretrained_candidates
from resfit.nn.architectures import architecture, is_architecture
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec
from resfit.randomness import derived_seed

ARTIFACT = "an artifact: evaluate and predict read it, other verbs need the model it was built from"
NOT_MODELS = {".onnx": ARTIFACT, ".xml": ARTIFACT}


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
    usual_size: Callable[[], tuple[int, int]] | None = None,
) -> Model:
    """The model that a user named.

    source: a run or fit folder; a `.resfit` file; a checkpoint file of anybody's; a folder of Hugging Face's or
        timm's, also an entry of the hub's cache; a name that `sources.locate` finds weights for, which alone asks the
        network, and only for the hub; or the name of a network, which gives random weights (provenance.trained is
        False). A path that exists comes before a name.
    mean, std: normalisation as fractions of 255, a value a channel; img_size: side, or (height, width), in
        pixels; labels: class names. Each replaces what the model carries or what is assumed of foreign files.
    num_classes, in_channels, seed: of an untrained network; other sources must have as many.
    usual_size: asked for (height, width) where neither img_size nor the source says it: a checkpoint, or a network.
    What was inferred and assumed is said in provenance.notes. A source that is none of these is a UsageError, a
    damaged one a ModelError that lists the tensors in the way.
    """
    path = Path(source)
    located = Located(path=path, source=str(source)) if path.exists() else locate(str(source))
    if located is None:
        named = _untrained(str(source), num_classes=num_classes, in_channels=in_channels, seed=seed)
        return _changed(named, mean, std, usual_size() if usual_size and img_size is None else img_size, labels)
    model = _located(located, mean, std, img_size, labels, usual_size)
    for name, expected in (("num_classes", num_classes), ("in_channels", in_channels)):
        found = getattr(model.spec, name)
        if expected not in (None, found):
            raise UsageError(f"{source} has {name} {found}, expected {expected}")
    return model


def load_weights(source: str | Path) -> Model:
    """The trained model that a user named to start from: as `load`, but the bare name of a network means weights.

    They are those that torchvision's or timm's cache holds for it; none or several are a UsageError.
    """
    if Path(source).exists() or not is_architecture(str(source)):
        return load(source)
    try:
        located = locate_weights(str(source))
    except UsageError as error:
        raise UsageError(f"{source} is a network's name, not weights: {error.message}", hint=error.hint) from error
    return _located(located, None, None, None, None)


def _located(
    located: Located,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    img_size: int | tuple[int, int] | None,
    labels: Sequence[str] | None,
    usual_size: Callable[[], tuple[int, int]] | None = None,
) -> Model:
    path = located.path
    if path.is_dir():
        return _changed(_from_folder(path, located.source), mean, std, img_size, labels)
    if is_container(path):
        return _changed(load_container(path), mean, std, img_size, labels)
    if path.suffix in NOT_MODELS:
        raise UsageError(f"{path} is {NOT_MODELS[path.suffix]}")
    if (own := load_own_weights(path)) is not None:
        return _changed(own, mean, std, img_size, labels)
    model = load_checkpoint(path, mean=mean, std=std, img_size=img_size, labels=labels, usual_size=usual_size)
    return dataclasses.replace(model, provenance=dataclasses.replace(model.provenance, source=located.source))


def _from_folder(path: Path, source: str) -> Model:
    for folder in (path, path / "model"):
        if library_of(folder) is not None:
            return load_foreign_folder(folder, source=source)
        if is_run(folder):
            return load_run(folder)
    if (entry := snapshot(path)) is not None:
        return _from_folder(entry, source)
    raise UsageError(
        f"the folder {path} holds no model (there is no config.json)",
        hint="give a folder that train or fit finished, a checkpoint file or the name of a network",
    )


def _untrained(name: str, *, num_classes: int | None, in_channels: int | None, seed: int) -> Model:
    try:
        spec = architecture(name)
    except UsageError as error:
        raise UsageError(f"{name} is no folder, no file and no network's name", hint=error.hint) from error
    cached = ", ".join(pretrained_candidates(name))
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
        labels=numbered(spec.num_classes),
        source=name,
        seed=seed,
        notes=(f"trained weights of it are cached: {cached}",) if cached else (),
    )


def untrained(
    spec: ResNetSpec,
    *,
    preprocessing: Preprocessing,
    labels: tuple[str, ...],
    source: str,
    seed: int = 0,
    notes: tuple[str, ...] = (),
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
        provenance=Provenance(trained=False, source=source, notes=(note, *notes)),
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
