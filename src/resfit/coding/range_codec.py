"""The range codec: every symbol through the adaptive model and the range coder, learning from tensor to tensor."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from resfit.coding.codec import BEYOND, Array, CodingError, Shape, counts, flattened, shaped

CHUNK = 4096  # symbols at a time
MOST_BYTES = 4 * 80  # of a symbol: it has at most 67 bits, and a bit takes at most 4 bytes
HIGH = 0xFFFFFFFF


class Range:
    """One stream over all tensors, each begun by the symbol that is its zero; see docs/coding.md.

    The model and coder are compiled at first use where numba is installed (seconds, kept for later processes), and
    run as plain Python, slowly, where it is not: the bytes are the same. What `decode` accepts is what an encoder
    may write for the symbols that it returns; but damage may make the bytes those of other symbols, which only a
    checksum around them finds.
    """

    def encode(self, tensors: Sequence[Array]) -> tuple[bytes, list[int]]:
        """See `Codec`."""
        stream = _Stream([0, HIGH, 0, 0, 0], bytes((CHUNK + 1) * MOST_BYTES))
        data = bytearray()
        ends = []
        for values, tensor in zip(flattened(tensors), tensors, strict=True):
            if values.size:
                for _ in stream.tensor(values.astype(np.int32), np.shape(tensor), center=_center(values)):
                    data += bytes(stream.data[: stream.position])
                    stream.position = 0
            ends.append(len(data))
        return _ended(bytes(data) + stream.last(), ends)

    def decode(self, data: bytes, shapes: Sequence[Shape], *, max_symbols: int) -> list[Array]:
        """See `Codec`."""
        sizes = counts(shapes, max_symbols=max_symbols)
        first = int.from_bytes((data + b"\xff" * 4)[:4], "big")
        stream = _Stream([0, HIGH, first, 0, 1], data)
        rows = []
        for size, shape in zip(sizes, shapes, strict=True):
            if size:
                for _ in stream.tensor(np.zeros(size, np.int32), shape, center=0):
                    pass
            rows.append(stream.decoded() if size else np.zeros(0, np.int32))
        read = stream.position
        if (data[:read] + b"\xff" * (read - len(data)) + stream.last()).rstrip(b"\xff") != data:
            raise CodingError("the coded data does not end where its symbols do")
        return shaped(rows, shapes)


class _Stream:
    """The model at work on one stream."""

    def __init__(self, coder: list[int], data: bytes):
        from resfit.coding import compiled, context_mixing, expectation, range_coder  # numba is imported here

        self._rows, self._mixing, self._expectation, self._coder = compiled, context_mixing, expectation, range_coder
        self.data = compiled.byte_row(data)
        self.model = context_mixing.new_model(coder)
        self.symbols: Any = None

    def tensor(self, values: Array, shape: Shape, *, center: int) -> Iterator[int]:
        """Code a tensor of int32; yields where it stands after each chunk.

        CodingError for a symbol beyond 32 bits. Takes 6 bytes a symbol (2 besides the values) and 8 an input.
        """
        learnt = self.model.expectation
        self._expectation.begin(learnt, kind=int(len(shape) < 2))
        geometry = _geometry(values.size, shape)
        self.symbols = self._rows.narrow_row(values, np.int32)
        kept = self._rows.narrow_row(np.zeros(values.size, np.int16), np.int16)
        columns = self._rows.constant_row(learnt.now[self._expectation.WHOLE], geometry[0])
        center = self._mixing.code_center(self.model, self.data, center)
        for start in range(0, values.size, CHUNK):
            stop = min(start + CHUNK, values.size)
            rows = (self.symbols, kept, columns)
            if self._mixing.code_symbols(self.model, self.data, *rows, geometry, center, start, stop) < stop:
                raise CodingError(BEYOND)
            yield stop
        self._expectation.finish(learnt)

    def decoded(self) -> Array:
        """The symbols of the last tensor."""
        return np.asarray(self.symbols)

    @property
    def position(self) -> int:
        """Bytes written since it was last set, or read."""
        return int(self.model.mixing.coder[self._coder.POSITION])

    @position.setter
    def position(self, position: int) -> None:
        self.model.mixing.coder[self._coder.POSITION] = position

    def last(self) -> bytes:
        """The byte that ends the stream: the first of the low bound, none where no bit was coded since."""
        low, high = (int(self.model.mixing.coder[end]) for end in (self._coder.LOW, self._coder.HIGH))
        return b"" if (low, high) == (0, HIGH) else bytes([low >> 24])


def _geometry(size: int, shape: Shape) -> tuple[int, int, int]:
    """Inputs, places of a kernel and its width, of a tensor with symbols."""
    if len(shape) < 2:
        return size, 1, 1
    return shape[1], math.prod(shape[2:]), shape[-1] if len(shape) > 2 else 1


def _center(values: Array) -> int:
    """Zero, or the median where that makes the symbols clearly smaller. Any choice decodes."""
    median = int(np.sort(values)[len(values) // 2])
    return median if 4 * int(np.abs(values - median).sum()) < 3 * int(np.abs(values).sum()) else 0


def _ended(data: bytes, ends: list[int]) -> tuple[bytes, list[int]]:
    """Without the 0xff bytes at the end, which a reader takes for granted."""
    data = data.rstrip(b"\xff")
    return data, [min(end, len(data)) for end in ends[:-1]] + ([len(data)] if ends else [])
