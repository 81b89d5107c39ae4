"""The torch format: one safetensors file, weights and metadata."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors

from resfit.engines.metadata import Metadata
from resfit.errors import EngineError

if TYPE_CHECKING:
    from resfit.model.model import Model

KEY = "resfit"  # one key: safetensors does not keep an order among several, and equal models get equal bytes


def torch_file(model: "Model", metadata: Metadata) -> bytes:
    """The bytes of a torch artifact."""
    import safetensors.torch

    weights = {name: tensor.contiguous() for name, tensor in model.weights.items()}
    return safetensors.torch.save(weights, {KEY: json.dumps(metadata.to_strings(), separators=(",", ":"))})


def read_metadata(path: Path) -> Metadata:
    """The metadata of a torch artifact; a file that is none is an EngineError that names it."""
    try:
        with safetensors.safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(KEY, "{}")
    except (safetensors.SafetensorError, OSError) as error:
        raise EngineError(f"{path} is not a readable safetensors file: {error}") from error
    return Metadata.from_strings(json.loads(text), source=str(path))
