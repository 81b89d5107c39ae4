"""All roles decoded: in memory where that is little, else from the cache file, else as they are asked for."""

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import PIL

from resfit.data.cache import CacheOptions, DoesNotFit, ImageCache, told_bytes
from resfit.data.dataset import ArrayDataset, Skipped
from resfit.data.decoding import (
    ImagesOnDemand,
    Pass,
    available_memory,
    decode_each,
    decode_known,
    decoded_shape,
    digest_each,
    kept_places,
    labelled,
    unreadable,
)
from resfit.data.images import Images, select
from resfit.data.listing import Listing
from resfit.data.preprocessing import Preprocessing
from resfit.data.stored import FORMAT, StoredImages, StoreWriter, stored_bytes
from resfit.errors import DataError

DECODER = 1  # raised when `preprocessing.decode` gives other pixels than before: older files then count no more
ON_DEMAND = "they are decoded whenever they are asked for, which is slower"


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """`datasets` by role; `skipped` what was left out of them; `kept` by role, int64: places in the listing."""

    datasets: Mapping[str, ArrayDataset]
    skipped: tuple[Skipped, ...]
    kept: Mapping[str, np.ndarray]


def load_roles(
    listings: Mapping[str, Listing],
    preprocessing: Preprocessing,
    *,
    max_unreadable: float = 0.0,
    cache: CacheOptions | None = None,
) -> Loaded:
    """The images of every role in `listings`, decoded to what `preprocessing` says.

    Up to `cache.memory_bytes` stay in memory; more go to cache files, whose size is told on standard error
    before they are written; where they would not fit, which is told too, images are checked once and decoded
    anew whenever they are asked for.

    Unreadable images are left out up to the share `max_unreadable` (0..1) of all. DataError naming up to ten
    of them beyond that, or naming a class that loses its last image in a role.
    """
    options = cache or CacheOptions()
    loader = _Loader(listings, preprocessing, max_unreadable)
    needed = sum(int(np.prod(loader.shape(role), dtype=np.int64)) for role in listings)
    free = available_memory()
    if needed <= options.memory_bytes and (free is None or needed <= free // 2):
        found = {role: loader.in_memory(role) for role in listings}
    else:
        found = loader.through_cache(ImageCache(options))
    return loader.loaded(found)


@final
class _Loader:
    """The ways to a role's images: each gives those at every place of its listing, and what the pass found."""

    def __init__(self, listings: Mapping[str, Listing], preprocessing: Preprocessing, max_unreadable: float):
        self._listings, self._preprocessing = listings, preprocessing
        self._most_failures = max_unreadable * sum(len(listing) for listing in listings.values())
        self._failures: dict[str, Mapping[int, str]] = {}

    def shape(self, role: str) -> tuple[int, ...]:
        return decoded_shape(len(self._listings[role]), self._preprocessing)

    def in_memory(self, role: str) -> tuple[Images, Pass]:
        images = np.empty(self.shape(role), dtype=np.uint8)
        return images, self._decode(role, images.__setitem__)

    def on_demand(self, role: str) -> tuple[Images, Pass]:
        """Decodes all once, to know which cannot be used, and keeps none."""
        found = self._decode(role, lambda _index, _image: None)
        return ImagesOnDemand(self._listings[role], self._preprocessing, found.digests), found

    def through_cache(self, cache: ImageCache) -> dict[str, tuple[Images, Pass]]:
        """Files that are there are opened; what those to write will take is told before the first is written."""
        size = sum(stored_bytes(self.shape(role)) for role in self._listings)
        try:
            allowed = cache.allowed_bytes()
            if size > allowed:
                raise DoesNotFit(f"{told_bytes(allowed)} are allowed in {cache.folder}")
            digests = {role: digest_each(listing, role=role).digests for role, listing in self._listings.items()}
            opened = {role: cache.find(*self._entry(role, digests[role])) for role in digests}
        except DoesNotFit as reason:
            return self._all_on_demand(size, reason)
        missing = sum(stored_bytes(self.shape(role)) for role, images in opened.items() if images is None)
        if missing:
            print(
                f"the decoded images take {told_bytes(missing)} in {cache.folder}"
                f" (all files there: at most {told_bytes(allowed)})",
                file=sys.stderr,
            )
        return {role: self._cached(cache, role, digests[role], images) for role, images in opened.items()}

    def _all_on_demand(self, size: int, reason: DoesNotFit) -> dict[str, tuple[Images, Pass]]:
        print(f"the images take {told_bytes(size)} decoded and are not cached: {reason}; {ON_DEMAND}", file=sys.stderr)
        return {role: self.on_demand(role) for role in self._listings}

    def _cached(
        self, cache: ImageCache, role: str, digests: np.ndarray, images: StoredImages | None
    ) -> tuple[Images, Pass]:
        def fill(writer: StoreWriter) -> Mapping[int, str]:
            found = self._decode(role, writer.write)
            kept = kept_places(len(digests), found.failures)
            changed = kept[(found.digests[kept] != digests[kept]).any(axis=1)]
            if len(changed):
                raise DataError(f"{self._listings[role].names[changed[0]]}: changed while it was read")
            return found.failures

        if images is None:
            key, shape, again = self._entry(role, digests)
            try:
                images = cache.make(key, shape, fill, again)
            except DoesNotFit as reason:
                print(f"the {role} images are not cached: {reason}; {ON_DEMAND}", file=sys.stderr)
                return self.on_demand(role)
        self._check(role, images.failures)
        return images, Pass(digests=digests, failures=images.failures)

    def _entry(self, role: str, digests: np.ndarray) -> tuple[str, tuple[int, ...], Callable[[int], np.ndarray]]:
        """Key, shape, and how an image is decoded again: what the cache needs to know of a role."""
        listing, preprocessing = self._listings[role], self._preprocessing
        shape = self.shape(role)
        kind = repr((FORMAT, DECODER, PIL.__version__, shape, preprocessing.fit))
        key = hashlib.sha256(kind.encode() + digests.tobytes()).hexdigest()
        return key, shape, lambda index: decode_known(listing, preprocessing, index, digests[index])

    def _decode(self, role: str, keep: Callable[[int, np.ndarray], None]) -> Pass:
        found = decode_each(self._listings[role], self._preprocessing, role=role, keep=keep)
        self._check(role, found.failures)
        return found

    def _check(self, role: str, failures: Mapping[int, str]) -> None:
        """DataError when more images than allowed cannot be used, or a class has lost its last one."""
        listing = self._listings[role]
        self._failures[role] = failures
        if sum(map(len, self._failures.values())) > self._most_failures:
            raise unreadable(listing, failures, role)
        left = listing.targets[kept_places(len(listing), failures)]
        lost = np.setdiff1d(listing.targets, left).tolist()
        if lost:
            raise DataError(
                f"no {role} image of {', '.join(listing.labels[target] for target in lost[:10])} can be used",
                hint=unreadable(listing, failures, role).message,
            )

    def loaded(self, found: Mapping[str, tuple[Images, Pass]]) -> Loaded:
        kept = {role: kept_places(len(images), each.failures) for role, (images, each) in found.items()}
        datasets = {
            role: labelled(
                images if len(kept[role]) == len(images) else select(images, kept[role]),
                self._listings[role],
                each.digests,
                kept[role],
            )
            for role, (images, each) in found.items()
        }
        skipped = tuple(
            Skipped(name=self._listings[role].names[index], role=role, reason=each.failures[index])
            for role, (_, each) in found.items()
            for index in sorted(each.failures)
        )
        return Loaded(datasets=datasets, skipped=skipped, kept=kept)
