"""Small pictures of many images, kept in a temporary file so that memory does not grow with their number."""

import os
import tempfile
from types import TracebackType

import numpy as np

from resfit.data.images import IndexedImages
from resfit.data.preprocessing import Preprocessing

EDGE = 32  # pixels: what near duplicates and labels are judged by; CIFAR's own size
SMALL = Preprocessing(height=EDGE, width=EDGE, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, fit="squash")


class Thumbnails(IndexedImages):
    """uint8 (count, EDGE, EDGE, 3) in a file that is gone when closed; black where nothing was written.

    Different threads may write different images.
    """

    def __init__(self, count: int):
        super().__init__((count, EDGE, EDGE, 3))
        self._file = tempfile.TemporaryFile(prefix="resfit-audit-")  # noqa: SIM115 (closed by __exit__)
        self._image_bytes = EDGE * EDGE * 3
        self._file.truncate(count * self._image_bytes)

    def __enter__(self) -> "Thumbnails":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def write(self, index: int, image: np.ndarray) -> None:
        """Keep the small picture uint8 (EDGE, EDGE, 3) of image `index`."""
        os.pwrite(self._file.fileno(), np.ascontiguousarray(image).tobytes(), index * self._image_bytes)

    def _read(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)
        for start, stop in _runs(indices):
            size = (stop - start) * self._image_bytes
            content = os.pread(self._file.fileno(), size, int(indices[start]) * self._image_bytes)
            images[start:stop] = np.frombuffer(content, dtype=np.uint8).reshape(-1, *self.shape[1:])
        return images


def _runs(indices: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of positions whose indices follow each other: each is one read."""
    if not len(indices):
        return []
    breaks = (np.flatnonzero(np.diff(indices) != 1) + 1).tolist()
    return list(zip([0, *breaks], [*breaks, len(indices)], strict=True))
