"""Many decoded images as one thing to index, wherever they are kept: in memory, in a file, or not yet decoded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from resfit.errors import DataError

PART_BYTES = 16_000_000  # what is held at once when all images are gone through


class Images(Protocol):
    """uint8 (N, height, width, channels), read by index; a numpy array is one.

    `[int]` gives one image, `[slice]` and `[int64 array]` a new array of several. Only what is asked for is
    read, so a whole set is gone through with `in_parts` and never taken at once.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class IndexedImages:
    """The indexing all images share that are no numpy array; a kind of them says how to `_read` some.

    `shape` is (N, height, width, channels).
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, shape: tuple[int, ...]):
        self.shape = tuple(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any, /) -> np.ndarray:
        if isinstance(index, int | np.integer):
            return self._read(self._checked(np.array([index])))[0]
        if isinstance(index, slice):
            return self._read(np.arange(*index.indices(len(self)), dtype=np.int64))
        chosen = np.asarray(index)
        if chosen.dtype == bool and chosen.shape == (len(self),):
            chosen = np.flatnonzero(chosen)
        if chosen.size and (chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer)):
            raise IndexError(f"images are chosen by whole numbers in one row, not by {chosen.dtype} {chosen.shape}")
        return self._read(self._checked(chosen.reshape(-1).astype(np.int64)))

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        # numpy would otherwise read one image after another into a list of objects
        raise TypeError("images that are not in memory are read in parts, not turned into one array")

    def _checked(self, indices: np.ndarray) -> np.ndarray:
        """Indices from the end (negative) counted from the start; IndexError for those outside."""
        if indices.size and not (-len(self) <= indices.min() and indices.max() < len(self)):
            raise IndexError(f"an index outside the {len(self)} images there are")
        return np.where(indices < 0, indices + len(self), indices)

    def _read(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices`, int64 (K,) in 0..N-1, as a new array uint8 (K, height, width, channels)."""
        raise NotImplementedError


class Selection(IndexedImages):
    """Some of other images, in an order of their own, read when asked for."""

    def __init__(self, images: Images, indices: np.ndarray):
        super().__init__((len(indices), *images.shape[1:]))
        self._images, self._indices = images, np.asarray(indices, dtype=np.int64)

    def _read(self, indices: np.ndarray) -> np.ndarray:
        return self._images[self._indices[indices]]


def select(images: Images, indices: np.ndarray) -> Images:
    """The images at `indices`: a new array of images in memory, else a view that reads when asked."""
    return images[indices] if isinstance(images, np.ndarray) else Selection(images, indices)


def in_parts(images: Images, *, part_bytes: int = PART_BYTES) -> Iterator[np.ndarray]:
    """All images in order, as arrays of at most about `part_bytes` (one image at least)."""
    image_bytes = int(np.prod(images.shape[1:], dtype=np.int64))
    step = max(1, part_bytes // max(1, image_bytes))
    for start in range(0, len(images), step):
        yield images[start : start + step]


def check_images(images: Images) -> None:
    """DataError unless the images are uint8 (N, height, width, 1 or 3)."""
    if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[-1] not in (1, 3):
        raise DataError(f"images {images.dtype} {images.shape}: uint8 (N, height, width, 1 or 3) expected")


def save_images(path: str | Path, images: Images) -> None:
    """A NumPy file of all images, written in parts; `numpy.load` reads it whole or mapped."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_2_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": tuple(int(size) for size in images.shape)}
        )
        for part in in_parts(images):
            file.write(np.ascontiguousarray(part).data)
