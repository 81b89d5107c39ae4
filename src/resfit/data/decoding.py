"""Encoded images to uint8 arrays, on a pool of threads (Pillow decodes outside Python's lock)."""

import hashlib
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import numpy as np

from resfit.data.dataset import ArrayDataset
from resfit.data.images import Images, IndexedImages
from resfit.data.listing import Listing
from resfit.data.preprocessing import Preprocessing, decode
from resfit.errors import DataError

CHUNK = 64  # images a task: small enough for progress, large enough that handing out tasks costs nothing
MAX_NAMED = 10
QUIET_SECONDS = 1.0  # no progress for what is done sooner


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """What one pass over a listing found: the sha256 of each encoded image, uint8 (N, 32), zeros where it cannot
    be used; and place -> reason of those images."""

    digests: np.ndarray
    failures: Mapping[int, str]


def decode_listing(
    listing: Listing, preprocessing: Preprocessing, *, role: str, max_unreadable: float = 0.0
) -> ArrayDataset:
    """All images of `listing`, decoded into memory; `role` names them in progress and errors.

    Unreadable images are left out up to the share `max_unreadable`; DataError names the first ten beyond that.
    """
    images = np.empty(decoded_shape(len(listing), preprocessing), dtype=np.uint8)
    found = decode_each(listing, preprocessing, role=role, keep=images.__setitem__)
    if len(found.failures) > max_unreadable * len(listing):
        raise unreadable(listing, found.failures, role)
    kept = kept_places(len(listing), found.failures)
    return labelled(images if len(kept) == len(images) else images[kept], listing, found.digests, kept)


def decoded_shape(count: int, preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """(N, height, width, channels) of `count` images decoded to what `preprocessing` says."""
    return count, preprocessing.height, preprocessing.width, preprocessing.channels


def labelled(images: Images, listing: Listing, digests: np.ndarray, kept: np.ndarray) -> ArrayDataset:
    """The data set of `images`, which are those of `listing` at the places `kept`; `digests` are all of its.

    The fingerprint covers each image's name, label and encoded bytes, not the size decoded to.
    """
    chosen = listing if len(kept) == len(listing) else listing.subset(kept)
    return ArrayDataset(
        images=images,
        targets=chosen.targets,
        labels=chosen.labels,
        fingerprint=_fingerprint(chosen, digests[kept]),
        names=chosen.names,
        digests=digests[kept],
    )


def kept_places(count: int, failures: Iterable[int]) -> np.ndarray:
    """int64: 0..count-1 without the places in `failures`."""
    return np.setdiff1d(np.arange(count), np.fromiter(failures, dtype=np.int64))


def decode_each(
    listing: Listing, preprocessing: Preprocessing, *, role: str, keep: Callable[[int, np.ndarray], None]
) -> Pass:
    """Decodes every image once and hands it to `keep(place, image)`, from several threads.

    Images that cannot be used are in the result. What else `keep` raises ends the pass.
    """

    def one(index: int) -> bytes:
        encoded = _read(listing, index)
        keep(index, decode(encoded, preprocessing, name=listing.names[index]))
        return hashlib.sha256(encoded).digest()

    return each_image(listing, one, f"decoding {role} images")


def digest_each(listing: Listing, *, role: str) -> Pass:
    """Reads every encoded image once, for its digest."""
    return each_image(listing, lambda index: hashlib.sha256(_read(listing, index)).digest(), f"reading {role} images")


def each_image(listing: Listing, one: Callable[[int], bytes], what: str) -> Pass:
    """Calls `one` for each index on a pool of threads: the digests (32 bytes) it returns, and why others failed."""
    digests = np.zeros((len(listing), 32), dtype=np.uint8)
    failures: dict[int, str] = {}

    def work(start: int) -> int:
        stop = min(start + CHUNK, len(listing))
        for index in range(start, stop):
            try:
                digests[index] = np.frombuffer(one(index), dtype=np.uint8)
            except DataError as error:
                failures[index] = error.message.removeprefix(f"{listing.names[index]}: ")
        return stop - start

    progress = _Progress(what, len(listing))
    pool = ThreadPoolExecutor(available_processors())
    try:
        for done in pool.map(work, range(0, len(listing), CHUNK)):
            progress.advance(done)
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for all that is queued
        progress.close()
    return Pass(digests=digests, failures=failures)


def decode_known(listing: Listing, preprocessing: Preprocessing, index: int, digest: np.ndarray) -> np.ndarray:
    """One image decoded again; DataError if its bytes are no longer those of `digest`, uint8 (32,)."""
    encoded = _read(listing, index)
    if hashlib.sha256(encoded).digest() != digest.tobytes():
        raise DataError(f"{listing.names[index]}: changed since this run first read it")
    return decode(encoded, preprocessing, name=listing.names[index])


@final
class ImagesOnDemand(IndexedImages):
    """The images of a listing, decoded by a pool of threads whenever they are asked for.

    `digests` uint8 (N, 32) are of the bytes first read: DataError for an image that changed since.
    """

    def __init__(self, listing: Listing, preprocessing: Preprocessing, digests: np.ndarray):
        super().__init__(decoded_shape(len(listing), preprocessing))
        self._listing, self._preprocessing, self._digests = listing, preprocessing, digests
        self._pool = ThreadPoolExecutor(available_processors())  # starts its threads when first used
        weakref.finalize(self, self._pool.shutdown, wait=False)

    def _read(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)

        def work(place: int) -> None:
            index = int(indices[place])
            images[place] = decode_known(self._listing, self._preprocessing, index, self._digests[index])

        for _ in self._pool.map(work, range(len(indices))):
            pass
        return images


def available_processors() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(listing: Listing, index: int) -> bytes:
    try:
        return listing.read(index)
    except OSError as error:
        raise DataError(f"{listing.names[index]}: cannot be read ({error.strerror or error})") from error


def unreadable(listing: Listing, failures: Mapping[int, str], role: str) -> DataError:
    """The error that names the first of the images that cannot be used."""
    named = [f"{listing.names[index]}: {failures[index]}" for index in sorted(failures)]
    listed = "\n".join(f"  {message}" for message in named[:MAX_NAMED])
    more = f"\n  and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    return DataError(
        f"{len(named)} of {len(listing)} {role} images cannot be used:\n{listed}{more}",
        hint="mend or remove them, or say which share of unreadable images may be left out",
    )


def _fingerprint(listing: Listing, digests: np.ndarray) -> str:
    """sha256 over name, label and content of every image, independent of order."""
    rows = sorted(
        repr((name, listing.labels[target], digest.tobytes().hex())).encode("utf-8", "backslashreplace")
        for name, target, digest in zip(listing.keys, listing.targets.tolist(), digests, strict=True)
    )
    return hashlib.sha256(b"\n".join(rows)).hexdigest()


def available_memory() -> int | None:
    """Bytes the machine can still give, or None where it cannot be asked."""
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
