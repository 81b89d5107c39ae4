"""The memory of a process, now and at most, as the kernel counts it."""

from pathlib import Path

from resfit.errors import EngineError

STATUS = Path("/proc/self/status")
FORGET = Path("/proc/self/clear_refs")


def peak_memory_bytes(status: Path = STATUS) -> int:
    """VmHWM of this process in bytes; EngineError where the system does not tell.

    Not `getrusage`'s ru_maxrss: a child inherits that from the parent it was forked from.
    """
    return _read(status, "VmHWM")


def memory_bytes(status: Path = STATUS) -> int:
    """VmRSS of this process in bytes, what it holds now; EngineError where the system does not tell."""
    return _read(status, "VmRSS")


def forget_peak() -> None:
    """Lets VmHWM begin anew from what the process holds now; EngineError where the system does not let us."""
    try:
        FORGET.write_text("5")
    except OSError as error:
        raise EngineError(f"memory cannot be measured on this system: {FORGET}: {error.strerror}") from error


def _read(status: Path, wanted: str) -> int:
    try:
        lines = status.read_text().splitlines()
    except OSError as error:
        raise EngineError(
            f"memory cannot be measured on this system: {status} cannot be read",
            hint="leave the memory budget out, or measure on Linux",
        ) from error
    for line in lines:
        name, _, value = line.partition(":")
        if name == wanted:
            return int(value.split()[0]) * 1024
    raise EngineError(f"memory cannot be measured on this system: {status} has no {wanted} line")
