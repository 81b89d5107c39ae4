"""What an artifact says about itself, whatever its format; without torch."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from resfit.data.preprocessing import Preprocessing
from resfit.errors import EngineError, ModelError, UsageError, nearest
from resfit.nn.spec import ResNetSpec
from resfit.texts import labels_of

DAMAGED = "it was cut short or changed: copy it again, or export the model anew"

Input = Literal["pixels", "normalised"]
Output = Literal["logits", "probabilities"]


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """labels by output index; precision fp32 or int8; converted_layers: convolutions and classifiers in int8.

    input: what the network reads: pixels (uint8, N x height x width x channels, normalised inside) or normalised
    (float32, N x channels x height x width). output: logits or probabilities, float32 (N, classes).
    Files written before there was a choice carry neither of the two, and mean the first of each.
    """

    spec: ResNetSpec
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    precision: str
    converted_layers: int
    trained: bool
    resfit_version: str
    input: Input = "pixels"
    output: Output = "logits"

    def __post_init__(self) -> None:
        for name, kind in (("input", Input), ("output", Output)):
            if getattr(self, name) not in get_args(kind):
                raise UsageError(
                    f"{name} is {getattr(self, name)!r}", hint=nearest(str(getattr(self, name)), get_args(kind))
                )

    def to_strings(self) -> dict[str, str]:
        """One JSON text a field, compact; what has its default, here and in the spec, is left out."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
        values["spec"] = _without_defaults(self.spec)
        values["preprocessing"] = self.preprocessing.to_dict()
        return {name: json.dumps(value, separators=(",", ":")) for name, value in values.items()}

    @classmethod
    def from_strings(cls, strings: Mapping[str, str], *, source: str) -> Self:
        """What `to_strings` wrote into `source`; anything else is an EngineError that names it."""
        try:
            values: dict[str, Any] = {
                field.name: json.loads(strings[field.name])
                for field in dataclasses.fields(cls)
                if field.default is dataclasses.MISSING or field.name in strings
            }
            values["spec"] = ResNetSpec.from_dict(values["spec"])
            values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
            values["labels"] = labels_of(values["labels"])
            return cls(**values)
        except (KeyError, TypeError, ValueError, UsageError, ModelError) as error:
            raise EngineError(
                f"{source} carries no resfit metadata ({error})",
                hint="artifacts are written by: resfit export MODEL --out FILE",
            ) from error


def _without_defaults(spec: ResNetSpec) -> dict[str, Any]:
    defaults = {field.name: field.default for field in dataclasses.fields(spec)}
    return {name: value for name, value in spec.to_dict().items() if value != defaults[name]}
