"""Symbols in fixed-width fields: as many bits for each as the widest of its tensor needs, or one."""

from collections.abc import Sequence

import numpy as np

from resfit.coding.codec import (
    Array,
    CodingError,
    Reader,
    Shape,
    check_32_bits,
    counts,
    flattened,
    shaped,
    signed_bytes,
)

MAX_WIDTH = 32
CHUNK = 65_536  # fields at a time, which begin and end with a byte: their bits take a byte each
MOST_WITHOUT_FIELDS = 4096  # equal symbols; more in so few bytes would be taken for a trap by a container's reader


class Raw:
    """A tensor is its least symbol, a byte with the field width, and the fields of what each symbol exceeds it by."""

    def encode(self, tensors: Sequence[Array]) -> tuple[bytes, list[int]]:
        """See `Codec`."""
        data = bytearray()
        ends = []
        for row in flattened(tensors):
            if row.size:
                least, width = int(row.min()), int(row.max() - row.min()).bit_length()
                width = max(width, int(row.size > MOST_WITHOUT_FIELDS))
                data += signed_bytes(least) + bytes([width]) + packed(row - least, width)
            ends.append(len(data))
        return bytes(data), ends

    def decode(self, data: bytes, shapes: Sequence[Shape], *, max_symbols: int) -> list[Array]:
        """See `Codec`."""
        reader = Reader(data)
        rows = [_read(reader, size) for size in counts(shapes, max_symbols=max_symbols)]
        reader.finish()
        return shaped(rows, shapes)


def _read(reader: Reader, size: int) -> Array:
    if not size:
        return np.zeros(0, np.int32)
    least, width = reader.signed(), reader.byte()
    if width > MAX_WIDTH:
        raise CodingError(f"the coded data has fields of {width} bits, expected at most {MAX_WIDTH}")
    symbols = unpacked(reader.take((size * width + 7) // 8), size, width)
    check_32_bits(least, least + int(symbols.max()))
    symbols += np.uint32(least % 2**32)  # in place: what is negative is so modulo 2 to the 32
    return symbols.view(np.int32)


def packed(numbers: Array, width: int) -> bytes:
    """Numbers from 0 as fields of `width` bits, the highest bit of a field and of a byte first, zeros at the end."""
    fields = np.zeros((numbers.size, width), np.uint8)
    for column in range(width):
        fields[:, column] = numbers >> (width - 1 - column) & 1
    return np.packbits(fields).tobytes()


def unpacked(data: bytes, size: int, width: int) -> Array:
    """What `packed` wrote, uint32; CodingError where the bits after the last field are not zero."""
    stored = np.frombuffer(data, np.uint8)
    numbers = np.zeros(size, np.uint32)
    for start in range(0, size, CHUNK):
        part = numbers[start : start + CHUNK]
        first = start * width // 8
        bits = np.unpackbits(stored[first : first + (part.size * width + 7) // 8])
        if bits[part.size * width :].any():
            raise CodingError("the bits after the last symbol of a tensor are not zero")
        for column in bits[: part.size * width].reshape(part.size, width).T:
            part <<= 1
            part |= column
    return numbers
