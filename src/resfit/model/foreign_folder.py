"""Model folders that other libraries wrote: config.json, weights, and what else describes them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resfit.data.labels import numbered
from resfit.data.preprocessing import Preprocessing
from resfit.errors import ModelError
from resfit.model import huggingface, timm_configuration
from resfit.model.checkpoint_file import read_tensors
from resfit.model.foreign import IMAGENET_MEAN, IMAGENET_STD, imagenet, network_of
from resfit.model.hub import CONFIG, PREPROCESSOR, weight_file
from resfit.model.model import Model, Provenance
from resfit.model.run_folder import CONFIG_LIMIT_BYTES
from resfit.nn.architectures import summary

HUGGINGFACE, TIMM = "Hugging Face", "timm"


def library_of(folder: Path) -> str | None:
    """Whose model a folder holds: Hugging Face's or timm's; None for a run of resfit, or no model at all."""
    path = folder / CONFIG
    if not path.is_file() or path.stat().st_size > CONFIG_LIMIT_BYTES:
        return None
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    if not isinstance(config, Mapping) or "schema_version" in config:
        return None
    if "model_type" in config or "architectures" in config:
        return HUGGINGFACE
    return TIMM if isinstance(config.get("architecture"), str) else None


def load_foreign_folder(folder: Path, *, source: str) -> Model:
    """The model in a folder of Hugging Face's or timm's, for which `library_of` gave a name.

    source: what provenance says it is from. ModelError names the file and what is wrong with it: another kind of
    network, tensors missing, unexpected or of another shape, a damaged description.
    """
    library = library_of(folder)
    config = _read_json(folder / CONFIG)
    weights = weight_file(folder)
    if weights is None:
        raise ModelError(f"{folder} has a {CONFIG} of {library}'s and no weights", hint="copy the whole folder again")
    notes: list[str] = []
    try:
        if library == HUGGINGFACE:
            return _huggingface(folder, config, weights, source, notes)
        return _timm(config, weights, source, notes)
    except ModelError as error:
        if str(folder) in error.message:
            raise
        raise ModelError(f"{folder / CONFIG}: {error.message}", hint=error.hint) from error


def _huggingface(folder: Path, config: Mapping[str, Any], weights: Path, source: str, notes: list[str]) -> Model:
    if config.get("model_type") != "resnet":
        raise ModelError(
            f"the model is a {config.get('model_type')!r}, expected 'resnet'",
            hint="only ResNetForImageClassification has a form here; timm's networks come with a config of timm's",
        )
    tensors = read_tensors(weights, notes)
    classifier = tensors.get("classifier.1.weight")
    if classifier is None or classifier.ndim != 2:
        raise ModelError(f"{weights} has no classifier (classifier.1.weight)", hint="name a model that classifies")
    count = len(classifier)
    spec, state = network_of(weights, tensors, notes, spec=huggingface.spec_from_config(config, num_classes=count))
    notes.insert(0, f"the network of {CONFIG}, which its tensors fit: {summary(spec)}")
    processor = folder / PREPROCESSOR
    if not processor.is_file():
        notes.append(f"the folder has no {PREPROCESSOR}: ImageNet's mean and deviation assumed")
    described = _read_json(processor) if processor.is_file() else {}
    preprocessing = _preprocessing(huggingface, described, spec.in_channels, notes)
    labels = huggingface.labels_from_config(config, num_classes=count)
    return _model(spec, state, preprocessing, labels, source, notes)


def _timm(config: Mapping[str, Any], weights: Path, source: str, notes: list[str]) -> Model:
    tensors = read_tensors(weights, notes)
    changes = timm_configuration.changes_from_config(config)
    spec, state = network_of(weights, tensors, notes, changes=changes)
    preprocessing = _preprocessing(timm_configuration, config, spec.in_channels, notes)
    labels = timm_configuration.labels_from_config(config, num_classes=spec.num_classes)
    return _model(spec, state, preprocessing, labels, source, notes)


def _preprocessing(library: Any, described: Mapping[str, Any], channels: int, notes: list[str]) -> Preprocessing:
    assumed = {"mean": imagenet(IMAGENET_MEAN, channels), "std": imagenet(IMAGENET_STD, channels)}
    return library.preprocessing_from_config(described, channels=channels, notes=notes, **assumed)


def _model(
    spec: Any,
    state: Mapping[str, Any],
    preprocessing: Preprocessing,
    labels: tuple[str, ...] | None,
    source: str,
    notes: list[str],
) -> Model:
    if labels is None:
        notes.append("its description names no classes: they are numbered")
    return Model(
        spec=spec,
        weights=state,
        preprocessing=preprocessing,
        labels=labels or numbered(spec.num_classes),
        provenance=Provenance(trained=True, source=source, notes=tuple(notes)),
    )


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > CONFIG_LIMIT_BYTES:
            raise ModelError(f"{path} is larger than any configuration")
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, Mapping):
        raise ModelError(f"{path} is no description of a model: an object expected")
    return values
