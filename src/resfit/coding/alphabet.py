"""The distinct symbols of a stream, as codecs with a table store them: each rising step as a number."""

import numpy as np

from resfit.coding.codec import Array, CodingError, Reader, check_32_bits, number_bytes, signed_bytes

LARGEST = 65536  # distinct symbols


def alphabet_of(symbols: Array) -> Array:
    """The distinct symbols, rising; CodingError for more than LARGEST, which no 16-bit encoding has."""
    alphabet = np.unique(symbols)
    if len(alphabet) > LARGEST:
        raise CodingError(
            f"the tensors hold {len(alphabet):,} distinct symbols, expected at most {LARGEST:,}",
            hint="store them with the codec raw, zstd or range",
        )
    return alphabet


def alphabet_bytes(alphabet: Array) -> bytes:
    """How many there are, the first, and each following one's distance from the one before, less one."""
    steps = b"".join(number_bytes(int(step) - 1) for step in np.diff(alphabet))
    return number_bytes(len(alphabet)) + signed_bytes(int(alphabet[0])) + steps


def read_alphabet(reader: Reader, size: int) -> Array:
    """`size` distinct symbols after their number was read, int32; CodingError beyond LARGEST or 32 bits."""
    if not 1 <= size <= LARGEST:
        raise CodingError(f"the coded data has an alphabet of {size:,} symbols, expected 1 to {LARGEST:,}")
    alphabet = [reader.signed()]
    for _ in range(size - 1):
        alphabet.append(alphabet[-1] + 1 + reader.number())
    check_32_bits(alphabet[0], alphabet[-1])
    return np.array(alphabet, np.int32)
