"""How a training opens its images, as plain values that request.json keeps and a resume reads."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resfit.errors import UsageError

if TYPE_CHECKING:
    from resfit.data.preprocessing import Preprocessing  # brings numpy and Pillow, which help does without

DEFAULT_FIT = "crop"
DEFAULT_NORMALIZE = "standardize"
GIGABYTE = 1e9
# Of a memory limit: decoded images that are kept in memory; more are read from the cache file
MEMORY_SHARE = 0.1


def opening_of(
    *,
    img_size: int | None,
    fit: str | None,
    normalize: str | None,
    max_unreadable: float,
    split_seed: int,
    cache: str | None,
    cache_gb: float | None,
    train_memory_mb: float | None,
    source: "Preprocessing | None" = None,
) -> dict[str, Any]:
    """The keyword arguments of `open_data` as plain values; UsageError for a cache that cannot be.

    source: the preprocessing of the weights to start from, which holds but for what is given; with `normalize` the
    mean and deviation are those of the new images.
    """
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
        **_shape(img_size, fit, normalize, source),
        "max_unreadable": max_unreadable,
        "split_seed": split_seed,
        "cache": options or None,
    }


def _shape(
    img_size: int | None, fit: str | None, normalize: str | None, source: "Preprocessing | None"
) -> dict[str, Any]:
    """How images come to numbers, by what is given and what the weights to start from are used to."""
    if source is None:
        return {"img_size": img_size, "fit": fit or DEFAULT_FIT, "normalize": normalize or DEFAULT_NORMALIZE}
    if normalize is None:
        kept = replace(source, fit=fit or source.fit)  # type: ignore[arg-type]
        return {"img_size": img_size, "preprocessing": kept.to_dict()}
    if img_size is None and source.height != source.width:
        raise UsageError(
            f"the weights are used to images of {source.height} x {source.width} pixels, and --normalize measures"
            " square ones",
            hint="give --img-size, or leave --normalize out",
        )
    return {"img_size": img_size or source.height, "fit": fit or source.fit, "normalize": normalize}


def open_as(data: str, opening: Mapping[str, Any], *, channels: int | None) -> Any:
    """The splits of `data`, opened as `opening_of` wrote it down."""
    from resfit.data.cache import CacheOptions
    from resfit.data.preprocessing import Preprocessing
    from resfit.data.sources import open_data

    values = dict(opening)
    if values.get("preprocessing") is not None:
        values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
    options = values.pop("cache", None)
    if options is not None:
        folder = options.get("folder")
        options = CacheOptions(**{**options, "folder": None if folder is None else Path(folder)})
    return open_data(data, channels=channels, cache=options, **values)
