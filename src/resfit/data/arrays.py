"""NumPy arrays of images and labels: .npz files as people write them, and pairs of .npy files.

A pair is told by its names: `images` and `labels`, `x` and `y`, `data` and `target`, with the split before or
after (`x_train`, `test_images`), or by its file's or folder's name (`train.npz`, `train/images.npy`).
"""

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resfit.data.array_images import ImageArray
from resfit.data.folders import entries_of
from resfit.data.listing import Listing
from resfit.data.origin import SPLIT_NAMES, WHOLE, Origin, common_labels, declared_split
from resfit.data.stored_arrays import StoredArray, open_npy, open_npz
from resfit.errors import DataError

IMAGE_NAMES = ("images", "image", "imgs", "img", "x", "data", "arr_0")
LABEL_NAMES = ("labels", "label", "y", "targets", "target", "classes", "arr_1")
CLASS_NAMES = ("label_names", "class_names", "names", "target_names")
EXPECTED = "expected: arrays named images and labels, or x_train, y_train, x_test and y_test"


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """Images and labels of one split; `where` names their file."""

    images: StoredArray
    labels: StoredArray
    where: str


def array_files(root: Path) -> list[Path]:
    """The .npz and .npy files in `root`, or else those in the folders below it, in name order."""
    entries = entries_of(root)
    below = (path for folder in entries if folder.is_dir() for path in entries_of(folder))
    return _arrays_among(entries) or _arrays_among(below)


def _arrays_among(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in (".npz", ".npy")]


def list_arrays(root: Path, paths: list[Path]) -> Origin:
    """The splits that arrays in `paths`, files in the folder `root`, declare by their names.

    Images are uint8, other whole numbers of 0..255, 16-bit, true and false, or fractions of 0..1; (N, height,
    width), with 1, 3 or 4 channels first or last. Labels are whole numbers, text, or one row a class with a
    single 1. DataError for arrays that are neither, of different lengths, or whose names tell no pair.
    """
    arrays = _named_arrays(root, paths)
    pairs = _pairs(arrays)
    if not pairs:
        titles = ", ".join(f"{where}: {array.name}" for where, array in list(arrays.values())[:10])
        raise DataError(f"{root} holds no pair of images and labels ({titles or 'no arrays'})", hint=EXPECTED)
    names = _class_names(arrays)
    texts = {role: _label_texts(pair, names) for role, pair in pairs.items()}
    where = {role: pair.where if role == WHOLE else f"{role} in {pair.where}" for role, pair in pairs.items()}
    labels = common_labels({where[role]: set(texts[role]) for role in pairs})
    if set(labels) <= set(names):
        labels = tuple(name for name in names if name in set(labels))  # the order the numbers refer to
    images = {role: ImageArray(pair.images, pair.where) for role, pair in pairs.items()}
    return Origin(
        labels=labels,
        listings={role: _listing_of(images[role], texts[role], labels, role) for role in pairs},
        where=where,
        basis="image content",
    )


def _named_arrays(root: Path, paths: list[Path]) -> dict[str, tuple[str, StoredArray]]:
    """Full name -> (file, array); the full name holds what the file or its folder says of the split."""
    found: dict[str, tuple[str, StoredArray]] = {}
    for path in paths:
        opened = open_npz(path) if path.suffix.lower() == ".npz" else {path.stem: open_npy(path)}
        role = declared_split(path.stem) if path.suffix.lower() == ".npz" else None
        role = role or (declared_split(path.parent.name) if path.parent != root else None)
        for name, array in opened.items():
            full = f"{role}_{name}" if role is not None and declared_split(name) is None else name
            if full in found:
                raise DataError(f"{found[full][0]} and {path.name} both hold {name}", hint=f"name one of them: {path}")
            found[full] = (path.relative_to(root).as_posix(), array)
    return found


def _pairs(arrays: Mapping[str, tuple[str, StoredArray]]) -> dict[str, Pair]:
    """Role (or `WHOLE`) -> its pair; DataError where several arrays could be the images or labels of a role.

    Where several names fit, shapes decide: images have three or four axes, and there are as many labels.
    """
    by_role: dict[str, dict[str, str]] = {}
    for name in arrays:
        role, rest = _split_of(name)
        by_role.setdefault(role, {})[name] = rest
    pairs = {role: pair for role, names in by_role.items() if (pair := _pair(arrays, names)) is not None}
    if WHOLE in pairs and len(pairs) > 1:
        raise DataError(f"{pairs[WHOLE].images.name} names no split, others do: {', '.join(pairs)}", hint=EXPECTED)
    return pairs


