"""Which values a weight tensor may hold, so that a file can store it as symbols; without torch.

An encoding maps symbols (whole numbers) to float32 values and back. Weights in a `Model` are always the values.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from resfit.errors import ModelError

Array = np.ndarray
CHUNK = 65_536  # numbers at a time, where more would take more memory than the values themselves


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Integers of `bits` bits times a scale: symmetric, no zero point.

    axis: the dimension along which each slice has its own scale; None for one scale of the whole tensor.
    scales: float32, positive, one value a slice (or one in all).
    """

    bits: int
    axis: int | None
    scales: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", np.atleast_1d(np.asarray(self.scales, np.float32)))
        if not 2 <= self.bits <= 16:
            raise ModelError(f"an encoding has {self.bits} bits, expected 2 to 16")
        if self.scales.ndim != 1 or not np.all(np.isfinite(self.scales) & (self.scales > 0)):
            raise ModelError("the scales of an encoding must be one row of positive finite numbers")
        if self.axis is None and len(self.scales) != 1:
            raise ModelError(f"an encoding without an axis has {len(self.scales)} scales, expected one")

    @property
    def limit(self) -> int:
        """The greatest symbol; the least is its negative."""
        return int(2 ** (self.bits - 1) - 1)

    def symbols(self, values: Array) -> Array:
        """The nearest symbols, int32 of the same shape."""
        steps = np.rint(np.asarray(values, np.float64) / self._spread(values.ndim))
        return np.clip(steps, -self.limit, self.limit).astype(np.int32)

    def values(self, symbols: Array) -> Array:
        """One float32 product a symbol, the same on every machine."""
        values = np.array(symbols, np.float32)
        values *= self._spread(symbols.ndim)  # in place: a file may hold one tensor as large as memory allows
        return values

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """ModelError unless this can encode a tensor of the shape."""
        if self.axis is None:
            return
        if not 0 <= self.axis < len(shape) or len(self.scales) != shape[self.axis]:
            raise ModelError(
                f"the encoding of {name} has {len(self.scales)} scales along axis {self.axis} of the shape {shape}"
            )

    def _spread(self, dimensions: int) -> Array:
        """The scales so that they multiply along their axis."""
        shape = [1] * dimensions
        if self.axis is not None:
            shape[self.axis] = -1
        return self.scales.reshape(shape)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Grid)
            and (self.bits, self.axis) == (other.bits, other.axis)
            and np.array_equal(self.scales, other.scales)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True, eq=False)
class Codebook:
    """A few shared values: a symbol is the index of one. centers: float32, finite, rising."""

    centers: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "centers", np.atleast_1d(np.asarray(self.centers, np.float32)))
        rising = self.centers.ndim == 1 and np.all(np.isfinite(self.centers)) and np.all(np.diff(self.centers) > 0)
        if not (rising and 1 <= len(self.centers) <= 65536):
            raise ModelError("the centers of a codebook must be 1 to 65,536 finite numbers, each above the last")

    def symbols(self, values: Array) -> Array:
        """The index of the nearest center, int32 of the same shape."""
        middles = (self.centers[1:].astype(np.float64) + self.centers[:-1]) / 2
        return np.searchsorted(middles, np.asarray(values, np.float64)).astype(np.int32)

    def values(self, symbols: Array) -> Array:
        """The centers that the symbols name."""
        flat = np.ravel(symbols)
        values = np.empty(flat.size, np.float32)
        for start in range(0, flat.size, CHUNK):  # numpy makes 8 bytes of each index
            values[start : start + CHUNK] = self.centers[flat[start : start + CHUNK]]
        return values.reshape(np.shape(symbols))

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """A codebook encodes a tensor of any shape."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codebook) and np.array_equal(self.centers, other.centers)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class Float:
    """Floats of 16 bits: IEEE half precision, or bfloat16. A symbol is the bit pattern."""

    kind: Literal["fp16", "bf16"]

    def __post_init__(self) -> None:
        if self.kind not in ("fp16", "bf16"):
            raise ModelError(f"an encoding holds {self.kind!r}, expected fp16 or bf16")

    def symbols(self, values: Array) -> Array:
        """Bit patterns of the nearest floats (ties to even), int32; ModelError where half precision overflows."""
        values = np.ascontiguousarray(values, np.float32)
        if self.kind == "fp16":
            with np.errstate(over="ignore"):
                halves = values.astype(np.float16)
            if not np.isfinite(halves).all():
                raise ModelError("fp16 holds numbers up to 65,504, and a weight is beyond", hint="use bf16")
            return halves.view(np.uint16).astype(np.int32)
        bits = values.view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.int32)

    def values(self, symbols: Array) -> Array:
        """The floats of the bit patterns, as float32."""
        patterns = np.asarray(symbols)
        if self.kind == "fp16":
            return patterns.astype(np.uint16).view(np.float16).astype(np.float32)
        bits = patterns.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Floats encode a tensor of any shape."""


Encoding = Grid | Codebook | Float


def nearest_values(encoding: Encoding, values: Array) -> Array:
    """The values nearest to these that the encoding has, float32 of the same shape."""
    return encoding.values(encoding.symbols(values))


def holds(encoding: Encoding, values: Array) -> bool:
    """Whether every value is one that the encoding has, so that its symbols store the tensor without loss."""
    return bool(np.array_equal(nearest_values(encoding, values), np.asarray(values, np.float32)))
