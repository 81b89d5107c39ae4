"""Safetensors files: the torch format (weights and metadata in one file), and weights under others' names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors

from resfit.engines.metadata import DAMAGED, Metadata
from resfit.errors import EngineError
from resfit.model.state import DESCRIPTION

if TYPE_CHECKING:
    from resfit.model.model import Model


def torch_file(model: "Model", metadata: Metadata) -> bytes:
    """The bytes of a torch artifact."""
    import safetensors.torch

    weights = {name: tensor.contiguous() for name, tensor in model.weights.items()}
    # under one key: safetensors keeps no order among several, and equal models get equal bytes
    return safetensors.torch.save(weights, {DESCRIPTION: json.dumps(metadata.to_strings(), separators=(",", ":"))})


def named_weights(model: "Model", names: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file of a model's weights, each under the name that `names` gives for ours.

    Floats are written as float32, whatever types the model computes in.
    """
    import safetensors.torch

    weights = {
        names[name]: (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.weights.items()
    }
    return safetensors.torch.save(weights, {"format": "pt"})


def read_metadata(path: Path) -> Metadata:
    """The metadata of a torch artifact; a file that is none is an EngineError that names it."""
    try:
        with safetensors.safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(DESCRIPTION, "{}")
    except (safetensors.SafetensorError, OSError) as error:
        raise EngineError(f"{path} is not a readable safetensors file: {error}", hint=DAMAGED) from error
    return Metadata.from_strings(json.loads(text), source=str(path))
