"""Loops over whole numbers: compiled by numba where it is installed, the same functions in plain Python where not.

Importing this module imports numba, so only modules that are themselves loaded at first use may import it. The
functions work on rows of int64 (lists in plain Python, which are faster to index there), and of fewer bits where a row
is as long as a tensor; they stay within 63 bits, so that both ways give the same numbers.
"""

import contextlib
import functools
import hashlib
import importlib
import os
import tempfile
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

numba: Any = None
with contextlib.suppress(ImportError):
    numba = importlib.import_module("numba")

Function = TypeVar("Function", bound=Callable[..., Any])

# Compiled functions take and change rows but make none, so the counting of references, which would take most of the
# time, is left out; and they are put into one another.
OPTIONS = {"_nrt": False, "forceinline": True, "nogil": True}


def compiled(function: Function) -> Function:
    """The function, compiled at its first call if numba is there.

    The machine code is kept for later processes in resfit/numba-* in $XDG_CACHE_HOME or ~/.cache, or not at all where
    nothing can be written there; never beside the source.
    """
    if numba is None:
        return function
    folder = _cache_folder()
    if folder is None:
        return numba.njit(**OPTIONS)(function)
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)  # numba has no argument for it, and reads this when the function is wrapped
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    finally:
        numba.config.CACHE_DIR = before


def row(numbers: Iterable[int]) -> Any:
    """A row of int64 for a compiled function, a list for a plain one."""
    return np.fromiter(numbers, np.int64) if _compiles() else [int(number) for number in numbers]


def constant_row(number: int, count: int) -> Any:
    """A row of `count` times the same number, as `row` makes it."""
    return np.full(count, number, np.int64) if _compiles() else [number] * count


def narrow_row(numbers: np.ndarray, kind: type[np.integer]) -> Any:
    """A row of so few bits as `kind` has, of numbers within it; an array that already is of that kind is taken over."""
    numbers = numbers.astype(kind, copy=False)
    return numbers if _compiles() else array(numbers.dtype.char, numbers.tobytes())


def byte_row(data: bytes | bytearray) -> Any:
    """Bytes that a compiled or a plain function may read and write."""
    return np.frombuffer(bytearray(data), np.uint8) if _compiles() else bytearray(data)


def _compiles() -> bool:
    return numba is not None and not numba.config.DISABLE_JIT


@functools.cache
def _cache_folder() -> Path | None:
    """Where machine code made from the present sources is kept; None where that cannot be written."""
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):  # numba itself sees changes of a caller's file alone
        sources.update(path.read_bytes())
    with contextlib.suppress(OSError, RuntimeError):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = home / "resfit" / f"numba-{sources.hexdigest()[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    return None
