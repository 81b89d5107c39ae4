"""The run folder: a model on disk, read back without unpickling anything.

config.json           everything but numbers; written last, so a folder with it is complete
model.safetensors     the full state dict, torchvision's names
encodings.safetensors scales and codebooks of encodings, under the names of the weights; only where there are any
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from resfit.data.preprocessing import Preprocessing
from resfit.errors import ModelError, ResfitError
from resfit.model.encoding import Codebook, Encoding, Float, Grid
from resfit.model.model import Model, Provenance, Range
from resfit.model.state import differences, shortened
from resfit.nn.spec import ResNetSpec
from resfit.storage import write_atomic
from resfit.texts import labels_of

SCHEMA_VERSION = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ENCODINGS = "encodings.safetensors"
CONFIG_LIMIT_BYTES = 64_000_000


def save(model: Model, folder: str | Path) -> None:
    """Write a model into a folder, which is made if needed; other files in it are left alone.

    Each file is replaced atomically, and config.json, which names the fingerprints of the others, comes last.
    """
    folder = Path(folder)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.weights.items()}
    written = {WEIGHTS: safetensors.torch.save(weights, metadata={"format": "pt"})}
    if model.encodings:
        arrays = {name: torch.from_numpy(_array(item)) for name, item in model.encodings.items()}
        written[ENCODINGS] = safetensors.torch.save(arrays)
    config = _config(model) | {"files": {name: hashlib.sha256(data).hexdigest() for name, data in written.items()}}
    for name, data in written.items():
        write_atomic(folder / name, data)
    if not model.encodings:
        (folder / ENCODINGS).unlink(missing_ok=True)
    write_atomic(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False).encode() + b"\n")


def load_run(folder: str | Path) -> Model:
    """The model that `save` wrote.

    Nothing is allocated before names and shapes in the weight file's header agree with the network that
    config.json describes. Any damage is a ModelError that names the file.
    """
    folder = Path(folder)
    config = _read_config(folder / CONFIG)
    shapes = _shapes(folder / WEIGHTS)
    try:
        spec = ResNetSpec.from_dict(config["spec"])
        if found := differences(spec, shapes):
            raise ModelError(f"{folder / WEIGHTS} does not fit {CONFIG}: {'; '.join(found)}")
        weights = _read_tensors(folder / WEIGHTS, config["files"][WEIGHTS])
        arrays = _read_tensors(folder / ENCODINGS, config["files"][ENCODINGS]) if config["encodings"] else {}
        return Model(
            spec=spec,
            weights=weights,
            encodings={name: _encoding(item, arrays[name].numpy()) for name, item in config["encodings"].items()},
            activation_ranges={
                name: Range(low=low, high=high) for name, (low, high) in config["activation_ranges"].items()
            },
            preprocessing=Preprocessing.from_dict(config["preprocessing"]),
            labels=labels_of(config["labels"]),
            provenance=Provenance.from_dict(config["provenance"]),
        )
    except ModelError as error:
        named = str(folder) in error.message
        raise (error if named else ModelError(f"{folder / CONFIG}: {error.message}", hint=error.hint)) from error
    except ResfitError as error:  # a spec or a preprocessing that cannot be
        raise ModelError(f"{folder / CONFIG}: {error.message}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"{folder / CONFIG} is not a resfit model: {error!r}") from error


def is_run(folder: str | Path) -> bool:
    """Whether a folder holds a complete run."""
    return (Path(folder) / CONFIG).is_file()


def _config(model: Model) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "spec": model.spec.to_dict(),
        "preprocessing": model.preprocessing.to_dict(),
        "labels": list(model.labels),
        "provenance": model.provenance.to_dict(),
        "encodings": {name: _about(item) for name, item in model.encodings.items()},
        "activation_ranges": {name: [item.low, item.high] for name, item in model.activation_ranges.items()},
    }


def _about(encoding: Encoding) -> dict[str, Any]:
    """What of an encoding goes into config.json; `_array` is the rest."""
    match encoding:
        case Grid():
            return {"bits": encoding.bits, "axis": encoding.axis}
        case Codebook():
            return {"codebook": len(encoding.centers)}
        case Float():
            return {"float": encoding.kind}


def _array(encoding: Encoding) -> np.ndarray:
    match encoding:
        case Grid():
            return encoding.scales
        case Codebook():
            return encoding.centers
        case Float():
            return np.zeros(0, np.float32)


def _encoding(about: Mapping[str, Any], array: np.ndarray) -> Encoding:
    if "float" in about:
        return Float(kind=about["float"])
    if "codebook" in about:
        return Codebook(centers=array)
    return Grid(bits=about["bits"], axis=about["axis"], scales=array)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > CONFIG_LIMIT_BYTES:
            raise ModelError(f"{path} is larger than any configuration")
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}", hint="give a folder that train or fit finished"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    version = config.get("schema_version") if isinstance(config, dict) else None
    if version != SCHEMA_VERSION:
        raise ModelError(
            f"{path} has the schema version {version!r}, expected {SCHEMA_VERSION}",
            hint="it was not written by resfit, or by another version of it",
        )
    return config


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by name from the header of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def _read_tensors(path: Path, fingerprint: str) -> dict[str, Tensor]:
    """All tensors of a safetensors file that is as it was written and holds finite numbers only."""
    try:
        data = path.read_bytes()
        tensors = safetensors.torch.load(data)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != fingerprint:
        raise ModelError(
            f"{path} is not the file that {CONFIG} was written for",
            hint="it was changed or only partly copied; copy the whole folder again",
        )
    check_finite(path, tensors)
    return tensors


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """ModelError naming the file and its tensors that hold infinities or numbers that are none."""
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _finite(tensor)]
    if broken:
        raise ModelError(
            f"{path} holds values that are not finite in {shortened(broken)}", hint="its training diverged"
        )


def _finite(tensor: Tensor) -> bool:
    """By numpy, in this thread: torch would start its pool for each of thousands of small tensors."""
    return bool(np.isfinite((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()).all())
