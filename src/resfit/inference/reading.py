"""Encoded pictures to batches of decoded ones: on a pool of threads, ahead of the session, in order.

Pillow decodes outside Python's lock, and runtimes run outside it too, so that the next pictures are decoded
while the session works.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from resfit.data.decoding import available_processors
from resfit.data.preprocessing import Decoding, Preprocessing, decode, reason
from resfit.errors import DataError
from resfit.inference.inputs import Picture

BATCHES_AHEAD = 2  # decoded or being decoded: one for the session, one that fills while it runs


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Pictures that follow each other: the names of all, uint8 (readable, height, width, channels) of those that
    can be read, and position -> reason of the others."""

    names: tuple[str, ...]
    images: np.ndarray
    errors: Mapping[int, str]


def read_batches(
    pictures: Iterable[Picture],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    decoding: Decoding = "exact",
    readers: int | None = None,
) -> Iterator[Batch]:
    """Batches of `batch_size` pictures, the last one smaller, in the order given.

    readers: threads that decode; by default one for each processor this process may use. Pictures are taken
    from the iterator as they are needed, and no more than BATCHES_AHEAD batches are held beside the one that
    was given out last.
    """
    remaining = iter(pictures)
    ahead: deque[tuple[str, Future[np.ndarray]]] = deque()
    pool = ThreadPoolExecutor(readers or available_processors(), thread_name_prefix="resfit-reader")
    try:
        while True:
            for picture in islice(remaining, BATCHES_AHEAD * batch_size - len(ahead)):
                ahead.append((picture.name, pool.submit(_decoded, picture, preprocessing, decoding)))
            if not ahead:
                return
            yield _batch([ahead.popleft() for _ in range(min(batch_size, len(ahead)))], preprocessing)
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for all that is queued


def _decoded(picture: Picture, preprocessing: Preprocessing, decoding: Decoding) -> np.ndarray:
    try:
        encoded = picture.read()
    except OSError as error:
        raise DataError(f"{picture.name}: {reason(error)}") from error
    return decode(encoded, preprocessing, name=picture.name, decoding=decoding)


def _batch(waiting: list[tuple[str, "Future[np.ndarray]"]], preprocessing: Preprocessing) -> Batch:
    names = tuple(name for name, _ in waiting)
    images: list[np.ndarray] = []
    errors: dict[int, str] = {}
    for position, (name, reading) in enumerate(waiting):
        try:
            images.append(reading.result())
        except DataError as error:
            errors[position] = error.message.removeprefix(f"{name}: ")
    shape = preprocessing.height, preprocessing.width, preprocessing.channels
    stacked = np.stack(images) if images else np.empty((0, *shape), np.uint8)
    return Batch(names=names, images=stacked, errors=errors)
