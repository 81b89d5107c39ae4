"""What everything after training takes and gives: spec, weights, labels, preprocessing, provenance."""

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from resfit.errors import ModelError
from resfit.model.encoding import Encoding
from resfit.model.state import check_state
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec
from resfit.texts import SHOWN, check_text

if TYPE_CHECKING:
    from resfit.data.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Range:
    """The least and the greatest value of an activation tensor, as calibrated; both finite, low <= high."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ModelError(f"an activation range goes from {self.low} to {self.high}")


def _version() -> str:
    try:
        return metadata.version("resfit")
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a model comes from.

    trained: False for a bare architecture, whose weights are random.
    source: what made it, such as "resfit train digits", a checkpoint's path or an architecture's name.
    recipe, data: plain data for JSON, when known.
    created: ISO 8601 in UTC.
    notes: sentences a user must see, such as assumptions that were made.
    """

    trained: bool
    source: str
    recipe: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    resfit_version: str = field(default_factory=_version)
    created: str = field(default_factory=_now)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` reads it back."""
        return {**dataclasses.asdict(self), "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The provenance that `to_dict` wrote, or a file of others gives; ModelError names the field that cannot be."""
        if not isinstance(values, Mapping):
            raise ModelError(f"not a provenance: {values!r:.{SHOWN}}, expected an object")
        known = [item.name for item in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise ModelError(f"not a provenance: unknown field {name!r:.{SHOWN}}")
        for name in ("trained", "source"):
            if name not in values:
                raise ModelError(f"not a provenance: {name} is missing")
        for name, value in values.items():
            _check_field(name, value)
        return cls(**{**values, "notes": tuple(values.get("notes", ()))})


def _check_field(name: str, value: Any) -> None:
    """ModelError unless the value is what a field of Provenance holds, as JSON has it."""
    what = f"provenance.{name}"
    match name:
        case "trained":
            if not isinstance(value, bool):
                raise ModelError(f"{what} is {value!r:.{SHOWN}}, expected true or false")
        case "recipe" | "data":
            if not (value is None or isinstance(value, dict)):
                raise ModelError(f"{what} is {value!r:.{SHOWN}}, expected an object or null")
        case "notes":
            if not isinstance(value, list | tuple):
                raise ModelError(f"{what} is {value!r:.{SHOWN}}, expected a list of texts")
            for place, note in enumerate(value):
                check_text(note, f"{what}[{place}]")
        case _:
            check_text(value, what)


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A network that can be run: everything that answers depend on.

    weights: the full state dict (running statistics included), always dequantised, on the CPU.
    encodings: by weight name; absent means that the tensor holds floats of its own type.
    activation_ranges: by module name whose output is meant; "input" is the normalised input.
    labels: a name a class, in the order of the logits.
    `dataclasses.replace` changes a model. Weights that do not fit the spec or are floats of several types,
    and labels that do not fit its classes, are a ModelError.
    """

    spec: ResNetSpec
    weights: Mapping[str, Tensor]
    preprocessing: "Preprocessing"
    labels: tuple[str, ...]
    provenance: Provenance
    encodings: Mapping[str, Encoding] = field(default_factory=dict)
    activation_ranges: Mapping[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_state(self.spec, {name: tuple(tensor.shape) for name, tensor in self.weights.items()})
        types = {tensor.dtype for tensor in self.weights.values() if tensor.is_floating_point()}
        if len(types) != 1:
            raise ModelError(f"the weights are of several types: {', '.join(sorted(map(str, types)))}")
        if len(self.labels) != self.spec.num_classes:
            raise ModelError(f"{len(self.labels)} labels for a network of {self.spec.num_classes} classes")
        if self.preprocessing.channels != self.spec.in_channels:
            raise ModelError(
                f"preprocessing gives {self.preprocessing.channels} channels to a network "
                f"that takes {self.spec.in_channels}"
            )
        for name, encoding in self.encodings.items():
            _check_encoding(name, encoding, self.weights)

    @classmethod
    def from_module(
        cls,
        module: ResNet,
        *,
        preprocessing: "Preprocessing",
        labels: tuple[str, ...],
        provenance: Provenance,
        encodings: Mapping[str, Encoding] | None = None,
        activation_ranges: Mapping[str, Range] | None = None,
    ) -> Self:
        """A model of a network's present weights, copied."""
        weights = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in module.state_dict().items()
        }
        return cls(
            spec=module.spec,
            weights=weights,
            preprocessing=preprocessing,
            labels=labels,
            provenance=provenance,
            encodings=encodings or {},
            activation_ranges=activation_ranges or {},
        )

    def module(self) -> ResNet:
        """A network in evaluation mode with a copy of the weights."""
        with torch.device("meta"):  # no time for an initialisation that is overwritten at once
            module = ResNet(self.spec)
        module.load_state_dict({name: tensor.clone() for name, tensor in self.weights.items()}, assign=True)
        return module.eval()


def weights_sha256(model: Model) -> str:
    """A fingerprint of names, types, shapes and bytes of all weights, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(model.weights):
        tensor = model.weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_encoding(name: str, encoding: Encoding, weights: Mapping[str, Tensor]) -> None:
    if name not in weights:
        raise ModelError(f"an encoding is given for {name}, which is no weight of the network")
    encoding.check(name, tuple(weights[name].shape))
