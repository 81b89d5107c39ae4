"""Why another library has no form for a network: the field in the way, and what it would have to be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resfit.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A field of a spec or a preprocessing, the value it has, and the values the library knows, in words."""

    field: str
    value: Any
    allowed: str


def refuse(library: str, refusals: Sequence[Refusal]) -> None:
    """ModelError that names every field in the way; nothing when there is none."""
    if not refusals:
        return
    reasons = "; ".join(f"{item.field} is {item.value!r}, and it knows {item.allowed}" for item in refusals)
    raise ModelError(
        f"{library} cannot express this network: {reasons}",
        hint="--format onnx, openvino and safetensors hold any network",
    )
