"""What every engine's session promises; without torch or a runtime."""

import os
from typing import Any, Protocol

import numpy as np

from resfit.data.preprocessing import Preprocessing
from resfit.errors import EngineError, UsageError


class Session(Protocol):
    """An opened artifact.

    engine: the runtime's name. threads: as the runtime reports them. labels: by output index.
    """

    @property
    def engine(self) -> str: ...

    @property
    def threads(self) -> int: ...

    @property
    def preprocessing(self) -> Preprocessing: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def run(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Logits, float32 (N, classes), of decoded images, uint8 (N, height, width, channels); any N.

        Other types or shapes are an EngineError that names the expected ones.
        """
        ...


def check_images(images: np.ndarray[Any, Any], preprocessing: Preprocessing) -> None:
    """EngineError unless images are uint8 of shape (N, height, width, channels)."""
    expected = (preprocessing.height, preprocessing.width, preprocessing.channels)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != expected:
        found = f"{getattr(images, 'dtype', type(images).__name__)} of shape {getattr(images, 'shape', '?')}"
        raise EngineError(
            f"images are {found}, expected uint8 of shape (N, {', '.join(map(str, expected))})",
            hint="decode and resize image files with resfit.data.preprocessing.decode",
        )


def resolve_threads(threads: int | None) -> int:
    """The thread count asked for, or one for each processor this process may use; below 1 is a UsageError."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise UsageError(f"--threads is {threads}, expected at least 1")
    return threads
