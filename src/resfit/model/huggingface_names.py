"""Names of tensors in Hugging Face's ResNet, turned into ours: microsoft/resnet-50 and its kin."""

import re
from collections.abc import Mapping

from torch import Tensor

_BLOCK = re.compile(r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\.(?:(shortcut)|layer\.(\d+))\.(\w+)\.(\w+)")
_STEM = re.compile(r"(?:resnet\.)?embedder\.embedder\.(\w+)\.(\w+)")
_HEAD = re.compile(r"classifier\.1\.(\w+)")
_PARTS = {"convolution": "conv", "normalization": "bn"}
_IN_SHORTCUT = {"convolution": "0", "normalization": "1"}


def from_huggingface(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under torchvision's names where they have Hugging Face's; any others keep theirs."""
    return {_our_name(name): tensor for name, tensor in tensors.items()}


def _our_name(name: str) -> str:
    if match := _HEAD.fullmatch(name):
        return f"fc.{match[1]}"
    if (match := _STEM.fullmatch(name)) and match[1] in _PARTS:
        return f"{_PARTS[match[1]]}1.{match[2]}"
    if (match := _BLOCK.fullmatch(name)) and match[5] in _PARTS:
        stage, block, shortcut, index, part, tensor = match.groups()
        place = f"downsample.{_IN_SHORTCUT[part]}" if shortcut else f"{_PARTS[part]}{int(index) + 1}"
        return f"layer{int(stage) + 1}.{block}.{place}.{tensor}"
    return name