def _pair(arrays: Mapping[str, tuple[str, StoredArray]], names: Mapping[str, str]) -> Pair | None:
    """The pair among the arrays of one role; `names` maps full names to those without the role."""
    images = _one(arrays, [name for name, rest in names.items() if rest in IMAGE_NAMES], _holds_images)
    if images is None:
        return None
    where, array = arrays[images]
    fitting = [name for name, rest in names.items() if rest in LABEL_NAMES]
    labels = _one(arrays, fitting, lambda other: len(other) == len(array))
    return None if labels is None else Pair(images=array, labels=arrays[labels][1], where=where)


def _holds_images(array: StoredArray) -> bool:
    return len(array.shape) in (3, 4)


def _one(
    arrays: Mapping[str, tuple[str, StoredArray]], names: list[str], fits: Callable[[StoredArray], bool]
) -> str | None:
    """The name that is meant, None without any; of several the one that fits."""
    chosen = names if len(names) < 2 else [name for name in names if fits(arrays[name][1])] or names
    if len(chosen) > 1:
        raise DataError(f"several arrays could be meant: {', '.join(chosen)}", hint=EXPECTED)
    return chosen[0] if chosen else None


def _split_of(name: str) -> tuple[str, str]:
    """(role or `WHOLE`, what remains) of an array's name: `x_train` is train's `x`."""
    parts = re.split(r"[-_. ]+", name.lower())
    kept = [part for part in parts if part not in SPLIT_NAMES]
    return (declared_split(name) or WHOLE), "_".join(kept)


def _class_names(arrays: Mapping[str, tuple[str, StoredArray]]) -> tuple[str, ...]:
    """Class names in the order of their numbers, where an array of text holds them."""
    for name, (_, array) in arrays.items():
        if _split_of(name)[1] in CLASS_NAMES and array.dtype.kind in "US" and len(array.shape) == 1:
            return tuple(_texts(array.read(0, len(array))))
    return ()


def _texts(values: np.ndarray) -> list[str]:
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values.tolist()]


def _label_texts(pair: Pair, names: tuple[str, ...]) -> list[str]:
    """The class of every image by name: a number is the name's place where names are known."""
    if len(pair.images) != len(pair.labels):
        raise DataError(f"{pair.where}: {len(pair.images)} images, but {len(pair.labels)} labels")
    values = pair.labels.read(0, len(pair.labels))
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and values.dtype.kind in "biuf":
        single = (values == 1).sum(axis=1) == 1
        if not (single & ((values == 0) | (values == 1)).all(axis=1)).all():
            raise DataError(
                f"{pair.where}: labels of several columns, but not one 1 a row: one class an image expected"
            )
        values = values.argmax(axis=1)
    if values.ndim == 1 and values.dtype.kind in "US":
        return _texts(values)
    if values.ndim != 1 or values.dtype.kind not in "biuf" or not (values == np.floor(values)).all():
        raise DataError(
            f"{pair.where}: labels {values.dtype} {values.shape}: one whole number or text an image expected"
        )
    numbers = [int(value) for value in values.tolist()]
    if not names:
        return [str(number) for number in numbers]
    unknown = sorted({number for number in numbers if not 0 <= number < len(names)})
    if unknown:
        raise DataError(f"{pair.where}: labels that name no class: {', '.join(map(str, unknown[:10]))}")
    return [names[number] for number in numbers]


def _listing_of(images: ImageArray, texts: list[str], labels: tuple[str, ...], role: str) -> Callable[[], Listing]:
    @functools.cache
    def make() -> Listing:
        place = {label: target for target, label in enumerate(labels)}
        return Listing(
            names=tuple(f"{images.where}#{role}/{index}" for index in range(len(texts))),
            keys=tuple(hashlib.sha256(images.encoded(index)).hexdigest() for index in range(len(texts))),
            targets=np.array([place[text] for text in texts], dtype=np.int64),
            labels=labels,
            read=images.encoded,
        )

    return make
