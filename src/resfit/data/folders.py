"""Class folders: `train|val|validation|valid|test/<class>/*`, or one folder of `<class>/*`."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from resfit.data.listing import Listing, read_file
from resfit.data.origin import SPLIT_NAMES, WHOLE, Origin, common_labels
from resfit.errors import DataError

EXTENSIONS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".gif",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".dib",
    ]
)  # compared in lower case
MAX_NAMED = 10
LAYOUT = "expected: FOLDER/<class>/<images>, or FOLDER/train|val|test/<class>/<images>"


def list_folder(root: Path) -> Origin:
    """The splits and classes of `root`; class names in string order.

    DataError for a layout without classes, one class only, a class folder without images, or splits whose
    classes differ. Files that are not images are counted on standard error and left out.
    """
    splits = _split_folders(root)
    ignored: list[Path] = []
    scanned = {role: _classes(folder, ignored) for role, folder in splits.items()}
    labels = tuple(sorted(common_labels({str(splits[role]): tuple(scanned[role]) for role in scanned}, hint=LAYOUT)))
    _tell_ignored(ignored)
    return Origin(
        labels=labels,
        listings={role: _listing_of(classes, labels) for role, classes in scanned.items()},
        where={role: str(root) if role == WHOLE else f"{splits[role].name}/" for role in splits},
        basis="file names",
    )


def holds_images(root: Path, *, depth: int = 2) -> bool:
    """Whether an image file lies in `root` or up to `depth` folders below; links to folders are not entered."""
    for folder, below, names in os.walk(root):
        if any(Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".") for name in names):
            return True
        if len(Path(folder).relative_to(root).parts) >= depth:
            below.clear()
    return False


def _listing_of(classes: dict[str, list[Path]], labels: tuple[str, ...]) -> Callable[[], Listing]:
    @functools.cache
    def make() -> Listing:
        paths = [path for label in labels for path in classes[label]]
        targets = [target for target, label in enumerate(labels) for _ in classes[label]]
        return Listing(
            names=tuple(str(path) for path in paths),
            keys=tuple(f"{path.parent.name}/{path.name}" for path in paths),
            targets=np.array(targets, dtype=np.int64),
            labels=labels,
            read=lambda index: read_file(paths[index]),
        )

    return make


def entries_of(folder: Path) -> list[Path]:
    """What a folder holds, in string order, without hidden and system files."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror})") from error
    return [folder / name for name in names if not name.startswith(".") and name != "Thumbs.db"]


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in entries_of(folder) if entry.is_dir()]


def _split_folders(root: Path) -> dict[str, Path]:
    """Role -> folder of classes; the root itself, as `WHOLE`, where no split is declared."""
    inside = _folders(root)
    named = [entry for entry in inside if entry.name.lower() in SPLIT_NAMES]
    if not any(_folders(entry) for entry in named):
        return {WHOLE: root}
    others = [entry.name for entry in inside if entry not in named]
    if others:
        raise DataError(
            f"{root} holds splits ({', '.join(entry.name for entry in named)})"
            f" and other folders ({', '.join(others[:MAX_NAMED])})",
            hint="keep one or the other. " + LAYOUT,
        )
    splits: dict[str, Path] = {}
    for entry in named:
        role = SPLIT_NAMES[entry.name.lower()]
        if role in splits:
            raise DataError(f"{root} holds {splits[role].name} and {entry.name}: keep one of them")
        if not _folders(entry):
            raise DataError(f"{entry} holds no class folders", hint="remove it, or sort its images by class")
        splits[role] = entry
    return splits


def _classes(folder: Path, ignored: list[Path]) -> dict[str, list[Path]]:
    """Class name -> its image files; what is neither is added to `ignored`."""
    classes: dict[str, list[Path]] = {}
    for entry in entries_of(folder):
        if not entry.is_dir():
            ignored.append(entry)
            continue
        files = entries_of(entry)
        # A broken link is kept, so that decoding names it.
        images = [path for path in files if path.suffix.lower() in EXTENSIONS and not path.is_dir()]
        chosen = set(images)
        ignored.extend(path for path in files if path not in chosen)
        classes[entry.name] = images
    if not classes:
        raise DataError(f"{folder} holds no class folders", hint=LAYOUT)
    empty = [name for name, images in classes.items() if not images]
    if len(empty) == len(classes):
        raise DataError(f"{folder} holds no images in its {len(classes)} folders", hint=LAYOUT)
    if empty:
        raise DataError(
            f"{folder} holds class folders without images: {', '.join(empty[:MAX_NAMED])}",
            hint="add images or remove the folders",
        )
    return classes


def _tell_ignored(ignored: list[Path]) -> None:
    if ignored:
        shown = ", ".join(str(path) for path in ignored[:3]) + (", ..." if len(ignored) > 3 else "")
        print(f"ignored {len(ignored)} entries that are not images: {shown}", file=sys.stderr)
