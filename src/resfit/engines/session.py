"""What every engine's session promises, and how it settles the settings asked of it; without torch or a runtime."""

import os
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np

from resfit.data.preprocessing import Preprocessing
from resfit.errors import EngineError, UsageError, nearest

Precision = Literal["fp32", "bf16", "int8"]


class Session(Protocol):
    """An opened artifact.

    engine: the runtime's name. threads, precision: as the runtime reports them; precision is what the layers are
    computed in: fp32, bf16, or int8 (whatever an int8 artifact keeps in float is then fp32). labels: by output index.
    """

    @property
    def engine(self) -> str: ...

    @property
    def threads(self) -> int: ...

    @property
    def precision(self) -> Precision: ...

    @property
    def preprocessing(self) -> Preprocessing: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def run(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Logits, float32 (N, classes), of decoded images, uint8 (N, height, width, channels); any N.

        Other types or shapes are an EngineError that names the expected ones. One run at a time.
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


def check_threads(engine: str, asked: int | None, found: int) -> int:
    """The thread count an engine reports; EngineError where the user asked for another."""
    if asked is not None and found != asked:
        raise EngineError(
            f"{engine} runs {found} thread{'s' * (found != 1)}, not the {asked} asked for",
            hint=f"pass --threads {found}, or choose another --engine",
        )
    return found


def resolve_precision(
    engine: str, path: Path | None, *, asked: str | None, held: str, floats: tuple[Precision, ...]
) -> Precision:
    """The precision to compute in: the one asked for, else the one that the artifact holds.

    floats: what the engine computes float32 weights in, on this machine. An int8 artifact is computed in int8.
    EngineError for what the engine or the file cannot do, UsageError for what is no precision.
    """
    if asked is not None and asked not in get_args(Precision):
        raise UsageError(f"there is no precision {asked!r}", hint=nearest(asked, get_args(Precision)))
    able: tuple[Precision, ...] = ("int8",) if held == "int8" else floats
    for precision in able:
        if precision == (asked or held):
            return precision
    source = "the model" if path is None else str(path)
    if asked == "int8":
        raise EngineError(f"{source} holds {held} weights", hint="write it with: resfit export --precision int8 --data")
    if held == "int8":
        raise EngineError(f"{source} holds int8 weights: it cannot run in {asked}", hint="export it in fp32")
    raise EngineError(
        f"{engine} has no {asked} on this machine", hint="leave --precision out, or choose another --engine"
    )
