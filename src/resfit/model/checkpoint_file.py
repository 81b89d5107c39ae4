"""State dicts in files of any origin: unwrapped, without prefixes, under torchvision's names, nothing unpickled."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from resfit.errors import ModelError, UsageError
from resfit.model.state import shortened

# Where training scripts put the state dict in a checkpoint; averaged weights first, as timm does.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict")
_WRAPPERS = (*_AVERAGED, "state_dict", "model_state_dict", "model", "net", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_RENAMED = {"linear.": "fc.", "classifier.": "fc."}
_AFTER_SUM = re.compile(r"layer\d+\.\d+\.act\.weight")
_IN_BLOCK = re.compile(r"(layer\d+\.\d+)\.(act\d)\.(.+)")


def read_tensors(path: Path, notes: list[str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names in it, without what wraps and precedes them all; float32.

    path: .safetensors, or anything torch saved, of which only tensors are unpickled. `notes` receives what was
    chosen. UsageError where there is no file, ModelError where it holds no state dict.
    """
    content = _content(path)
    if isinstance(content, Mapping):
        wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if wrapper is not None:
            content = content[wrapper]
            if wrapper in _AVERAGED:
                notes.append(f"the averaged weights are taken ({wrapper})")
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__}, expected a state dict")
    tensors = {str(name): item for name, item in content.items() if isinstance(item, Tensor)}
    if not tensors:
        raise ModelError(f"{path} holds no state dict, only {shortened([str(key) for key in content])}")
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return {name: _plain(tensor) for name, tensor in tensors.items()}


def torchvision_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names that torchvision gives them (timm, where torchvision has none).

    CIFAR networks name classifier and shortcuts otherwise; timm numbers the activation after a sum, which has a
    weight where it is a PReLU, on from those of the branch.
    """
    last = "act3" if any(name.endswith(".conv3.weight") for name in tensors) else "act2"
    numbered = "norm.weight" not in tensors and not any(_AFTER_SUM.fullmatch(name) for name in tensors)
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _IN_BLOCK.fullmatch(name)
        if numbered and match and match[2] == last:
            name = f"{match[1]}.act.{match[3]}"
        named[_renamed(name)] = tensor
    return named


def _renamed(name: str) -> str:
    for old, new in _RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name.replace(".shortcut.", ".downsample.")


def _content(path: Path) -> Any:
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


def _plain(tensor: Tensor) -> Tensor:
    """A tensor with memory of its own; half and double precision become float32."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).clone(memory_format=torch.contiguous_format)
