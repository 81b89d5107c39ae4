"""Lempel-Ziv-Welch (Welch, 1984) over the symbols themselves: phrases seen before become single codes."""

from array import array
from collections.abc import Sequence

import numpy as np

from resfit.coding.alphabet import alphabet_bytes, alphabet_of, read_alphabet
from resfit.coding.codec import Array, CodingError, Reader, Shape, counts, flattened, shaped

MOST_PHRASES = 1 << 18  # after which the dictionary stays as it is
Places = array  # of symbols in the alphabet, which has at most 2 to the 16: two bytes each


class Lzw:
    """The alphabet, then codes whose width grows with the dictionary, highest bit first; no symbols are no bytes."""

    def encode(self, tensors: Sequence[Array]) -> tuple[bytes, list[int]]:
        """See `Codec`; CodingError for more than 65,536 distinct symbols."""
        rows = flattened(tensors)
        sizes = np.array([row.size for row in rows], np.int64)
        if not sizes.sum():
            return b"", [0] * len(rows)
        symbols = np.concatenate(rows)
        alphabet = alphabet_of(symbols)
        header = alphabet_bytes(alphabet)
        codes, lasts = _phrases(np.searchsorted(alphabet, symbols).tolist(), len(alphabet))
        widths = _widths(len(codes), len(alphabet))
        bit_ends = np.cumsum(widths)
        covering = np.searchsorted(lasts, np.cumsum(sizes))  # the code that brings each tensor's last symbol
        ends = len(header) + (bit_ends[np.minimum(covering, len(codes) - 1)] + 7) // 8
        ends[np.cumsum(sizes) == 0] = 0
        return header + _packed(codes, widths, bit_ends), [int(end) for end in ends]

    def decode(self, data: bytes, shapes: Sequence[Shape], *, max_symbols: int) -> list[Array]:
        """See `Codec`."""
        sizes = counts(shapes, max_symbols=max_symbols)
        reader = Reader(data)
        total = sum(sizes)
        symbols = np.zeros(0, np.int32)
        if total:
            alphabet = read_alphabet(reader, reader.number())
            symbols = alphabet[np.frombuffer(_read_phrases(reader, len(alphabet), total), np.uint16)]
        reader.finish()
        rows = np.split(symbols, np.cumsum(sizes)[:-1]) if sizes else []
        return shaped(rows, shapes)


def _phrases(places: list[int], alphabet: int) -> tuple[list[int], Array]:
    """Codes of the longest known phrases, and how many symbols are covered after each."""
    known: dict[tuple[int, int], int] = {}
    codes, lasts = [], []
    phrase = places[0]
    for position, place in enumerate(places[1:], start=1):
        longer = known.get((phrase, place))
        if longer is not None:
            phrase = longer
            continue
        codes.append(phrase)
        lasts.append(position)
        if len(known) < MOST_PHRASES:
            known[phrase, place] = alphabet + len(known)
        phrase = place
    return [*codes, phrase], np.array([*lasts, len(places)], np.int64)


def _widths(count: int, alphabet: int) -> Array:
    """Bits of each of the codes: as many as the greatest that is possible there has."""
    greatest = alphabet - 1 + np.minimum(np.arange(count), MOST_PHRASES)
    return np.frexp(greatest.astype(np.float64))[1].astype(np.int64)  # the exponent is the length of a whole number


def _packed(codes: list[int], widths: Array, bit_ends: Array) -> bytes:
    """Codes as fields of their widths, filled up with zeros to a byte."""
    bits = np.zeros(int(bit_ends[-1]), np.uint8)
    values = np.array(codes, np.int64)
    for bit in range(int(widths.max())):  # bit places of each code, from its last
        has = widths > bit
        bits[bit_ends[has] - 1 - bit] = values[has] >> bit & 1
    return np.packbits(bits).tobytes()


def _read_phrases(reader: Reader, alphabet: int, total: int) -> Places:
    """`total` places in the alphabet; a phrase is remembered as where it first came and how long it is."""
    out = array("H")
    starts: list[int] = []
    lengths: list[int] = []
    held = held_bits = count = 0
    while len(out) < total:
        width = (alphabet - 1 + min(count, MOST_PHRASES)).bit_length()
        while held_bits < width:
            held = (held << 8 | reader.byte()) & 0xFFFFFFFF
            held_bits += 8
        held_bits -= width
        code = held >> held_bits & ((1 << width) - 1)
        if code >= alphabet + len(starts):
            raise CodingError("the coded data names a phrase that is not known yet")
        known = code - alphabet
        phrase = _phrase(out, starts[known], lengths[known]) if known >= 0 else array("H", [code])
        if len(phrase) > total - len(out):
            raise CodingError("the coded data holds more symbols than its shapes")
        if count < MOST_PHRASES:
            starts.append(len(out))
            lengths.append(len(phrase) + 1)
        out += phrase
        count += 1
    if held & ((1 << held_bits) - 1):
        raise CodingError("the bits after the last code are not zero")
    return out


def _phrase(out: Places, start: int, length: int) -> Places:
    """A phrase from its first coming; the newest one's last symbol is its own first, which is not out yet."""
    phrase = out[start : start + length]
    if len(phrase) < length:
        phrase.append(out[start])
    return phrase
