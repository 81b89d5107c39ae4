"""One file of decoded images: written once, read by bounded reads, every image with its own checksum.

Layout: the images one after another, as uint8 (height, width, channels); a CRC-32 an image (little-endian
uint32); a JSON text; a tail of fixed size that says how long the JSON is and carries the CRC-32 of all that
follows the images. What is known last (which images could not be decoded) therefore stands last, and a file cut
short or never finished has no valid tail. Reads are `os.pread` into new arrays: a mapped file's pages would
count as the process's memory.
"""

import json
import os
import struct
import sys
import weakref
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import final

import numpy as np

from resfit.data.images import IndexedImages
from resfit.data.locking import names
from resfit.errors import DataError

FORMAT = 2  # raised with every change to layout or checksums: part of a cached file's key, so others' files stay
MAGIC = b"RESFITIM"
TAIL = struct.Struct("<8sQI")  # magic, bytes of JSON, CRC-32 of checksums and JSON


class DamagedFile(Exception):
    """The file is not whole; says in a few words what is wrong."""


def stored_bytes(shape: tuple[int, ...]) -> int:
    """Bytes of a file of `shape` (N, height, width, channels) in which every image could be decoded."""
    meta = len(_meta(shape, {}))
    return shape[0] * (_image_bytes(shape) + 4) + meta + TAIL.size


@final
class StoreWriter:
    """Writes images in any order, from several threads, to an open descriptor; `finish` makes them a file."""

    def __init__(self, descriptor: int, shape: tuple[int, ...]):
        self._descriptor, self._shape = descriptor, tuple(shape)
        self._size = _image_bytes(shape)
        self._checksums = np.zeros(shape[0], dtype="<u4")

    def write(self, index: int, image: np.ndarray) -> None:
        """Puts the image, uint8 (height, width, channels), at its place; OSError as the disk has it."""
        content = np.ascontiguousarray(image).tobytes()
        if len(content) != self._size:
            raise ValueError(f"image of {len(content)} bytes among images of {self._size}")
        _write_all(self._descriptor, content, index * self._size)
        self._checksums[index] = zlib.crc32(content)

    def finish(self, failures: Mapping[int, str]) -> None:
        """Writes what follows the images and syncs; `failures` says why places hold no image."""
        meta = _meta(self._shape, failures)
        after = self._checksums.tobytes() + meta
        tail = TAIL.pack(MAGIC, len(meta), zlib.crc32(after))
        start = self._shape[0] * self._size
        _write_all(self._descriptor, after + tail, start)
        os.ftruncate(self._descriptor, start + len(after) + len(tail))
        os.fsync(self._descriptor)


@final
class StoredImages(IndexedImages):
    """The images of a finished file, read when asked for; at most what is asked for is in memory.

    Every image is compared with its checksum. One that does not match is told on standard error, the file's
    name is removed so that the next run writes it anew, and the image comes from `again(index)`, which decodes
    its source; without `again` it is a DataError. `failures` (place -> reason) are places without an image.
    DamagedFile if the file is not whole or of another shape, OSError if it cannot be opened.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], *, again: Callable[[int], np.ndarray] | None = None):
        super().__init__(shape)
        self._path, self._again = path, again
        self._size = _image_bytes(shape)
        self._told = False
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        weakref.finalize(self, os.close, self._descriptor)
        self._checksums, self.failures = _read_end(self._descriptor, self.shape)

    @property
    def descriptor(self) -> int:
        """The open file, for locks on it."""
        return self._descriptor

    def _read(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)
        for place, index in enumerate(indices.tolist()):
            content = _read_up_to(self._descriptor, self._size, index * self._size)
            if len(content) == self._size and zlib.crc32(content) == self._checksums[index]:
                images[place] = np.frombuffer(content, dtype=np.uint8).reshape(self.shape[1:])
            else:
                images[place] = self._mended(index)
        return images

    def _mended(self, index: int) -> np.ndarray:
        if not self._told:
            self._told = True
            print(f"{self._path} is damaged (image {index}): it will be written anew by the next run", file=sys.stderr)
            if names(self._path, self._descriptor):  # not a file that was written anew meanwhile
                self._path.unlink(missing_ok=True)
        if self._again is None:
            raise DataError(f"{self._path} is damaged: image {index} does not match its checksum")
        return self._again(index)


def _image_bytes(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[1:], dtype=np.int64))


def _meta(shape: tuple[int, ...], failures: Mapping[int, str]) -> bytes:
    listed = [[int(index), failures[index]] for index in sorted(failures)]
    return json.dumps({"format": FORMAT, "shape": [int(size) for size in shape], "failures": listed}).encode()


def _read_end(descriptor: int, shape: tuple[int, ...]) -> tuple[np.ndarray, dict[int, str]]:
    """Checksums uint32 (N,) and failures, from what follows the images."""
    start = shape[0] * _image_bytes(shape)
    end = os.fstat(descriptor).st_size
    if end < start + TAIL.size:
        raise DamagedFile("it is cut short")
    tail = _read_up_to(descriptor, TAIL.size, end - TAIL.size)
    after = _read_up_to(descriptor, end - TAIL.size - start, start)
    magic, meta_bytes, checksum = TAIL.unpack(tail)
    if magic != MAGIC or len(after) != 4 * shape[0] + meta_bytes or zlib.crc32(after) != checksum:
        raise DamagedFile("its end does not match its checksum")
    meta = json.loads(after[4 * shape[0] :])
    if meta["format"] != FORMAT or meta["shape"] != [int(size) for size in shape]:
        raise DamagedFile(f"it holds images {meta['shape']} in format {meta['format']}")
    return np.frombuffer(after, dtype="<u4", count=shape[0]), dict(meta["failures"])


def _read_up_to(descriptor: int, count: int, offset: int) -> bytes:
    """`count` bytes from `offset`, fewer where the file ends or cannot be read there."""
    parts = []
    try:
        while count > 0 and (part := os.pread(descriptor, count, offset)):
            parts.append(part)
            count, offset = count - len(part), offset + len(part)
    except OSError:  # a bad sector reads like a damaged image
        return b""
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    rest = memoryview(content)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
