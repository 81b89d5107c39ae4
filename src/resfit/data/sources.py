"""`open_data`: a name or path to three roles of decoded, labelled images."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from resfit.data.dataset import ROLES, ArrayDataset, Splits
from resfit.data.decoding import decode_listing
from resfit.data.digits import list_digits
from resfit.data.folders import list_folder
from resfit.data.listing import Listing
from resfit.data.origin import WHOLE, Origin
from resfit.data.parquet import list_parquet, parquet_files
from resfit.data.preprocessing import Preprocessing
from resfit.data.splitting import cut_test, cut_validation
from resfit.data.statistics import SAMPLED, channel_statistics, own_shape, spread
from resfit.errors import DataError, UsageError, nearest

EMBEDDED = "digits"
STATISTICS_PART = 500  # images decoded at once for statistics alone


def open_data(
    data: str | Path,
    *,
    img_size: int | None = None,
    channels: int | None = None,
    split_seed: int = 0,
    preprocessing: Preprocessing | None = None,
    roles: Iterable[str] = ROLES,
) -> Splits:
    """Decode `data`: "digits", a folder of classes, or Hugging Face parquet (a folder or one file).

    `img_size` (pixels, square) and `channels` (1 or 3) default to the images' own where they share them, else
    224 and RGB. A trained model's `preprocessing` replaces both and the statistics. Only `roles` are decoded.
    `split_seed` decides cuts and is no run's seed: with a fixed one, a model tested later is tested on images
    it never saw. UsageError for a path or size that cannot be; DataError for images or labels that cannot.
    """
    wanted = tuple(roles)
    unknown = [role for role in wanted if role not in ROLES]
    if unknown or not wanted:
        raise UsageError(f"roles {wanted}: some of {', '.join(ROLES)} expected")
    if channels not in (None, 1, 3):
        raise UsageError(f"channels {channels!r}: 1 (grey) or 3 (RGB) expected")
    origin = _origin(str(data))
    needed = set(wanted) if preprocessing is not None else {*wanted, "train"}
    listings, sources = _assign(origin, needed=needed, wanted=wanted, seed=split_seed)
    basis = listings.get("train", next(iter(listings.values())))
    shape = _shape(origin, img_size=img_size, channels=channels, preprocessing=preprocessing)
    decoded = {role: decode_listing(listings[role], shape, role=role) for role in ROLES if role in wanted}
    if preprocessing is None:
        shape = _with_statistics(basis, shape, decoded.get("train"))
    return Splits(
        train=decoded.get("train"),
        validation=decoded.get("validation"),
        test=decoded.get("test"),
        labels=origin.labels,
        sources={role: sources[role] for role in wanted},
        preprocessing=shape,
    )


def image_shape(data: str | Path) -> tuple[int, int, int]:
    """(height, width, channels) that `open_data` would decode `data` to by itself; no image is decoded."""
    return _own_shape(_origin(str(data)))


def _own_shape(origin: Origin) -> tuple[int, int, int]:
    basis = next((name for name in ("train", WHOLE) if name in origin.listings), next(iter(origin.listings)))
    return own_shape(origin.listings[basis]())


def _origin(data: str) -> Origin:
    if data == EMBEDDED:
        if Path(data).is_dir():
            print(f"{data}: the embedded digits; write ./{data} for the folder", file=sys.stderr)
        digits = list_digits()
        return Origin(
            labels=digits.labels,
            listings={WHOLE: lambda: digits},
            where={WHOLE: "scikit-learn's digits"},
            basis="image content",
        )
    path = Path(data).expanduser()
    if path.is_dir():
        files = parquet_files(path)
        return list_parquet(files) if files else list_folder(path)
    if path.is_file() and path.suffix.lower() == ".parquet":
        return list_parquet([path])
    if path.exists():
        raise UsageError(f"{data}: a folder of images, a parquet file or {EMBEDDED} expected")
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UsageError(f"no data at {data}", hint=nearest(path.name, [EMBEDDED, *siblings[:1000]]))


def _assign(
    origin: Origin, *, needed: set[str], wanted: tuple[str, ...], seed: int
) -> tuple[dict[str, Listing], dict[str, str]]:
    """Role -> listing for `needed` roles (those of `wanted` must exist), and role -> where it came from.

    Train with one more split: that is the test, and validation is cut from train. All three: each as it says.
    One set alone is cut in three.
    """
    declared, where = origin.listings, origin.where
    whole = next((name for name in (WHOLE, "train") if tuple(declared) == (name,)), None)
    listings: dict[str, Listing] = {}
    sources: dict[str, str] = {}
    if whole is not None:
        rest, test = _cut(declared[whole](), cut_test, seed)
        listings["train"], listings["validation"] = _cut(rest, cut_validation, seed)
        listings["test"] = test
        sources = _cut_sentences(where[whole], origin.basis, seed)
        sources["test"] = f"20 % of {where[whole]}, a class at a time, chosen by hashes of {origin.basis}"
    elif set(declared) == set(ROLES) or "train" not in declared:
        sources = dict(where)
        listings = {role: declared[role]() for role in declared if role in needed}
        if len(declared) == 1:  # validation images alone can only serve as a test
            only = next(iter(declared))
            listings, sources = {"test": declared[only]()}, {"test": where[only]}
    else:
        other = next(role for role in declared if role != "train")
        sources = _cut_sentences(where["train"], origin.basis, seed) | {"test": where[other]}
        if needed & {"train", "validation"}:
            listings["train"], listings["validation"] = _cut(declared["train"](), cut_validation, seed)
        if "test" in needed:
            listings["test"] = declared[other]()
    for role in wanted:
        if role not in listings or not len(listings[role]):
            raise DataError(f"there are no {role} images in this data (splits: {', '.join(where.values())})")
    if "train" in listings and "train" in wanted:
        _refuse_untaught(listings["train"])
    return listings, sources


def _cut(listing: Listing, how: Callable[..., tuple[np.ndarray, np.ndarray]], seed: int) -> tuple[Listing, Listing]:
    kept, cut_off = how(listing.keys, listing.targets, seed=seed)
    return listing.subset(kept), listing.subset(cut_off)


def _cut_sentences(where: str, basis: str, seed: int) -> dict[str, str]:
    return {
        "train": f"{where}, without what is cut off for other roles",
        "validation": (
            f"10 % of the training images of {where} (at most 2,500), a class at a time,"
            f" chosen by hashes of {basis} (split seed {seed})"
        ),
    }


def _refuse_untaught(train: Listing) -> None:
    counts = np.bincount(train.targets, minlength=len(train.labels))
    untaught = [train.labels[target] for target in np.flatnonzero(counts == 0)]
    if untaught:
        raise DataError(f"classes without a training image: {', '.join(untaught[:10])}")


def _shape(
    origin: Origin, *, img_size: int | None, channels: int | None, preprocessing: Preprocessing | None
) -> Preprocessing:
    """What to decode to; without a model's preprocessing its statistics are placeholders still."""
    if img_size is not None and (not isinstance(img_size, int) or img_size < 1):
        raise UsageError(f"image size {img_size!r}: a whole number of pixels above 0 expected")
    if preprocessing is not None:
        if channels not in (None, preprocessing.channels):
            raise UsageError(f"channels {channels}: the model reads {preprocessing.channels}")
        return replace(preprocessing, height=img_size or preprocessing.height, width=img_size or preprocessing.width)
    height, width, own_channels = _own_shape(origin)
    count = channels or own_channels
    return Preprocessing(
        height=img_size or height,
        width=img_size or width,
        channels=count,
        mean=(0.0,) * count,
        std=(1.0,) * count,
    )


def _with_statistics(listing: Listing, shape: Preprocessing, train: ArrayDataset | None) -> Preprocessing:
    """Mean and deviation of up to 5,000 training images, the same whether or not train was decoded."""
    sample = spread(len(listing), SAMPLED)
    parts = [sample[start : start + STATISTICS_PART] for start in range(0, len(sample), STATISTICS_PART)]
    if train is not None:
        mean, std = channel_statistics(train.images[part] for part in parts)
    else:
        chosen = (listing.subset(part) for part in parts)
        mean, std = channel_statistics(decode_listing(part, shape, role="train").images for part in chosen)
    return replace(shape, mean=mean, std=std)
