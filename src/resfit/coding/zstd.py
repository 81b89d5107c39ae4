"""Symbols through Zstandard (RFC 8878), each as a small whole number of bytes; needs the extra compress."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from resfit.coding.codec import Array, CodingError, Shape, counts, flattened, shaped
from resfit.errors import MissingExtra

LEVEL = 19
WIDTHS = (1, 2, 4)


class Zstd:
    """A byte with the width of a symbol (1, 2 or 4 bytes, little end first), then one frame that states its size.

    A block ends after each tensor, so that the bytes of each are known. No symbols are no bytes.
    """

    def encode(self, tensors: Sequence[Array]) -> tuple[bytes, list[int]]:
        """See `Codec`; MissingExtra without the package."""
        zstandard = _zstandard()
        rows = flattened(tensors)
        total = sum(row.size for row in rows)
        if not total:
            return b"", [0] * len(rows)
        width = max(_width(row) for row in rows)
        stream = zstandard.ZstdCompressor(level=LEVEL).compressobj(size=total * width)
        data = bytearray([width])
        ends = []
        for row in rows:
            data += stream.compress(row.astype(f"<i{width}").tobytes())
            data += stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
            ends.append(len(data))
        data += stream.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)
        ends[-1] = len(data)
        return bytes(data), ends

    def decode(self, data: bytes, shapes: Sequence[Shape], *, max_symbols: int) -> list[Array]:
        """See `Codec`; MissingExtra without the package."""
        zstandard = _zstandard()
        sizes = counts(shapes, max_symbols=max_symbols)
        if not sum(sizes):
            if data:
                raise CodingError(f"{len(data)} bytes follow the end of the coded data")
            return shaped([np.zeros(0, np.int32)] * len(sizes), shapes)
        if not data or data[0] not in WIDTHS:
            raise CodingError("the coded data does not begin with the width of a symbol: 1, 2 or 4")
        content = _decompressed(zstandard, data[1:], sum(sizes) * data[0])
        rows = np.split(np.frombuffer(content, f"<i{data[0]}"), np.cumsum(sizes)[:-1])
        return shaped(rows, shapes)


def _width(row: Array) -> int:
    """Bytes a symbol of a row needs."""
    if not row.size:
        return 1
    return next(width for width in WIDTHS if -(2 ** (8 * width - 1)) <= row.min() and row.max() < 2 ** (8 * width - 1))


def _decompressed(zstandard: Any, frame: bytes, length: int) -> bytes:
    """The content of a frame; its stated size is compared before memory is taken."""
    try:
        stated = zstandard.get_frame_parameters(frame).content_size
        if stated != length:
            raise CodingError(f"the coded data says that it holds {stated:,} bytes of symbols, expected {length:,}")
        content = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CodingError(f"the coded data is not a whole Zstandard frame: {error}") from error
    if len(content) != length:
        raise CodingError(f"the coded data holds {len(content):,} bytes of symbols, expected {length:,}")
    return bytes(content)


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise MissingExtra("zstandard", extra="compress", purpose="the codec zstd") from None
    return zstandard
