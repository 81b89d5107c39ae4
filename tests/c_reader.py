"""docs/unpack.c as a program, and what it says of a file."""

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "docs" / "unpack.c"


def built(folder: Path) -> Path:
    """The program with the sanitizers, any warning an error."""
    compiler = next((found for name in ("gcc", "clang", "cc") if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no C compiler")
    program = folder / "unpack"
    flags = ["-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([compiler, *flags, *checks, "-o", str(program), str(SOURCE)], check=True, timeout=120)
    return program


def run(unpack: Path, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([unpack, *arguments], capture_output=True, text=True, timeout=120, check=False)


def c_tensors(listing: str, data: bytes) -> dict[str, tuple[str, str, bytes]]:
    """By name the type, shape and bytes of every tensor, as the C reader lists them."""
    found = {}
    for line in listing.splitlines():
        name, kind, shape, offset, size = line.split(" ")
        found[name] = (kind, shape, data[int(offset) : int(offset) + int(size)])
    return found
