"""What a user can spend, what was measured, and whether it holds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resfit.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class _Quantity:
    """A budgeted quantity: field of Budget and of Measurement, and name and unit in which users see it."""

    limit: str
    measured: str
    shown: str
    divisor: float = 1
    example: str

    @property
    def flag(self) -> str:
        return "--" + self.shown.replace("_", "-")


_QUANTITIES = (
    _Quantity(limit="latency_ms", measured="latency_ms", shown="latency_ms", example="--latency-ms 5"),
    _Quantity(limit="file_bytes", measured="file_bytes", shown="file_kb", divisor=1000, example="--file-kb 300"),
    _Quantity(
        limit="memory_bytes",
        measured="memory_bytes",
        shown="memory_mb",
        divisor=1e6,
        example="--memory-mb 100",
    ),
    _Quantity(limit="macs", measured="macs", shown="macs_m", divisor=1e6, example="--macs-m 50"),
    _Quantity(limit="energy_mj", measured="energy_mj", shown="energy_mj", example="--energy-mj 5"),
    _Quantity(limit="min_accuracy", measured="accuracy", shown="min_accuracy", example="--min-accuracy 0.9"),
)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured of one artifact; None is what was not measured.

    latency_ms: median of one image; file_bytes: what stat says; memory_bytes: peak resident bytes above an
    idle process; macs: multiply-accumulates an image; energy_mj: millijoules an image; accuracy: a fraction.
    basis: by field, a sentence that says how it was measured.
    """

    latency_ms: float | None = None
    file_bytes: int | None = None
    memory_bytes: int | None = None
    macs: int | None = None
    energy_mj: float | None = None
    accuracy: float | None = None
    basis: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether one budget holds; limit and measured in the unit of the flag, which the name carries.

    measured is None when the quantity was not measured; then the budget does not hold.
    """

    name: str
    limit: float
    measured: float | None
    basis: str
    holds: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "limit": self.limit,
            "measured": self.measured,
            "holds": self.holds,
            "basis": self.basis,
        }


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits a network must keep; None is unlimited. Accuracy is a fraction and a lower limit.

    A limit that no network could keep or that means nothing is a UsageError that names the flag.
    """

    latency_ms: float | None = None
    file_bytes: float | None = None
    memory_bytes: float | None = None
    macs: float | None = None
    energy_mj: float | None = None
    min_accuracy: float | None = None

    def __post_init__(self) -> None:
        for quantity in _QUANTITIES:
            value = getattr(self, quantity.limit)
            if value is not None:
                _check_limit(quantity, value)

    @classmethod
    def from_flags(
        cls,
        *,
        latency_ms: float | None = None,
        file_kb: float | None = None,
        memory_mb: float | None = None,
        macs_m: float | None = None,
        energy_mj: float | None = None,
        min_accuracy: float | None = None,
    ) -> "Budget":
        """A budget in the units of the flags: 1 kB is 1,000 bytes, 1 MB 10^6 bytes, 1 M 10^6 MACs."""
        shown = {
            "latency_ms": latency_ms,
            "file_kb": file_kb,
            "memory_mb": memory_mb,
            "macs_m": macs_m,
            "energy_mj": energy_mj,
            "min_accuracy": min_accuracy,
        }
        values = {}
        for quantity in _QUANTITIES:
            value = shown[quantity.shown]
            if value is not None:
                _check_limit(quantity, value)
                values[quantity.limit] = value * quantity.divisor
        return cls(**values)

    def limits(self) -> dict[str, float]:
        """The limits that are set, by field name, in the units of the fields."""
        found = {quantity.limit: getattr(self, quantity.limit) for quantity in _QUANTITIES}
        return {name: value for name, value in found.items() if value is not None}

    def to_flags(self) -> dict[str, float]:
        """The limits that are set, by the name and in the unit of their flags, as `from_flags` takes them."""
        limits = self.limits()
        return {
            quantity.shown: limits[quantity.limit] / quantity.divisor
            for quantity in _QUANTITIES
            if quantity.limit in limits
        }

    def check(self, measured: Measurement) -> tuple[Verdict, ...]:
        """A verdict for every limit that is set; equal to the limit holds."""
        return tuple(
            _verdict(quantity, limit, measured)
            for quantity in _QUANTITIES
            if (limit := getattr(self, quantity.limit)) is not None
        )


def _verdict(quantity: _Quantity, limit: float, measurement: Measurement) -> Verdict:
    measured = getattr(measurement, quantity.measured)
    if measured is None or not math.isfinite(measured):
        holds = False
    elif quantity.limit == "min_accuracy":
        holds = measured >= limit
    else:
        holds = measured <= limit
    return Verdict(
        name=quantity.shown,
        limit=limit / quantity.divisor,
        measured=None if measured is None else measured / quantity.divisor,
        basis=measurement.basis.get(quantity.measured, "not measured" if measured is None else ""),
        holds=holds,
    )


def _check_limit(quantity: _Quantity, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{quantity.flag} is {value!r}, expected a number", hint=f"for example {quantity.example}")
    if not math.isfinite(value) or value <= 0:
        raise UsageError(
            f"{quantity.flag} is {value:g}, expected a number above zero",
            hint=f"for example {quantity.example}; leave the flag out for no limit",
        )
    if quantity.limit == "min_accuracy" and value > 1:
        meant = f"did you mean {value / 100:g}?" if value <= 100 else f"for example {quantity.example}"
        raise UsageError(f"{quantity.flag} is {value:g}, but accuracies are fractions, at most 1", hint=meant)
