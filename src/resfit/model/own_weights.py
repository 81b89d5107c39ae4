"""Safetensors files that `export` wrote: they say themselves which network they are of, so nothing is guessed."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open

from resfit.data.preprocessing import Preprocessing
from resfit.errors import ModelError, ResfitError
from resfit.model.model import Model, Provenance
from resfit.model.run_folder import check_finite
from resfit.model.state import DESCRIPTION, differences
from resfit.nn.spec import ResNetSpec
from resfit.texts import labels_of


def load_own_weights(path: Path) -> Model | None:
    """The model of a safetensors file with resfit's description; None for any other file.

    A description that is damaged, or that the tensors do not fit, is a ModelError that names the file.
    """
    text = _description(path)
    if text is None:
        return None
    try:
        values: dict[str, Any] = {name: json.loads(value) for name, value in json.loads(text).items()}
        spec = ResNetSpec.from_dict(values["spec"])
        weights = safetensors.torch.load(path.read_bytes())
        if found := differences(spec, {name: tuple(tensor.shape) for name, tensor in weights.items()}):
            raise ModelError(f"the tensors do not fit the network: {'; '.join(found)}")
        check_finite(path, weights)
        return Model(
            spec=spec,
            weights=weights,
            preprocessing=Preprocessing.from_dict(values["preprocessing"]),
            labels=labels_of(values["labels"]),
            provenance=Provenance(trained=bool(values["trained"]), source=str(path)),
        )
    except ResfitError as error:
        named = error.message if str(path) in error.message else f"{path}: {error.message}"
        raise ModelError(named, hint=error.hint) from error
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ModelError(f"{path} has a damaged description ({error!r})", hint="export the model again") from error


def _description(path: Path) -> str | None:
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get(DESCRIPTION)
    except (OSError, SafetensorError):
        return None  # whoever reads it as another's file says what is wrong with it
