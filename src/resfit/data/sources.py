"""`open_data`: a name or path to three roles of decoded, labelled images."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from resfit.data.cache import CacheOptions
from resfit.data.dataset import ROLES, Splits
from resfit.data.formats import origin_of
from resfit.data.listing import Listing
from resfit.data.loading import Loaded, load_roles
from resfit.data.origin import WHOLE, Origin
from resfit.data.preprocessing import Fit, Preprocessing, decode
from resfit.data.roles import assign_roles
from resfit.data.statistics import SAMPLED, Normalize, channel_statistics, own_shape, spread
from resfit.errors import DataError, UsageError

MAX_NAMED = 10
STATISTICS_PART = 500  # images decoded at once for statistics alone


def open_data(
    data: str | Path,
    *,
    img_size: int | None = None,
    channels: int | None = None,
    split_seed: int = 0,
    preprocessing: Preprocessing | None = None,
    roles: Iterable[str] = ROLES,
    fit: Fit = "crop",
    normalize: Normalize = "standardize",
    max_unreadable: float = 0.0,
    cache: CacheOptions | None = None,
) -> Splits:
    """Decode `data`: "digits", or a path of one of the kinds `formats.origin_of` knows.

    `img_size` (pixels, square) and `channels` (1 or 3) default to the images' own where they share them, else
    224 and RGB; `fit` and `normalize` say how images come to the size and what the network subtracts and
    divides by. A trained model's `preprocessing` replaces all four. Only `roles` are decoded, into `cache`
    where they are many. Unreadable images are left out, each named, up to the share `max_unreadable` (0..1).
    `split_seed` decides cuts and is no run's seed: with a fixed one, a model tested later is tested on images
    it never saw. UsageError for a path or value that cannot be; DataError for images or labels that cannot.
    """
    wanted = tuple(roles)
    _check_request(wanted, img_size=img_size, channels=channels, normalize=normalize, max_unreadable=max_unreadable)
    origin = origin_of(str(data))
    needed = set(wanted) if preprocessing is not None else {*wanted, "train"}
    listings, sources = assign_roles(origin, needed=needed, wanted=wanted, seed=split_seed)
    if preprocessing is None:
        shape = _own_preprocessing(origin, img_size=img_size, channels=channels, fit=fit)
    else:
        shape = _given_preprocessing(preprocessing, img_size=img_size, channels=channels)
    chosen = {role: listings[role] for role in ROLES if role in wanted}
    loaded = load_roles(chosen, shape, max_unreadable=max_unreadable, cache=cache)
    _tell_skipped(loaded, num_listed=sum(map(len, chosen.values())))
    if preprocessing is None:
        basis = listings.get("train", next(iter(listings.values())))
        shape = _with_statistics(basis, shape, loaded, normalize)
    splits = Splits(
        train=loaded.datasets.get("train"),
        validation=loaded.datasets.get("validation"),
        test=loaded.datasets.get("test"),
        labels=origin.labels,
        sources={role: sources[role] for role in wanted},
        preprocessing=shape,
        skipped=loaded.skipped,
    )
    _tell_leaks(splits, data)
    return splits


def _tell_leaks(splits: Splits, data: str | Path) -> None:
    if splits.audit["leaks"]:
        print(
            f"{splits.audit['leaks']:,} validation or test images are, byte for byte, in an earlier split too:"
            f" resfit audit {data} names them",
            file=sys.stderr,
        )


def _tell_skipped(loaded: Loaded, *, num_listed: int) -> None:
    count = len(loaded.skipped)
    if count:
        lines = [f"left out {count:,} of {num_listed:,} images ({count / num_listed:.2%}) that cannot be used:"]
        lines += [f"  {image.name} ({image.role}): {image.reason}" for image in loaded.skipped[:MAX_NAMED]]
        lines += [f"  and {count - MAX_NAMED:,} more"] * (count > MAX_NAMED)
        print("\n".join(lines), file=sys.stderr)


def image_shape(data: str | Path) -> tuple[int, int, int]:
    """(height, width, channels) that `open_data` would decode `data` to by itself; no image is decoded."""
    return _own_shape(origin_of(str(data)))


def _own_shape(origin: Origin) -> tuple[int, int, int]:
    basis = next((name for name in ("train", WHOLE) if name in origin.listings), next(iter(origin.listings)))
    return own_shape(origin.listings[basis]())


def _check_request(
    roles: tuple[str, ...], *, img_size: int | None, channels: int | None, normalize: str, max_unreadable: float
) -> None:
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        raise UsageError(f"roles {roles}: some of {', '.join(ROLES)} expected")
    if channels not in (None, 1, 3):
        raise UsageError(f"channels {channels!r}: 1 (grey) or 3 (RGB) expected")
    if img_size is not None and (not isinstance(img_size, int) or img_size < 1):
        raise UsageError(f"image size {img_size!r}: a whole number of pixels above 0 expected")
    if normalize not in get_args(Normalize):
        raise UsageError(f"normalize {normalize!r}: {', '.join(get_args(Normalize))} expected")
    if not 0 <= max_unreadable <= 1:
        raise UsageError(f"max unreadable {max_unreadable!r}: a share from 0 to 1 expected")


def _given_preprocessing(given: Preprocessing, *, img_size: int | None, channels: int | None) -> Preprocessing:
    """A model's own preprocessing, at another size where one is asked for."""
    if channels not in (None, given.channels):
        raise UsageError(f"channels {channels}: the model reads {given.channels}")
    return replace(given, height=img_size or given.height, width=img_size or given.width)


def _own_preprocessing(origin: Origin, *, img_size: int | None, channels: int | None, fit: Fit) -> Preprocessing:
    """What to decode to; its statistics are placeholders still."""
    height, width, own_channels = _own_shape(origin)
    count = channels or own_channels
    return Preprocessing(
        height=img_size or height,
        width=img_size or width,
        channels=count,
        mean=(0.0,) * count,
        std=(1.0,) * count,
        fit=fit,
    )


def _with_statistics(listing: Listing, shape: Preprocessing, loaded: Loaded, normalize: Normalize) -> Preprocessing:
    """Statistics of up to 5,000 training images, the same whether or not train was decoded for itself."""
    sample = spread(len(listing), SAMPLED)
    parts = [sample[start : start + STATISTICS_PART] for start in range(0, len(sample), STATISTICS_PART)]
    mean, std = channel_statistics(_sampled(listing, shape, loaded, parts), normalize)
    return replace(shape, mean=mean, std=std)


def _sampled(listing: Listing, shape: Preprocessing, loaded: Loaded, parts: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Arrays of the readable images at the places of each of `parts` in the training listing."""
    train = loaded.datasets.get("train")
    for part in parts:
        if train is not None:
            kept = loaded.kept["train"]
            yield train.images[np.searchsorted(kept, part[np.isin(part, kept)])]
        else:
            readable = [image for index in part if (image := _readable(listing, int(index), shape)) is not None]
            yield np.stack(readable) if readable else np.empty((0, 1, 1, shape.channels), dtype=np.uint8)


def _readable(listing: Listing, index: int, shape: Preprocessing) -> np.ndarray | None:
    """The image, or None where it cannot be read: it is no part of what was asked for, only of its statistics."""
    try:
        return decode(listing.read(index), shape)
    except (OSError, DataError):
        return None
