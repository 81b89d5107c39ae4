"""Weights for other programs: unlike an artifact, they keep the network's own batch norms and hold no graph.

safetensors  one file under torchvision's names (timm's where torchvision has none), with resfit's metadata
timm         a folder for timm.create_model("local-dir:FOLDER", pretrained=True)
huggingface  a folder for transformers' ResNetForImageClassification.from_pretrained(FOLDER)
"""

import importlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from resfit.engines.huggingface_folder import write_huggingface_folder
from resfit.engines.metadata import Metadata
from resfit.engines.timm_folder import write_timm_folder
from resfit.engines.torch import TorchSession
from resfit.engines.torch_file import torch_file
from resfit.errors import EngineError
from resfit.model.huggingface_layout import huggingface_names
from resfit.model.model import Model
from resfit.model.timm_layout import timm_names
from resfit.nn.resnet import ResNet
from resfit.storage import write_atomic

NAMES = {"timm": timm_names, "huggingface": huggingface_names}
LIBRARIES = {"timm": "timm", "huggingface": "transformers"}


def write_weights(model: Model, path: Path, *, format: str) -> None:
    """Write a model's weights in a format of this module; ModelError names what that cannot express."""
    _WRITERS[format](model, path)


def reopen(model: Model, path: Path, *, format: str, threads: int | None = None) -> tuple[TorchSession, str]:
    """A session on weights that `write_weights` wrote of a model, and what opened them, in words.

    A folder is opened by the library that it is for where that can be imported, and otherwise by resfit, tensor by
    tensor. Weights that do not open are an EngineError.
    """
    library = LIBRARIES.get(format)
    try:
        network, opener = _by_library(path, library) if library else (_by_names(model, path, format), "resfit")
    except ImportError:
        network, opener = _by_names(model, path, format), f"resfit, for want of {library}"
    except Exception as error:  # whatever the other library raises
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise EngineError(f"{library} cannot open what was written for it: {reason}") from error
    return TorchSession(network, preprocessing=model.preprocessing, labels=model.labels, threads=threads), opener


class _Logits(nn.Module):
    """A transformers network that gives its logits alone."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(pixel_values=x).logits


def _by_library(path: Path, library: str) -> tuple[nn.Module, str]:
    """The network as its own library opens it; ImportError where that is absent, or unfit to be imported here."""
    try:
        module = importlib.import_module(library)
        network_class = module.ResNetForImageClassification if library == "transformers" else None
    except Exception as error:  # torchvision, which both import, fails in ways of its own beside another torch
        raise ImportError(library) from error
    opener = f"{library} {version(library)}"
    if network_class is None:
        return module.create_model(f"local-dir:{path}", pretrained=True), opener
    return _Logits(network_class.from_pretrained(path, local_files_only=True)), opener


def _by_names(model: Model, path: Path, format: str) -> nn.Module:
    """The network from the file's own bytes, each tensor under the name it was given."""
    file = path / "model.safetensors" if path.is_dir() else path
    names = NAMES[format](model.spec) if format in NAMES else {name: name for name in model.weights}
    found = safetensors.torch.load(file.read_bytes())
    with torch.device("meta"):
        network = ResNet(model.spec)
    try:
        network.load_state_dict({name: found[theirs] for name, theirs in names.items()}, assign=True)
    except (KeyError, RuntimeError) as error:
        raise EngineError(f"{file} does not hold the network that was written to it: {error}") from error
    return network


def _write_safetensors(model: Model, path: Path) -> None:
    metadata = Metadata(
        spec=model.spec,
        preprocessing=model.preprocessing,
        labels=model.labels,
        precision="fp32",
        converted_layers=0,
        trained=model.provenance.trained,
        resfit_version=model.provenance.resfit_version,
    )
    write_atomic(path, torch_file(model, metadata))


_WRITERS: dict[str, Callable[[Model, Path], None]] = {
    "safetensors": _write_safetensors,
    "timm": write_timm_folder,
    "huggingface": write_huggingface_folder,
}
