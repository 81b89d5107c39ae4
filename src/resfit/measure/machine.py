"""The machine a figure was measured on: figures of different machines are not compared."""

import hashlib
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

TELLING_FLAGS = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8",
    "asimd", "asimddp", "bf16", "i8mm",
)  # fmt: skip
PACKAGES = ("torch", "onnxruntime", "openvino", "numpy")


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Processor, cores this process may use, the flags that decide speed, memory, system and versions.

    fingerprint: 12 hex digits over all the rest; two figures with one fingerprint may be compared.
    """
    described: dict[str, Any] = {
        **_processor(cpuinfo),
        "cores": usable_cores(),
        "memory_bytes": _memory_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }
    text = json.dumps(described, sort_keys=True)
    return {**described, "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:12]}


def usable_cores() -> int:
    """Cores that this process is allowed to run on, not all that the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor(cpuinfo: Path) -> dict[str, Any]:
    fields: dict[str, str] = {}
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    name = fields.get("model name") or platform.processor() or platform.machine()
    return {"processor": name, "flags": [flag for flag in TELLING_FLAGS if flag in flags]}


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
