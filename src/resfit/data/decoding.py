"""Encoded images to one uint8 array, on a pool of threads (Pillow decodes outside Python's lock)."""

import hashlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from resfit.data.dataset import ArrayDataset
from resfit.data.listing import Listing
from resfit.data.preprocessing import Preprocessing, decode
from resfit.errors import DataError

CHUNK = 64  # images a task: small enough for progress, large enough that handing out tasks costs nothing
MAX_NAMED = 10
QUIET_SECONDS = 1.0  # no progress for what is done sooner


def decode_listing(listing: Listing, preprocessing: Preprocessing, *, role: str) -> ArrayDataset:
    """All images of `listing`, decoded; `role` names them in progress and errors.

    The fingerprint covers each image's name, label and encoded bytes, not the size decoded to. DataError
    names the unreadable images (the first ten of them): none is ever left out in silence.
    """
    shape = (len(listing), preprocessing.height, preprocessing.width, preprocessing.channels)
    _refuse_beyond_memory(shape, role)
    images = np.empty(shape, dtype=np.uint8)
    digests: list[bytes] = [b""] * len(listing)
    failures: dict[int, str] = {}

    def work(start: int) -> int:
        stop = min(start + CHUNK, len(listing))
        for index in range(start, stop):
            try:
                encoded = _read(listing, index)
                images[index] = decode(encoded, preprocessing, name=listing.names[index])
                digests[index] = hashlib.sha256(encoded).digest()
            except DataError as error:
                failures[index] = error.message
        return stop - start

    progress = _Progress(f"decoding {role} images", len(listing))
    pool = ThreadPoolExecutor(available_processors())
    try:
        for done in pool.map(work, range(0, len(listing), CHUNK)):
            progress.advance(done)
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for all that is queued
        progress.close()
    if failures:
        raise _unreadable(failures, role, len(listing))
    return ArrayDataset(
        images=images,
        targets=listing.targets,
        labels=listing.labels,
        fingerprint=_fingerprint(listing, digests),
        names=listing.names,
    )


def available_processors() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(listing: Listing, index: int) -> bytes:
    try:
        return listing.read(index)
    except OSError as error:
        raise DataError(f"{listing.names[index]}: cannot be read ({error.strerror or error})") from error


def _unreadable(failures: dict[int, str], role: str, total: int) -> DataError:
    named = [failures[index] for index in sorted(failures)]
    listed = "\n".join(f"  {message}" for message in named[:MAX_NAMED])
    more = f"\n  and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    return DataError(
        f"{len(named)} of {total} {role} images cannot be used:\n{listed}{more}",
        hint="mend or remove them: leaving some out in silence would change the accuracy reported",
    )


def _fingerprint(listing: Listing, digests: list[bytes]) -> str:
    """sha256 over name, label and content of every image, independent of order."""
    rows = sorted(
        repr((name, listing.labels[target], digest.hex())).encode("utf-8", "backslashreplace")
        for name, target, digest in zip(listing.keys, listing.targets.tolist(), digests, strict=True)
    )
    return hashlib.sha256(b"\n".join(rows)).hexdigest()


def _refuse_beyond_memory(shape: tuple[int, ...], role: str) -> None:
    """DataError before decoding what the machine cannot hold; nothing is checked where it cannot be asked."""
    available = _available_memory()
    needed = int(np.prod(shape, dtype=np.int64))
    if available is not None and needed > 0.8 * available:
        raise DataError(
            f"{shape[0]} {role} images at {shape[1]}x{shape[2]} take {needed / 1e9:.1f} GB;"
            f" {available / 1e9:.1f} GB of memory are free",
            hint="choose a smaller --img-size",
        )


def _available_memory() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


class _Progress:
    """A line on standard error, rewritten in place on a terminal; elsewhere a plain one every ten seconds."""

    def __init__(self, what: str, total: int):
        self._what, self._total, self._done = what, total, 0
        self._started = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._next = self._started + (QUIET_SECONDS if self._terminal else 10.0)
        self._shown = False

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now < self._next:
            return
        left = (now - self._started) / self._done * (self._total - self._done)
        line = f"{self._what}: {self._done} of {self._total}, {left:.0f} s left"
        print(f"\r\033[K{line}" if self._terminal else line, end="" if self._terminal else "\n", file=sys.stderr)
        sys.stderr.flush()
        self._shown = True
        self._next = now + (0.2 if self._terminal else 10.0)

    def close(self) -> None:
        if self._shown and self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
