"""The outermost layer of a `.resfit` file: header, sections, checksum. docs/container.md gives every byte.

The sections follow each other without gaps, so a header has lengths and no offsets, and no two can overlap.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from resfit.coding.codec import Reader, number_bytes
from resfit.errors import ModelError
from resfit.storage import write_atomic

SUFFIX = ".resfit"
MAGIC = b"\x89resfit\n"
VERSION = 1
CODEC_NUMBERS = {"raw": 0, "huffman": 1, "lzw": 2, "zstd": 3, "range": 4}
SECTIONS = ("directory", "kernels", "vectors", "scales", "floats")
CHECKSUM_BYTES = 4
CHUNK_BYTES = 1 << 20
HEADER_LIMIT_BYTES = 128
DIRECTORY_LIMIT_BYTES = 1 << 24
VARINT_BITS = 63


@dataclass(frozen=True, kw_only=True)
class Sections:
    """What a file holds: the codec of its streams, its sections by name, and the directory's size unpacked."""

    codec: str
    contents: Mapping[str, bytes]
    directory_bytes: int

    @property
    def header(self) -> bytes:
        """Magic, version, codec and lengths."""
        lengths = [self.directory_bytes, *(len(self.contents[name]) for name in SECTIONS)]
        return MAGIC + bytes([VERSION, CODEC_NUMBERS[self.codec]]) + b"".join(map(number_bytes, lengths))

    @property
    def file_bytes(self) -> int:
        """The size of the whole file."""
        return len(self.header) + sum(map(len, self.contents.values())) + CHECKSUM_BYTES


def is_container(path: str | Path) -> bool:
    """Whether a path is a file that begins as a `.resfit` file does, or is named like one."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC or Path(path).suffix == SUFFIX
    except OSError:
        return False


def write_sections(path: Path, sections: Sections) -> None:
    """Write a file atomically."""
    parts = [sections.header, *(sections.contents[name] for name in SECTIONS)]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    write_atomic(path, b"".join([*parts, checksum.to_bytes(CHECKSUM_BYTES, "little")]))


def read_sections(path: Path) -> Sections:
    """The sections of a file whose lengths add up to its size and whose checksum agrees; else a ModelError.

    The checksum is taken piece by piece, so nothing the size of the file is held before it is known to be whole.
    """
    try:
        with open(path, "rb") as file:
            codec, lengths, start = _read_header(file)
            _check_sum(file)
            file.seek(start)
            contents = {name: file.read(length) for name, length in zip(SECTIONS, lengths[1:], strict=True)}
    except OSError as error:
        raise ModelError(f"it cannot be read: {error.strerror}") from error
    if any(len(contents[name]) != length for name, length in zip(SECTIONS, lengths[1:], strict=True)):
        raise ModelError("it was changed while it was read")
    return Sections(codec=codec, contents=contents, directory_bytes=lengths[0])


def _read_header(file: BinaryIO) -> tuple[str, list[int], int]:
    """Codec, lengths (of the unpacked directory, then of every section), and where the sections begin."""
    start = file.read(HEADER_LIMIT_BYTES)
    if not start.startswith(MAGIC):
        raise ModelError("it is no .resfit file: its first bytes are others")
    header = Reader(start, "header")
    header.take(len(MAGIC))
    version = header.byte()
    if version != VERSION:
        raise ModelError(f"it has the version {version}, expected {VERSION}", hint="read it with a newer resfit")
    number = header.byte()
    codec = next((name for name, known in CODEC_NUMBERS.items() if known == number), None)
    if codec is None:
        raise ModelError(f"it is coded by codec number {number}; known: {CODEC_NUMBERS}")
    lengths = [header.number(bits=VARINT_BITS) for _ in range(1 + len(SECTIONS))]
    size = file.seek(0, 2)
    stated = header.position + sum(lengths[1:]) + CHECKSUM_BYTES
    if size != stated:
        raise ModelError(
            f"it has {size:,} bytes and says that it has {stated:,}",
            hint="it was only partly copied" if size < stated else "something was added to it",
        )
    if lengths[0] > DIRECTORY_LIMIT_BYTES:
        raise ModelError(f"its directory is said to unpack to {lengths[0]:,} bytes, which none does")
    return codec, lengths, header.position


def _check_sum(file: BinaryIO) -> None:
    remaining = file.seek(0, 2) - CHECKSUM_BYTES
    file.seek(0)
    checksum = 0
    while remaining > 0 and (chunk := file.read(min(CHUNK_BYTES, remaining))):
        checksum = zlib.crc32(chunk, checksum)
        remaining -= len(chunk)
    if remaining or file.read(CHECKSUM_BYTES) != checksum.to_bytes(CHECKSUM_BYTES, "little"):
        raise ModelError("its checksum disagrees: bytes of it were changed", hint="copy it again from where it came")
