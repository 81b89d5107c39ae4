"""What every codec does: tensors of whole numbers to bytes and back, without loss; and the checks they share.

A codec knows nothing but the numbers and the shapes. Shapes are not stored: the reader states them. Bytes are hostile
until decoded: wrong ones end as a CodingError, never in a crash, a hang or memory beyond what the shapes promise.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from resfit.errors import ModelError

Array = np.ndarray
Shape = tuple[int, ...]

LEAST, GREATEST = -(2**31), 2**31 - 1
MAX_DIMENSIONS = 32
LONGEST_NUMBER_BYTES = 5  # of a number in groups of seven bits


class CodingError(ModelError):
    """Bytes that no encoder wrote, or symbols that a codec cannot store."""

    code = "coding"


class Codec(Protocol):
    """Symbols to bytes and back."""

    def encode(self, tensors: Sequence[Array]) -> tuple[bytes, list[int]]:
        """The bytes of integer tensors of any shape, values within int32, and how many bytes were complete after each.

        The last count is the length of the whole. CodingError where a tensor holds no whole numbers within int32.
        """

    def decode(self, data: bytes, shapes: Sequence[Shape], *, max_symbols: int) -> list[Array]:
        """The int32 tensors of the shapes.

        CodingError where no encoder wrote the bytes for these shapes, or where the shapes hold more than
        `max_symbols` numbers, which is found before memory is taken. Damage that makes the bytes those of other
        symbols is for a checksum around them to find.
        """


def flattened(tensors: Sequence[Array]) -> list[Array]:
    """Each tensor as one row of int64; CodingError unless it holds whole numbers within int32."""
    return [_flat(np.asarray(tensor), position) for position, tensor in enumerate(tensors)]


def _flat(tensor: Array, position: int) -> Array:
    if not np.issubdtype(tensor.dtype, np.integer):
        raise CodingError(f"tensor {position} holds {tensor.dtype}, expected whole numbers")
    if tensor.size and not (tensor.min() >= LEAST and tensor.max() <= GREATEST):
        raise CodingError(f"tensor {position} holds numbers beyond 32 bits")
    return tensor.astype(np.int64).ravel()


def counts(shapes: Sequence[Shape], *, max_symbols: int) -> list[int]:
    """How many symbols each shape holds; CodingError for shapes that are none, or hold more than `max_symbols`."""
    for shape in shapes:
        if len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape):
            raise CodingError(f"{shape} is not the shape of a tensor")
    sizes = [math.prod(shape) for shape in shapes]
    if sum(sizes) > max_symbols:
        raise CodingError(f"the tensors hold {sum(sizes):,} symbols, expected at most {max_symbols:,}")
    return sizes


def shaped(rows: Sequence[Array], shapes: Sequence[Shape]) -> list[Array]:
    """The decoded rows as int32 tensors of the shapes; CodingError for a symbol beyond 32 bits."""
    for row in rows:
        if row.size and not (row.min() >= LEAST and row.max() <= GREATEST):
            raise CodingError("the coded data holds a symbol beyond 32 bits")
    return [row.astype(np.int32).reshape(shape) for row, shape in zip(rows, shapes, strict=True)]


def number_bytes(number: int) -> bytes:
    """A whole number from 0 in groups of seven bits, the lowest first; all but the last byte have their top bit set."""
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def signed_bytes(number: int) -> bytes:
    """A number of either sign: 0, -1, 1, -2, .. are written as 0, 1, 2, 3, .."""
    return number_bytes(2 * number if number >= 0 else -2 * number - 1)


class Reader:
    """Bytes read from the front; CodingError past the end."""

    def __init__(self, data: bytes):
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > len(self.data) - self.position:
            raise CodingError(f"the coded data ends at byte {len(self.data)}, before all symbols were read")
        self.position += count
        return self.data[self.position - count : self.position]

    def number(self) -> int:
        """What `number_bytes` wrote, in its shortest form and below 2 to the 33."""
        number = 0
        for group in range(LONGEST_NUMBER_BYTES):
            byte = self.take(1)[0]
            number |= (byte & 127) << (7 * group)
            if byte < 128:
                if (byte == 0 and group > 0) or number >= 2**33:
                    break
                return number
        raise CodingError(f"the number that ends at byte {self.position} of the coded data is malformed")

    def signed(self) -> int:
        """What `signed_bytes` wrote."""
        number = self.number()
        return number // 2 if number % 2 == 0 else -(number + 1) // 2

    def finish(self) -> None:
        """CodingError if bytes are left."""
        left = len(self.data) - self.position
        if left:
            raise CodingError(f"{left} bytes follow the end of the coded data")
