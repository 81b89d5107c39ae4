"""Where decoded images are cached: a folder of files keyed by content, bounded, shared between processes.

A file is written under a lock of its own name to a `.partial` file and renamed when whole, so a reader sees a
whole file or none, two processes never write the same one, and one that was killed leaves nothing that counts:
the system frees its lock, and the next writer removes what it left. A reader holds a shared lock on the file it
reads, which keeps it from being removed to make room.
"""

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from resfit.data.locking import CAN_LOCK, locked, shared_lock, try_lock
from resfit.data.stored import DamagedFile, StoredImages, StoreWriter, stored_bytes
from resfit.errors import UsageError

SUFFIX, PARTIAL, LOCK = ".images", ".partial", ".lock"
FOLDER_LOCK = "folder.lock"
UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))

Fill = Callable[[StoreWriter], Mapping[int, str]]
Again = Callable[[int], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Where decoded images are kept and how much of them.

    Up to `memory_bytes` (all roles together) stay in memory. What is more goes to files in `folder` (None:
    resfit/ in $XDG_CACHE_HOME or ~/.cache), which together take at most `max_bytes` and half of what the disk
    would have free without them. UsageError for negative sizes and for a file in the folder's place.
    """

    folder: Path | None = None
    max_bytes: int = 20_000_000_000
    memory_bytes: int = 256_000_000

    def __post_init__(self) -> None:
        for name in ("max_bytes", "memory_bytes"):
            if getattr(self, name) < 0:
                raise UsageError(f"cache {name} {getattr(self, name)}: 0 or more expected")
        if self.folder is not None and self.place.exists() and not self.place.is_dir():
            raise UsageError(f"{self.folder} is a file, expected a folder for decoded images")

    @property
    def place(self) -> Path:
        """The folder the files go to."""
        if self.folder is not None:
            return Path(self.folder).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resfit"


class DoesNotFit(Exception):
    """The images cannot be cached; says why in a few words."""


@final
class ImageCache:
    """The files of one cache folder. OSErrors (a full disk, no permission) come out as DoesNotFit."""

    def __init__(self, options: CacheOptions):
        self.folder, self._max_bytes = options.place, options.max_bytes

    def allowed_bytes(self) -> int:
        """What all files together may take: the stated bound, and half of the disk's free space without them."""
        with _as_reason():
            self.folder.mkdir(parents=True, exist_ok=True)
            held = sum(_size(path) for path in self._entries())
            return min(self._max_bytes, (shutil.disk_usage(self.folder).free + held) // 2)

    def find(self, key: str, shape: tuple[int, ...], again: Again) -> StoredImages | None:
        """The file of `key` opened, or None; a damaged one is told on standard error and removed."""
        path = self.folder / f"{key}{SUFFIX}"
        try:
            images = StoredImages(path, shape, again=again)
        except FileNotFoundError:
            return None
        except DamagedFile as error:
            print(f"{path} is damaged ({error}): written anew", file=sys.stderr)
            path.unlink(missing_ok=True)
            return None
        except OSError as error:
            raise DoesNotFit(f"{path}: {error.strerror}") from error
        shared_lock(images.descriptor)
        with contextlib.suppress(OSError):
            os.utime(path)  # the time it was last used, which decides what goes first
        return images

    def make(self, key: str, shape: tuple[int, ...], fill: Fill, again: Again) -> StoredImages:
        """The file of `key`, written by `fill` unless another process does so first; DoesNotFit if it cannot be.

        `fill` gets the writer and returns why places hold no image. What it raises is passed on, and no file
        is left.
        """
        if not CAN_LOCK:
            raise DoesNotFit("this system has no file locks")
        with _as_reason(), locked(self.folder / f"{key}{LOCK}", on_wait=_tell_waiting):
            found = self.find(key, shape, again)
            if found is not None:
                return found
            partial = self.folder / f"{key}{PARTIAL}"
            try:
                descriptor = self._reserve(partial, stored_bytes(shape))
                try:
                    writer = StoreWriter(descriptor, shape)
                    writer.finish(fill(writer))
                finally:
                    os.close(descriptor)
                os.replace(partial, partial.with_suffix(SUFFIX))
            finally:
                partial.unlink(missing_ok=True)
            written = self.find(key, shape, again)
        if written is None:
            raise DoesNotFit(f"{self.folder}: what was written is gone or damaged")
        return written

    def _reserve(self, partial: Path, needed: int) -> int:
        """A new file with room for all, open for writing; older files are removed where they stand in the way.

        Under the folder's lock, so that two writers never take the same room.
        """
        with locked(self.folder / FOLDER_LOCK):
            partial.unlink(missing_ok=True)  # of a process that was killed
            self._make_room(needed)
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                _allocate(descriptor, needed)
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor

    def _make_room(self, needed: int) -> None:
        allowed = self.allowed_bytes()
        if needed > allowed:
            raise DoesNotFit(f"{told_bytes(needed)} are more than the {told_bytes(allowed)} allowed in {self.folder}")
        oldest_first = sorted(self._entries(), key=_last_used)
        held = sum(_size(path) for path in oldest_first)
        for path in oldest_first:
            if held + needed <= allowed:
                return
            size = _size(path)
            if _remove_unused(path):
                held -= size
        if held + needed > allowed:
            raise DoesNotFit(f"what other runs use fills {self.folder} to {told_bytes(held)}")

    def _entries(self) -> list[Path]:
        """The cache's own files; anything else in the folder is not its business."""
        return [path for path in self.folder.iterdir() if path.suffix in (SUFFIX, PARTIAL) and len(path.stem) == 64]


def told_bytes(count: int) -> str:
    """A size for people."""
    return next((f"{count / size:.3g} {unit}" for unit, size in UNITS if count >= size), f"{count} bytes")


def _remove_unused(path: Path) -> bool:
    """Removes a file nobody reads or writes; False where somebody does."""
    lock = path if path.suffix == SUFFIX else path.with_suffix(LOCK)
    with try_lock(lock) as free:
        if free:
            path.unlink(missing_ok=True)
    if free and path.suffix == SUFFIX:
        with try_lock(path.with_suffix(LOCK)) as unwaited:
            if unwaited:  # removed only while held: who waits for it takes it anew
                path.with_suffix(LOCK).unlink(missing_ok=True)
    return free


def _tell_waiting() -> None:
    print("another process is decoding the same images: waiting for its file", file=sys.stderr)


def _allocate(descriptor: int, size: int) -> None:
    """Takes the room now, where the file system can: a full disk is then noticed before any work."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
    os.ftruncate(descriptor, size)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextlib.contextmanager
def _as_reason() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DoesNotFit(error.strerror or str(error)) from error
