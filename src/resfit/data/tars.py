"""Webdataset tars: files that share a name up to its first dot are one sample, an image and its label.

The label of `0001.jpg` is what `0001.cls` holds (a class number or name), or `label` in `0001.json`; names of
numbered classes come from `classnames.txt` beside the tars. Nothing is unpacked: members are read where they
lie in the file, so a member's name never becomes a path.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from resfit.data.listing import Listing
from resfit.data.origin import WHOLE, Origin, common_labels, declared_split
from resfit.data.tar_members import Sample, read_member, samples_of
from resfit.errors import DataError

CLASS_NAME_FILES = ("classnames.txt", "classes.txt", "labels.txt")
MAX_NAMED = 10


def tar_files(root: Path) -> list[Path]:
    """The tars in `root`, or else those in the folders below it, in name order."""
    return sorted(root.glob("*.tar")) or sorted(root.glob("*/*.tar"))


def list_tars(root: Path, paths: list[Path]) -> Origin:
    """The samples of the tars, by the splits that their names or folders declare (`train-0000.tar`, `val/0.tar`).

    DataError for files that are no uncompressed tar, damaged ones, members that point outside, images without a
    label, and classes that differ between splits.
    """
    samples = _by_split(root, {path: samples_of(path) for path in paths})
    title = {role: _title(found) for role, found in samples.items()}
    names = _class_names(root, paths)
    for role, found in samples.items():
        _refuse_unlabelled(found, title[role])
    labelled = {role: [_label(sample, names) for sample in found] for role, found in samples.items()}
    labels = common_labels({title[role]: set(labelled[role]) for role in samples})
    if set(labels) <= set(names):
        labels = tuple(name for name in names if name in set(labels))  # the order the numbers refer to
    return Origin(
        labels=labels,
        listings={role: _listing_of(root, found, labelled[role], labels) for role, found in samples.items()},
        where=title,
        basis="names in the tars",
    )


def _by_split(root: Path, found: dict[Path, list[Sample]]) -> dict[str, list[Sample]]:
    """Role -> samples, as the tar's name, its folder or the folders in it say."""
    groups: dict[str, list[Sample]] = {}
    for path, samples in found.items():
        if not samples:
            raise DataError(f"{path} holds no images", hint="expected: pairs such as 0001.jpg and 0001.cls")
        declared = declared_split(path.name) or (declared_split(path.parent.name) if path.parent != root else None)
        for sample in samples:
            groups.setdefault(declared or sample.split or WHOLE, []).append(sample)
    if WHOLE in groups and len(groups) > 1:
        raise DataError(
            f"{groups[WHOLE][0].tar.name} has images of no split, others declare one",
            hint="name every tar with train, validation or test in it, or none",
        )
    return groups


def _title(samples: list[Sample]) -> str:
    files = list(dict.fromkeys(sample.tar.name for sample in samples))
    title = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    return f"{samples[0].split} in {title}" if samples[0].split else title


def _class_names(root: Path, paths: list[Path]) -> tuple[str, ...]:
    """The lines of a file of class names beside the tars; empty without one."""
    folders = dict.fromkeys([root, *(path.parent for path in paths)])
    found = [folder / name for folder in folders for name in CLASS_NAME_FILES if (folder / name).is_file()]
    if not found:
        return ()
    try:
        names = tuple(line.strip() for line in found[0].read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{found[0]} cannot be read as class names ({error})") from error
    if len(set(names)) < len(names):
        raise DataError(f"{found[0]} names a class twice", hint="one class a line, each once")
    return names


def _refuse_unlabelled(samples: list[Sample], title: str) -> None:
    bare = [sample.name for sample in samples if not sample.label]
    if bare:
        raise DataError(
            f"{title}: {len(bare)} of {len(samples)} images have no label: {', '.join(bare[:MAX_NAMED])}",
            hint="expected beside 0001.jpg: 0001.cls with the class, or 0001.json with a label",
        )


def _label(sample: Sample, names: tuple[str, ...]) -> str:
    """The class's name: of numbered classes the line of that number, where the names are known."""
    if names and sample.label.isdecimal():
        number = int(sample.label)
        if number >= len(names):
            raise DataError(f"{sample.name} is of class {number}, but {len(names)} classes are named")
        return names[number]
    return sample.label


def _listing_of(
    root: Path, samples: list[Sample], labelled: list[str], labels: tuple[str, ...]
) -> Callable[[], Listing]:
    @functools.cache
    def make() -> Listing:
        place = {label: target for target, label in enumerate(labels)}
        names = tuple(f"{sample.tar.relative_to(root).as_posix()}/{sample.name}" for sample in samples)
        return Listing(
            names=names,
            keys=names,
            targets=np.array([place[label] for label in labelled], dtype=np.int64),
            labels=labels,
            read=lambda index: read_member(samples[index]),
        )

    return make
