"""Labelled uint8 images, and the three roles they play."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from resfit.data.images import Images, check_images, in_parts, select
from resfit.data.preprocessing import Preprocessing
from resfit.data.repeats import count_repeats
from resfit.errors import DataError

ROLES = ("train", "validation", "test")


class Dataset(Protocol):
    """Labelled images of one size; `fingerprint` changes when names, labels or content change."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[np.ndarray, int]: ...


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """An image left out because it cannot be used: its name, the role it would have played, and why."""

    name: str
    role: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayDataset:
    """Decoded images, in memory, in the cache file or decoded when asked for.

    `images` uint8 (N, height, width, channels), a numpy array or other `Images`; `targets` int64 (N,), indices
    into `labels`; `names` a path or id an image; `digests` uint8 (N, 32), the sha256 of each encoded file where
    it is known. An empty `fingerprint` is computed from the content. DataError for arrays that do not match.
    """

    images: Images
    targets: np.ndarray
    labels: tuple[str, ...]
    fingerprint: str = ""
    names: tuple[str, ...] | None = None
    digests: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", np.asarray(self.targets, dtype=np.int64))
        object.__setattr__(self, "labels", tuple(self.labels))
        check_images(self.images)
        count = len(self.images)
        if self.targets.shape != (count,) or (self.names is not None and len(self.names) != count):
            raise DataError(f"{count} images, but {len(self.targets)} targets or another number of names")
        if count and not (self.targets.min() >= 0 and self.targets.max() < len(self.labels)):
            raise DataError(f"targets outside 0..{len(self.labels) - 1}, the {len(self.labels)} labels there are")
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", self._content())

    def _content(self) -> str:
        digest = hashlib.sha256(repr((self.images.shape, self.labels, self.names)).encode())
        digest.update(np.ascontiguousarray(self.targets).tobytes())
        for part in in_parts(self.images):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> tuple[np.ndarray, int]:
        """The image uint8 (height, width, channels) and its target at `index`."""
        return self.images[index], int(self.targets[index])

    def name(self, index: int) -> str:
        """A path or id to show a person."""
        return self.names[index] if self.names is not None else f"image {index}"

    def class_counts(self) -> dict[str, int]:
        """How many images each label has, in target order."""
        counts = np.bincount(self.targets, minlength=len(self.labels)).tolist()
        return dict(zip(self.labels, counts, strict=True))

    def subset(self, indices: np.ndarray) -> "ArrayDataset":
        """The images at `indices`, in that order, with a fingerprint of their own."""
        chosen = np.asarray(indices, dtype=np.int64)
        mark = hashlib.sha256(self.fingerprint.encode() + chosen.tobytes()).hexdigest()
        names = tuple(self.name(index) for index in chosen.tolist())
        return ArrayDataset(
            images=select(self.images, chosen),
            targets=self.targets[chosen],
            labels=self.labels,
            fingerprint=mark,
            names=names,
            digests=None if self.digests is None else self.digests[chosen],
        )


class Splits:
    """The three roles: `train` teaches, `validation` serves every choice, `test` only the final proof.

    `labels` are the class names in target order, `sources` a sentence a role saying where it came from,
    `preprocessing` what the images were decoded to, with mean and std of the training images (or the model's,
    where one was given), `fingerprint` one for all loaded roles, `skipped` the images left out because they
    cannot be used. Roles that were not loaded raise DataError when asked for, except `test`, which is None.

    `audit` is what loading the images told for free, as plain values for JSON: `num_images` {role: n},
    `skipped` [[name, reason], ..], `duplicates` (groups of files with equal bytes), `leaks` (images of a later
    role that an earlier one holds too) and `class_counts` {role: {label: n}}.
    """

    def __init__(
        self,
        *,
        train: ArrayDataset | None,
        validation: ArrayDataset | None,
        test: ArrayDataset | None,
        labels: tuple[str, ...],
        sources: Mapping[str, str],
        preprocessing: Preprocessing,
        fingerprint: str = "",
        skipped: Iterable[Skipped] = (),
    ):
        self._datasets = {"train": train, "validation": validation, "test": test}
        self.labels = tuple(labels)
        self.sources = dict(sources)
        self.preprocessing = preprocessing
        self.fingerprint = fingerprint or self._combined()
        self.skipped = tuple(skipped)
        self.audit = self._audit()

    def _audit(self) -> dict[str, Any]:
        loaded = {role: data for role, data in self._datasets.items() if data is not None}
        duplicates, leaks = count_repeats([data.digests for data in loaded.values() if data.digests is not None])
        return {
            "num_images": {role: len(data) for role, data in loaded.items()},
            "skipped": [[image.name, image.reason] for image in self.skipped],
            "duplicates": duplicates,
            "leaks": leaks,
            "class_counts": {role: data.class_counts() for role, data in loaded.items()},
        }

    def _combined(self) -> str:
        marks = [(role, data.fingerprint) for role, data in self._datasets.items() if data is not None]
        return hashlib.sha256(repr((self.labels, marks)).encode()).hexdigest()

    def role(self, name: str) -> ArrayDataset:
        """The images of one role; DataError when they were not loaded."""
        data = self._datasets[name]
        if data is None:
            raise DataError(f"the {name} images were not loaded")
        return data

    @property
    def train(self) -> ArrayDataset:
        return self.role("train")

    @property
    def validation(self) -> ArrayDataset:
        return self.role("validation")

    @property
    def test(self) -> ArrayDataset | None:
        return self._datasets["test"]

    def roles(self) -> dict[str, dict[str, Any]]:
        """For results: each loaded role with its number of images, source and fingerprint."""
        return {
            role: {
                "num_images": len(data),
                "source": self.sources.get(role, ""),
                "fingerprint": data.fingerprint,
            }
            for role, data in self._datasets.items()
            if data is not None
        }
