"""How a training opens its images, as plain values that request.json keeps and a resume reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resfit.errors import UsageError

GIGABYTE = 1e9
# Of a memory limit: decoded images that are kept in memory; more are read from the cache file
MEMORY_SHARE = 0.1


def opening_of(
    *,
    img_size: int | None,
    fit: str,
    normalize: str,
    max_unreadable: float,
    split_seed: int,
    cache: str | None,
    cache_gb: float | None,
    train_memory_mb: float | None,
) -> dict[str, Any]:
    """The keyword arguments of `open_data` as plain values; UsageError for a cache that cannot be."""
    options: dict[str, Any] = {}
    if cache is not None:
        options["folder"] = cache
    if cache_gb is not None:
        if not 0 <= cache_gb <= 1e6:
            raise UsageError(f"--cache-gb is {cache_gb:g}, expected 0 to 1,000,000")
        options["max_bytes"] = int(cache_gb * GIGABYTE)
    if train_memory_mb is not None:
        options["memory_bytes"] = int(train_memory_mb * 1e6 * MEMORY_SHARE)
    return {
        "img_size": img_size,
        "fit": fit,
        "normalize": normalize,
        "max_unreadable": max_unreadable,
        "split_seed": split_seed,
        "cache": options or None,
    }


def open_as(data: str, opening: Mapping[str, Any], *, channels: int | None) -> Any:
    """The splits of `data`, opened as `opening_of` wrote it down."""
    from resfit.data.cache import CacheOptions
    from resfit.data.sources import open_data

    values = dict(opening)
    options = values.pop("cache", None)
    if options is not None:
        folder = options.get("folder")
        options = CacheOptions(**{**options, "folder": None if folder is None else Path(folder)})
    return open_data(data, channels=channels, cache=options, **values)
