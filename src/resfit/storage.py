"""The one way to files: atomic writes, output folders that never swallow a user's things, fingerprints."""

import contextlib
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from resfit.errors import UsageError

MARKERS = ("config.json", "fit.json", "request.json")
CHUNK_BYTES = 1 << 20


def write_atomic(path: str | Path, write: Callable[[BinaryIO], None] | bytes) -> None:
    """Write a file so that a reader sees the old content or the whole new one, never a part.

    `write` is the content, or a function that writes it to an open binary file. The bytes go to a hidden
    sibling that is synced and renamed; if anything fails the old file is left whole and the sibling removed.
    Parent folders are made as needed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            if isinstance(write, bytes):
                file.write(write)
            else:
                write(file)
            file.flush()
            os.fchmod(file.fileno(), _mode(path))
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    _sync_folder(path.parent)


def prepare_folder(path: str | Path, *, marker_names: Sequence[str] = MARKERS) -> Path:
    """Make an output folder, empty when this returns.

    An earlier run's folder (it holds checkpoints/ or a marker file) is moved aside to NAME.1, NAME.2, ..,
    and standard error says so. A file, the working folder, or a folder with other things in it, is a
    UsageError.
    """
    path = Path(path)
    place = path.resolve()  # behind a link it is the folder itself that is moved and made anew
    if place.exists() and not place.is_dir():
        raise UsageError(f"{path} is a file, expected a folder to write to", hint="choose another --out")
    with _as_usage_error(f"cannot make the folder {path}"):
        if place.is_dir() and any(place.iterdir()):
            if not any((place / marker).exists() for marker in (*marker_names, "checkpoints")):
                raise UsageError(
                    f"the folder {path} holds things that resfit did not make",
                    hint="choose another --out, or empty the folder first",
                )
            if Path.cwd().is_relative_to(place):
                raise UsageError(
                    f"{path} holds an earlier run and is the folder you are in, which cannot be moved aside",
                    hint="choose another --out",
                )
            _move_aside(place, said=f"{path} held an earlier run")
        place.mkdir(parents=True, exist_ok=True)
    return path


def new_folder(parent: str | Path, name: str) -> Path:
    """Make PARENT/NAME-1, or with the first number that is free; of a path as NAME its last part is used."""
    stem = re.sub(r"[^\w.-]+", "-", Path(name).resolve().name) or "data"
    number = 1
    while True:
        path = Path(parent) / f"{stem}-{number}"
        if not os.path.lexists(path):
            with _as_usage_error(f"cannot make the folder {path}"):
                path.mkdir(parents=True)
            return path
        number += 1


def keep_earlier(path: str | Path) -> None:
    """Move a file that is about to be written aside to NAME.1, NAME.2, .., and say so on standard error.

    A folder in its place is a UsageError.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder, expected a file to write", hint="choose another --out")
    if path.exists():
        with _as_usage_error(f"cannot move {path} aside"):
            _move_aside(path.absolute(), said=f"{path} was there already")


def sha256_file(path: str | Path) -> str:
    """Hexadecimal sha256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def read_json(path: str | Path) -> Any:
    """What a JSON file holds; None where it is absent or damaged."""
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return None


def _move_aside(path: Path, *, said: str) -> None:
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.{number}")):
        number += 1
    path.rename(aside)
    print(f"{said} and is now {aside}", file=sys.stderr)


@contextlib.contextmanager
def _as_usage_error(message: str) -> Iterator[None]:
    """What the file system refuses, as an error that names the flag."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{message}: {error.strerror}", hint="choose another --out") from error


def _mode(path: Path) -> int:
    """The old file's permissions, or what the process's mask gives a new one (mkstemp's are private)."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the platform can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
