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
BEYOND = "the coded data holds a symbol beyond 32 bits"
MAX_DIMENSIONS = 32
NUMBER_BITS = 33  # of a number in coded data, which may be a signed one of 32 bits


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
    """The decoded rows, of 32 bits or fewer, as int32 tensors of the shapes: a row that is int32 is not copied."""
    return [row.astype(np.int32, copy=False).reshape(shape) for row, shape in zip(rows, shapes, strict=True)]


def check_32_bits(least: int, greatest: int) -> None:
    """CodingError for decoded symbols beyond, which is found before they are made int32."""
    if least < LEAST or greatest > GREATEST:
        raise CodingError(BEYOND)


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
    """Bytes that are not trusted, read from the front; CodingError, which says what they are, past their end."""

    def __init__(self, data: bytes, what: str = "coded data"):
        self.data, self.what, self.position = data, what, 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > len(self.data) - self.position:
            raise CodingError(f"the {self.what} ends too early, at byte {len(self.data):,}")
        self.position += count
        return self.data[self.position - count : self.position]

    def byte(self) -> int:
        """The next byte as a number."""
        return self.take(1)[0]

    def number(self, *, bits: int = NUMBER_BITS) -> int:
        """What `number_bytes` wrote, in its shortest form and below 2 to the `bits`."""
        number = 0
        for shift in range(0, bits, 7):
            byte = self.byte()
            number |= (byte & 127) << shift
            if byte < 128:
                if (byte == 0 and shift > 0) or number >> bits:
                    break
                return number
        raise CodingError(
            f"the number that ends at byte {self.position:,} of the {self.what} is malformed: "
            f"it is not in its shortest form, or not below 2^{bits}"
        )

    def signed(self) -> int:
        """What `signed_bytes` wrote."""
        number = self.number()
        return number // 2 if number % 2 == 0 else -(number + 1) // 2

    def line(self) -> bytes:
        """The bytes before the next line feed, which is passed over."""
        end = self.data.find(b"\n", self.position)
        if end < 0:
            end = len(self.data)  # one byte more than there is
        return self.take(end + 1 - self.position)[:-1]

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self.data) - self.position)

    def finish(self) -> None:
        """CodingError if bytes are left."""
        if left := len(self.rest()):
            raise CodingError(f"{left:,} bytes follow the end of the {self.what}")
