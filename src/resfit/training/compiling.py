"""Whether this machine can compile a network, and whether a training is long enough to repay it."""

import os
import shutil
import sysconfig
from pathlib import Path

from resfit.errors import UsageError

# Compiling takes half a minute for 20 layers and minutes for 100, and gains an eighth: nothing shorter repays it
LEAST_SECONDS = 1800.0
LEAST_GAIN = 1.03  # a smaller gain in time is within what a neighbour's work takes and gives


def compiler() -> str | None:
    """The C++ compiler that torch.compile would call; None where it or Python's own headers are missing."""
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return None
    return shutil.which(os.environ.get("CXX") or "g++") or shutil.which("clang++")


def check_compiler() -> None:
    """UsageError where compiled training was asked for and there is no compiler."""
    if compiler() is None:
        raise UsageError(
            "compiled training needs a C++ compiler and the headers of this Python, and one of them is missing",
            hint="install g++ and python3-dev, or leave --compile out",
        )


def worth_trying(planned_seconds: float) -> bool:
    """Whether an eager training of so many seconds is long enough to measure a compiled one."""
    return planned_seconds >= LEAST_SECONDS and compiler() is not None


def repays(*, eager_seconds: float, compiled_seconds: float, compiling_seconds: float, steps: float) -> bool:
    """Whether `steps` steps of compiled_seconds each and compiling once more take clearly less time than eager."""
    return steps * eager_seconds > LEAST_GAIN * (steps * compiled_seconds + compiling_seconds)
