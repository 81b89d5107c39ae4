"""Symbols in fixed-width fields: as many bits for each as the widest of its tensor needs, or one."""

from collections.abc import Sequence

import numpy as np

from resfit.coding.codec import Array, CodingError, Reader, Shape, counts, flattened, shaped, signed_bytes

MAX_WIDTH = 32
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
        return np.zeros(0, np.int64)
    least, width = reader.signed(), reader.take(1)[0]
    if width > MAX_WIDTH:
        raise CodingError(f"the coded data has fields of {width} bits, expected at most {MAX_WIDTH}")
    return unpacked(reader.take((size * width + 7) // 8), size, width) + least


def packed(numbers: Array, width: int) -> bytes:
    """Numbers from 0 as fields of `width` bits, the highest bit of a field and of a byte first, zeros at the end."""
    shifts = np.arange(width - 1, -1, -1)
    return np.packbits((numbers[:, None] >> shifts & 1).astype(np.uint8)).tobytes()


def unpacked(data: bytes, size: int, width: int) -> Array:
    """What `packed` wrote, int64; CodingError where the bits after the last field are not zero."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    if bits[size * width :].any():
        raise CodingError("the bits after the last symbol of a tensor are not zero")
    fields = bits[: size * width].reshape(size, width)
    numbers = np.zeros(size, np.int64)
    for column in range(width):
        numbers = numbers << 1 | fields[:, column]
    return numbers
