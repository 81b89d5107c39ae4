"""What an artifact says about itself, whatever its format; without torch."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from resfit.data.preprocessing import Preprocessing
from resfit.errors import EngineError, UsageError
from resfit.nn.spec import ResNetSpec


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """labels by output index; precision fp32 or int8; converted_layers: convolutions and classifiers in int8."""

    spec: ResNetSpec
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    precision: str
    converted_layers: int
    trained: bool
    resfit_version: str

    def to_strings(self) -> dict[str, str]:
        """One JSON text a field, compact; fields of the spec that have their default are left out."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["spec"] = _without_defaults(self.spec)
        values["preprocessing"] = self.preprocessing.to_dict()
        return {name: json.dumps(value, separators=(",", ":")) for name, value in values.items()}

    @classmethod
    def from_strings(cls, strings: Mapping[str, str], *, source: str) -> Self:
        """What `to_strings` wrote into `source`; anything else is an EngineError that names it."""
        try:
            values: dict[str, Any] = {field.name: json.loads(strings[field.name]) for field in dataclasses.fields(cls)}
            values["spec"] = ResNetSpec.from_dict(values["spec"])
            values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
            values["labels"] = tuple(values["labels"])
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise EngineError(
                f"{source} carries no resfit metadata ({error})",
                hint="artifacts are written by: resfit export MODEL --out FILE",
            ) from error
        return cls(**values)


def _without_defaults(spec: ResNetSpec) -> dict[str, Any]:
    defaults = {field.name: field.default for field in dataclasses.fields(spec)}
    return {name: value for name, value in spec.to_dict().items() if value != defaults[name]}
