"""Tensors of a `.resfit` file as the whole numbers that its streams code, and back. docs/container.md gives the maps.

Symbols of an encoding become numbers around zero, which is what codecs expect. Scales and centers, which are
floats, become whole numbers by their bit patterns: without loss, and small where few mantissa bits are used.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from resfit.errors import ModelError
from resfit.model.container_directory import MAX_SHIFT, Entry
from resfit.model.encoding import Codebook, Encoding, Float, Grid

Array = np.ndarray
HALF = 0x8000  # the sign bit of a float of 16 bits
MAGNITUDE = 0x7FFFFFFF  # all bits of a float of 32 bits but its sign
INFINITE = 0x7F800000
MANTISSA_BITS = 23


def entry_of(name: str, shape: tuple[int, ...], encoding: Encoding) -> Entry:
    """What the directory says of an encoded tensor."""
    match encoding:
        case Grid():
            parts: dict[str, Any] = {"kind": "grid", "bits": encoding.bits, "axis": encoding.axis}
        case Codebook():
            parts = {"kind": "codebook", "centers": len(encoding.centers)}
        case Float():
            parts = {"kind": encoding.kind}
    return Entry(name=name, shape=shape, shift=shift_of(encoding), **parts)


def centred(encoding: Encoding, symbols: Array) -> Array:
    """Symbols as the streams hold them, int32: near zero where the value is."""
    match encoding:
        case Grid():
            return symbols
        case Codebook():
            return symbols - _below_zero(encoding)
        case Float():
            return np.where(symbols < HALF, symbols, HALF - 1 - symbols)


def symbols_of(entry: Entry, encoding: Encoding, numbers: Array) -> Array:
    """The inverse of `centred`; ModelError for a number that is no symbol of the encoding."""
    match encoding:
        case Grid():
            least, greatest = -encoding.limit, encoding.limit
        case Codebook():
            least = -_below_zero(encoding)
            greatest = least + len(encoding.centers) - 1
        case Float():
            least, greatest = -HALF, HALF - 1
    if numbers.size and not (numbers.min() >= least and numbers.max() <= greatest):
        raise ModelError(f"{entry.name} holds a number beyond {least} to {greatest}, which its encoding does not have")
    if isinstance(encoding, Float):
        patterns = numbers.astype(np.int16)
        patterns ^= patterns >> 15 & (HALF - 1)  # of a negative number all bits but the sign are the other way round
        return patterns.view(np.uint16)
    return numbers - least if isinstance(encoding, Codebook) else numbers


def _below_zero(encoding: Codebook) -> int:
    return int(np.count_nonzero(encoding.centers < 0))


def side_numbers(encoding: Encoding, *, shift: int, exponent: int) -> Array:
    """Scales or centers of an encoding as whole numbers, int32: `encoding_of` makes them again."""
    if isinstance(encoding, Grid):
        return ((_patterns(encoding.scales) - (exponent << MANTISSA_BITS)) >> shift).astype(np.int32)
    patterns = _patterns(encoding.centers) if isinstance(encoding, Codebook) else np.zeros(0, np.int64)
    magnitudes = (patterns & MAGNITUDE) >> shift
    return np.where(patterns > MAGNITUDE, -1 - magnitudes, magnitudes).astype(np.int32)


def shift_of(encoding: Encoding) -> int:
    """How many low bits are zero in all scales or centers: none of them is stored."""
    if isinstance(encoding, Float):
        return 0
    joined = int(np.bitwise_or.reduce(_patterns(encoding.scales if isinstance(encoding, Grid) else encoding.centers)))
    return min((joined & -joined).bit_length() - 1, MAX_SHIFT) if joined & MAGNITUDE else MAX_SHIFT


def least_exponent(encodings: Iterable[Encoding]) -> int:
    """The exponent bits of the least scale of all grids."""
    least = [int(_patterns(item.scales).min()) for item in encodings if isinstance(item, Grid)]
    return min(least, default=0) >> MANTISSA_BITS


def encoding_of(entry: Entry, numbers: Array, *, exponent: int) -> Encoding:
    """The encoding of an entry from its scales' or centers' whole numbers; ModelError where they are no such floats."""
    wide = numbers.astype(np.int64)
    if entry.kind == "grid":
        scales = _floats(entry, (wide << entry.shift) + (exponent << MANTISSA_BITS))
        return Grid(bits=entry.bits, axis=entry.axis, scales=scales)
    if entry.kind == "codebook":
        magnitudes = _floats(entry, np.where(wide >= 0, wide, -1 - wide) << entry.shift)
        return Codebook(centers=np.copysign(magnitudes, np.where(wide >= 0, 1, -1)).astype(np.float32))
    return Float(kind=entry.kind)  # type: ignore[arg-type]


def _patterns(values: Array) -> Array:
    return np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.int64)


def _floats(entry: Entry, magnitudes: Array) -> Array:
    """Bit patterns of floats from 0 as floats."""
    if magnitudes.size and not (magnitudes.min() >= 0 and magnitudes.max() < INFINITE):
        raise ModelError(f"a scale or center of {entry.name} is no finite float")
    return magnitudes.astype(np.uint32).view(np.float32)
