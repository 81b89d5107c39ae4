"""The most memory a process has held, as the kernel counts it."""

from pathlib import Path

from resfit.errors import EngineError

STATUS = Path("/proc/self/status")


def peak_memory_bytes(status: Path = STATUS) -> int:
    """VmHWM of this process in bytes; EngineError where the system does not tell.

    Not `getrusage`'s ru_maxrss: a child inherits that from the parent it was forked from.
    """
    try:
        lines = status.read_text().splitlines()
    except OSError as error:
        raise EngineError(
            f"memory cannot be measured on this system: {status} cannot be read",
            hint="leave the memory budget out, or measure on Linux",
        ) from error
    for line in lines:
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    raise EngineError(f"memory cannot be measured on this system: {status} has no VmHWM line")
