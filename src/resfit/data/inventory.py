"""Everything that lies at a path, listed although training would refuse it: what an audit goes through."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import ExifTags

from resfit.data.folders import EXTENSIONS, LAYOUT, holds_images
from resfit.data.formats import origin_of
from resfit.data.listing import Listing, read_file
from resfit.data.origin import SPLIT_NAMES, WHOLE
from resfit.data.parquet import parquet_files
from resfit.data.preprocessing import fit_image, open_image
from resfit.data.tables import follows_folders, labelled_tables, metadata_tables
from resfit.data.thumbnails import SMALL
from resfit.errors import DataError

UNLABELLED = "(no class)"  # of images that lie in no class folder


@dataclass(frozen=True, kw_only=True, eq=False)
class Inventory:
    """All images of all splits, none decoded.

    `listing` holds them one split after the other, `split_of` int64 (N,) the place in `splits` of each;
    `declared` the classes a split names, those without an image included; `ignored` the entries that are no
    images; `refusal` why training would refuse the data as a whole, or "".
    """

    listing: Listing
    split_of: np.ndarray
    splits: tuple[str, ...]
    declared: dict[str, tuple[str, ...]]
    ignored: tuple[str, ...]
    refusal: str


def take_inventory(data: str | Path) -> Inventory:
    """The images of `data`, any kind that can be trained on, and of folders in any state.

    UsageError where there is nothing of the kind; DataError for a folder without a single image, and for a
    table, parquet file or archive that cannot be read as such.
    """
    folder = Path(data).expanduser()
    in_class_folders = _in_class_folders(folder)
    try:
        origin = origin_of(str(data))
    except DataError as error:
        if not in_class_folders:
            raise
        return _of_folder(folder, error.message)
    if in_class_folders:
        return _of_folder(folder, "")
    listings = {split: make() for split, make in origin.listings.items()}
    declared = {split: _present(listing) for split, listing in listings.items()}
    return _joined(listings, origin.labels, declared, (), "")


def picture(inventory: Inventory, index: int, *, edge: int) -> np.ndarray | None:
    """Image `index` for people: uint8 (height, width, 3), its longer side at most `edge`; None if it is unreadable."""
    try:
        with open_image(inventory.listing.read(index)) as image:
            image.draft(None, (edge, edge))
            width, height = _within(image.size, edge)
            if image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:  # it lies on its side
                width, height = height, width
            return fit_image(image, replace(SMALL, width=width, height=height))
    except Exception:  # as many kinds as in decoding; the audit names the image and why
        return None


def _within(size: tuple[int, int], edge: int) -> tuple[int, int]:
    scale = min(1.0, edge / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _present(listing: Listing) -> tuple[str, ...]:
    return tuple(listing.labels[target] for target in np.unique(listing.targets).tolist())


def _joined(
    listings: dict[str, Listing],
    labels: tuple[str, ...],
    declared: dict[str, tuple[str, ...]],
    ignored: tuple[str, ...],
    refusal: str,
) -> Inventory:
    parts = list(listings.values())
    ends = np.cumsum([len(part) for part in parts])

    def read(index: int) -> bytes:
        place = int(np.searchsorted(ends, index, side="right"))
        return parts[place].read(index - (int(ends[place - 1]) if place else 0))

    return Inventory(
        listing=Listing(
            names=tuple(name for part in parts for name in part.names),
            keys=tuple(key for part in parts for key in part.keys),
            targets=np.concatenate([part.targets for part in parts]),
            labels=labels,
            read=read,
        ),
        split_of=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        splits=tuple(listings),
        declared=declared,
        ignored=ignored,
        refusal=refusal,
    )


def _in_class_folders(path: Path) -> bool:
    """Whether `path` is a folder of images that nothing but its sub-folders' names label."""
    if not path.is_dir():
        return False
    try:
        if metadata_tables(path) or parquet_files(path):
            return False
        tables = labelled_tables(path)
    except (DataError, OSError):
        return False
    return holds_images(path) and (not tables or follows_folders(tables))


def _of_folder(root: Path, refusal: str) -> Inventory:
    """Class folders in any state: splits that differ, empty classes, one class, images beside the folders."""
    ignored: list[str] = []
    files = {split: _classes(folder, ignored) for split, folder in _split_folders(root, ignored).items()}
    labels = tuple(sorted({label for classes in files.values() for label in classes}))
    place = {label: target for target, label in enumerate(labels)}
    listings = {split: _listing(classes, labels, place) for split, classes in files.items()}
    if not any(len(listing) for listing in listings.values()):
        raise DataError(f"{root} holds no images", hint=LAYOUT)
    declared = {split: tuple(classes) for split, classes in files.items()}
    return _joined(listings, labels, declared, tuple(ignored), refusal)


def _listing(classes: dict[str, list[Path]], labels: tuple[str, ...], place: dict[str, int]) -> Listing:
    paths = [path for images in classes.values() for path in images]
    return Listing(
        names=tuple(str(path) for path in paths),
        keys=tuple(f"{path.parent.name}/{path.name}" for path in paths),
        targets=np.array([place[label] for label, images in classes.items() for _ in images], dtype=np.int64),
        labels=labels,
        read=lambda index: read_file(paths[index]),
    )


def _split_folders(root: Path, ignored: list[str]) -> dict[str, Path]:
    """Split name -> folder; two folders for one role are both kept, under their own names."""
    inside = [entry for entry in _entries(root, ignored) if entry.is_dir()]
    named = [entry for entry in inside if entry.name.lower() in SPLIT_NAMES]
    if not any(entry.is_dir() for folder in named for entry in _entries(folder, [])):
        return {WHOLE: root}
    roles = [SPLIT_NAMES[entry.name.lower()] for entry in named]
    splits = {role if roles.count(role) == 1 else entry.name: entry for role, entry in zip(roles, named, strict=True)}
    ignored.extend(str(entry) for entry in _entries(root, []) if entry not in named)
    return splits


def _classes(folder: Path, ignored: list[str]) -> dict[str, list[Path]]:
    """Class name -> its images, empty ones too; images beside the class folders are listed without a class."""
    classes: dict[str, list[Path]] = {}
    loose: list[Path] = []
    for entry in _entries(folder, ignored):
        if entry.is_dir():
            classes[entry.name] = list(_images(_entries(entry, ignored), ignored))
        else:
            loose.extend(_images([entry], ignored))
    if not classes and loose:
        return {UNLABELLED: loose}
    ignored.extend(map(str, loose))
    return classes


def _images(entries: list[Path], ignored: list[str]) -> Iterator[Path]:
    for entry in entries:
        if entry.suffix.lower() in EXTENSIONS and not entry.is_dir():
            yield entry  # a broken link too, so that reading names it
        else:
            ignored.append(str(entry))


def _entries(folder: Path, ignored: list[str]) -> list[Path]:
    """What a folder holds, in string order, without hidden files; a folder that cannot be read is ignored."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        ignored.append(str(folder))
        return []
    return [folder / name for name in names if not name.startswith(".") and name != "Thumbs.db"]
