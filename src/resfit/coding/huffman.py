"""Canonical Huffman codes of at most 20 bits, one a tensor or the one before again, whichever is shorter.

The lengths are the best ones under the limit, by package-merge (Larmore and Hirschberg, 1990).
"""

from collections.abc import Sequence

import numpy as np

from resfit.coding.alphabet import alphabet_bytes, alphabet_of, read_alphabet
from resfit.coding.codec import Array, CodingError, Reader, Shape, counts, flattened, shaped

LONGEST = 20
QUICK_BITS = 10  # looked up at once when reading
Table = tuple[Array, Array]  # symbols, rising, and the length of each one's code in bits


class Huffman:
    """Each tensor is a code table (or a zero byte: the table before it), then the codes, filled up to a byte."""

    def encode(self, tensors: Sequence[Array]) -> tuple[bytes, list[int]]:
        """See `Codec`; CodingError for more than 65,536 distinct symbols in a tensor."""
        data = bytearray()
        ends = []
        table: Table | None = None
        for row in flattened(tensors):
            if row.size:
                header, table = _cheapest(row, table)
                data += header + _codes(row, table)
            ends.append(len(data))
        return bytes(data), ends

    def decode(self, data: bytes, shapes: Sequence[Shape], *, max_symbols: int) -> list[Array]:
        """See `Codec`."""
        reader = Reader(data)
        rows = []
        table: Table | None = None
        for size in counts(shapes, max_symbols=max_symbols):
            if size:
                table = _read_table(reader, table)
            rows.append(_read_codes(reader, table, size) if table is not None and size else np.zeros(0, np.int32))
        reader.finish()
        return shaped(rows, shapes)


def _cheapest(row: Array, before: Table | None) -> tuple[bytes, Table]:
    """The header and table that store a tensor in fewest bytes."""
    alphabet = alphabet_of(row)
    frequencies = np.bincount(np.searchsorted(alphabet, row), minlength=len(alphabet))
    lengths = code_lengths(frequencies, limit=LONGEST)
    header = alphabet_bytes(alphabet) + lengths.astype(np.uint8).tobytes()
    if before is not None and np.isin(alphabet, before[0]).all():
        old_lengths = before[1][np.searchsorted(before[0], alphabet)]
        if int(frequencies @ old_lengths) <= int(frequencies @ lengths) + 8 * len(header):
            return b"\0", before
    return header, (alphabet, lengths)


def code_lengths(frequencies: Array, *, limit: int) -> Array:
    """Bits of each symbol's code, together the fewest with none above `limit`; a lone symbol has none.

    frequencies: from 1; at most 2 to the power `limit` of them.
    """
    count = len(frequencies)
    if count == 1:
        return np.zeros(1, np.int64)
    order = np.argsort(frequencies, kind="stable")
    single = frequencies[order]
    merged = single
    origins = []  # of each level: for an item from small to large, whether it is a symbol
    for _ in range(limit - 1):
        pairs = merged[: len(merged) // 2 * 2].reshape(-1, 2).sum(axis=1)
        both = np.concatenate([single, pairs])
        rank = np.argsort(both, kind="stable")
        origins.append(rank < count)
        merged = both[rank]
    lengths = np.zeros(count, np.int64)
    taken = 2 * count - 2
    for is_symbol in reversed(origins):
        symbols = int(is_symbol[:taken].sum())
        lengths[:symbols] += 1
        taken = 2 * (taken - symbols)
    lengths[:taken] += 1
    return lengths[np.argsort(order, kind="stable")]


def _canonical(lengths: Array) -> Array:
    """The codes of the lengths: counted upwards through shorter codes first, symbols in order within a length."""
    codes = np.zeros(len(lengths), np.int64)
    code = 0
    for length in range(1, LONGEST + 1):
        members = np.flatnonzero(lengths == length)
        codes[members] = code + np.arange(len(members))
        code = (code + len(members)) << 1
    return codes


def _codes(row: Array, table: Table) -> bytes:
    """The codes of a tensor's symbols, highest bit first."""
    alphabet, lengths = table
    places = np.searchsorted(alphabet, row)
    widths, codes = lengths[places], _canonical(lengths)[places]
    ends = np.cumsum(widths)
    bits = np.zeros(int(ends[-1]), np.uint8)
    for bit in range(int(lengths.max())):  # bit places of each code, from its last
        has = widths > bit
        bits[ends[has] - 1 - bit] = codes[has] >> bit & 1
    return np.packbits(bits).tobytes()


def _read_table(reader: Reader, before: Table | None) -> Table:
    size = reader.number()
    if size == 0:
        if before is None:
            raise CodingError("the coded data refers to a code table before the first one")
        return before
    alphabet = read_alphabet(reader, size)
    lengths = np.frombuffer(reader.take(size), np.uint8).astype(np.int64)
    lone = size == 1 and lengths[0] == 0
    if not lone and (lengths.min() < 1 or lengths.max() > LONGEST or (1 << LONGEST >> lengths).sum() != 1 << LONGEST):
        raise CodingError("the lengths of a Huffman code do not fit together")
    return alphabet, lengths


def _read_codes(reader: Reader, table: Table, size: int) -> Array:
    """`size` symbols, int32; the reader then stands behind their last byte."""
    alphabet, lengths = table
    if not lengths.any():
        return np.full(size, alphabet[0])
    order = np.lexsort((alphabet, lengths))
    symbols = alphabet[order].tolist()
    amounts = np.bincount(lengths, minlength=LONGEST + 1).tolist()
    quick = _quick(symbols, lengths[order])
    data, start = reader.data, reader.position
    out = np.zeros(size, np.int32)
    held, bits, position = 0, 0, start
    for place in range(size):
        while bits < LONGEST:  # zeros are read past the end, and found to be missing below
            held = (held << 8 | (data[position] if position < len(data) else 0)) & 0xFFFFFFFF
            position += 1
            bits += 8
        step, symbol = quick[held >> (bits - QUICK_BITS) & ((1 << QUICK_BITS) - 1)]
        if step == 0:
            step, symbol = _long(held >> (bits - LONGEST) & ((1 << LONGEST) - 1), symbols, amounts)
        out[place] = symbol
        bits -= step
    used = 8 * (position - start) - bits
    last = reader.take((used + 7) // 8)
    if last[-1] & ((1 << (-used % 8)) - 1):
        raise CodingError("the bits after the last code of a tensor are not zero")
    return out


def _quick(symbols: list[int], lengths: Array) -> list[tuple[int, int]]:
    """For each QUICK_BITS that may come: the length of the code they begin with and its symbol, or 0 for a longer one.

    symbols and their lengths are in the order of their codes.
    """
    short = [int(length) for length in lengths if length <= QUICK_BITS]
    table = [
        (length, symbol)
        for length, symbol in zip(short, symbols, strict=False)
        for _ in range(1 << (QUICK_BITS - length))
    ]
    return table + [(0, 0)] * ((1 << QUICK_BITS) - len(table))


def _long(window: int, symbols: list[int], amounts: list[int]) -> tuple[int, int]:
    """The length and symbol of the code that LONGEST bits begin with."""
    first = place = 0  # the first code of a length, and how many symbols have shorter ones
    for length in range(1, LONGEST + 1):
        ahead = (window >> (LONGEST - length)) - first
        if ahead < amounts[length]:
            return length, symbols[place + ahead]
        place += amounts[length]
        first = (first + amounts[length]) << 1
    raise CodingError("the lengths of a Huffman code do not fit together")
