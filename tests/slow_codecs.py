"""A second decoder of every codec, written from docs/coding.md alone, in plain Python: see slow_reader.py."""

import math
from collections import deque
from collections.abc import Callable

from slow_range_decoder import decode_range

Shape = tuple[int, ...]
LEAST, GREATEST = -(2**31), 2**31 - 1


class Bytes:
    """Bytes and bits from the front; ValueError past the end."""

    def __init__(self, data: bytes):
        self.data, self.at, self.bit = data, 0, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ValueError("the end came too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self, longest: int = 9) -> int:
        value = 0
        for index in range(longest):
            byte = self.byte()
            value += (byte % 128) << (7 * index)
            if byte < 128:
                if byte == 0 and index > 0:
                    raise ValueError("a number that is not in its shortest form")
                return value
        raise ValueError("a number that is too long")

    def bits(self, count: int) -> int:
        """The next bits, the highest of a byte first."""
        value = 0
        for _ in range(count):
            if self.bit == 0:
                self.byte()
            value = value * 2 + (self.data[self.at - 1] >> (7 - self.bit)) % 2
            self.bit = (self.bit + 1) % 8
        return value

    def align(self) -> None:
        """The bits left of a byte, which must be zero."""
        while self.bit:
            if self.bits(1):
                raise ValueError("bits after the last one that means something")

    def finish(self) -> None:
        if self.at != len(self.data):
            raise ValueError("bytes after the end")


def signed(number: int) -> int:
    """0, 1, 2, 3, .. are 0, -1, 1, -2, .."""
    return number // 2 if number % 2 == 0 else -(number + 1) // 2


def decode_raw(data: bytes, shapes: list[Shape]) -> list[list[int]]:
    stream, arrays = Bytes(data), []
    for size in map(math.prod, shapes):
        array: list[int] = []
        if size:
            least, width = signed(stream.varint(5)), stream.byte()
            if width > 32:
                raise ValueError("fields of more than 32 bits")
            array = [least + stream.bits(width) for _ in range(size)]
            stream.align()
        arrays.append(checked(array))
    stream.finish()
    return arrays


def read_alphabet(stream: Bytes, size: int) -> list[int]:
    if not 1 <= size <= 65536:
        raise ValueError("an alphabet of another size")
    alphabet = [signed(stream.varint(5))]
    while len(alphabet) < size:
        alphabet.append(alphabet[-1] + 1 + stream.varint(5))
    return checked(alphabet)


def decode_huffman(data: bytes, shapes: list[Shape]) -> list[list[int]]:
    stream, arrays, codes = Bytes(data), [], None
    for size in map(math.prod, shapes):
        array: list[int] = []
        if size:
            count = stream.varint(5)
            if count:
                alphabet = read_alphabet(stream, count)
                codes = canonical(alphabet, list(stream.take(count)))
            if codes is None:
                raise ValueError("a table before the first one")
            for _ in range(size):
                length = code = 0
                while (length, code) not in codes:
                    code = code * 2 + stream.bits(1)
                    length += 1
                array.append(codes[length, code])
            stream.align()
        arrays.append(array)
    stream.finish()
    return arrays


def canonical(alphabet: list[int], lengths: list[int]) -> dict[tuple[int, int], int]:
    """The symbol of every (length, code)."""
    if len(alphabet) == 1 and lengths == [0]:
        return {(0, 0): alphabet[0]}
    if min(lengths) < 1 or max(lengths) > 20 or sum(2 ** (20 - length) for length in lengths) != 2**20:
        raise ValueError("lengths that do not fit together")
    codes, code = {}, 0
    for length in range(1, 21):
        for symbol, own in zip(alphabet, lengths, strict=True):
            if own == length:
                codes[length, code] = symbol
                code += 1
        code *= 2
    return codes


def decode_lzw(data: bytes, shapes: list[Shape]) -> list[list[int]]:
    stream, sizes = Bytes(data), [math.prod(shape) for shape in shapes]
    out: list[int] = []
    if sum(sizes):
        alphabet = read_alphabet(stream, stream.varint(5))
        phrases = [[symbol] for symbol in alphabet]
        before: list[int] | None = None
        count = 0
        while len(out) < sum(sizes):
            grown = min(count, 2**18)
            code = stream.bits((len(alphabet) - 1 + grown).bit_length())
            if before is not None and len(phrases) < len(alphabet) + 2**18:
                known = phrases[code][0] if code < len(phrases) else before[0]
                phrases.append([*before, known])
            if code >= len(phrases):
                raise ValueError("a phrase that is not known yet")
            before = phrases[code]
            out += before
            count += 1
        if len(out) > sum(sizes):
            raise ValueError("more symbols than the shapes have")
        stream.align()
    stream.finish()
    remaining = deque(out)
    return [[remaining.popleft() for _ in range(size)] for size in sizes]


def decode_zstd(data: bytes, shapes: list[Shape]) -> list[list[int]]:
    """The frame itself is left to the library: RFC 8878 has educational decoders of its own."""
    import zstandard

    sizes = [math.prod(shape) for shape in shapes]
    if not sum(sizes):
        Bytes(data).finish()
        return [[] for _ in sizes]
    width = data[0]
    if width not in (1, 2, 4):
        raise ValueError("a width that no symbol has")
    content = Bytes(zstandard.ZstdDecompressor().decompress(data[1:], allow_extra_data=False))
    arrays = [[int.from_bytes(content.take(width), "little", signed=True) for _ in range(size)] for size in sizes]
    content.finish()
    return arrays


def checked(array: list[int]) -> list[int]:
    if any(not LEAST <= number <= GREATEST for number in array):
        raise ValueError("a number beyond 32 bits")
    return array


DECODERS: dict[str, Callable[[bytes, list[Shape]], list[list[int]]]] = {
    "raw": decode_raw, "huffman": decode_huffman, "lzw": decode_lzw, "zstd": decode_zstd,
    "range": lambda data, shapes: [checked(array) for array in decode_range(data, shapes)],
}  # fmt: skip
