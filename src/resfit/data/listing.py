"""Labelled images not yet decoded: names, targets and a way to the encoded bytes."""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAX_FILE_BYTES = 1_000_000_000  # of one encoded image


@dataclass(frozen=True, kw_only=True, eq=False)
class Listing:
    """The images of one role before decoding.

    `names` a path or id an image (unique); `keys` what the hash-seeded split is decided by, so that neither
    order nor location matters; `targets` int64 (N,), indices into `labels`; `read(index)` the encoded bytes.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    targets: np.ndarray
    labels: tuple[str, ...]
    read: Callable[[int], bytes]

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: np.ndarray) -> "Listing":
        """The images at `indices`, in that order."""
        chosen = [int(index) for index in indices]
        read = self.read
        return Listing(
            names=tuple(self.names[index] for index in chosen),
            keys=tuple(self.keys[index] for index in chosen),
            targets=self.targets[chosen],
            labels=self.labels,
            read=lambda index: read(chosen[index]),
        )


def read_file(path: Path) -> bytes:
    """The bytes of an image file; OSError for what is no regular file, or too large to be an image.

    A pipe or device in a data folder would otherwise be waited for, or read for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a folder, not an image file")
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"{status.st_size / 1e9:.1f} GB, too large for an image")
        return file.read()
