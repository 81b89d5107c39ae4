"""Labelled uint8 images in memory, and the three roles they play."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from resfit.data.preprocessing import Preprocessing
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


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayDataset:
    """Decoded images in memory.

    `images` uint8 (N, height, width, channels); `targets` int64 (N,), indices into `labels`; `names` a path
    or id an image. An empty `fingerprint` is computed from the arrays. DataError for arrays that do not
    match.
    """

    images: np.ndarray
    targets: np.ndarray
    labels: tuple[str, ...]
    fingerprint: str = ""
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", np.asarray(self.targets, dtype=np.int64))
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[-1] not in (1, 3):
            raise DataError(
                f"images {self.images.dtype} {self.images.shape}: uint8 (N, height, width, 1 or 3) expected"
            )
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
        digest.update(np.ascontiguousarray(self.images).tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> tuple[np.ndarray, int]:
        """The image uint8 (height, width, channels) and its target at `index`."""
        return self.images[index], int(self.targets[index])

    def name(self, index: int) -> str:
        """A path or id to show a person."""
        return self.names[index] if self.names is not None else f"image {index}"

    def subset(self, indices: np.ndarray) -> "ArrayDataset":
        """The images at `indices`, in that order, with a fingerprint of their own."""
        chosen = np.asarray(indices, dtype=np.int64)
        mark = hashlib.sha256(self.fingerprint.encode() + chosen.tobytes()).hexdigest()
        names = tuple(self.name(index) for index in chosen.tolist())
        return ArrayDataset(
            images=self.images[chosen],
            targets=self.targets[chosen],
            labels=self.labels,
            fingerprint=mark,
            names=names,
        )


class Splits:
    """The three roles: `train` teaches, `validation` serves every choice, `test` only the final proof.

    `labels` are the class names in target order, `sources` a sentence a role saying where it came from,
    `preprocessing` what the images were decoded to, with mean and std of the training images (or the model's,
    where one was given), `fingerprint` one for all loaded roles. Roles that were not loaded raise DataError
    when asked for, except `test`, which is None.
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
    ):
        self._datasets = {"train": train, "validation": validation, "test": test}
        self.labels = tuple(labels)
        self.sources = dict(sources)
        self.preprocessing = preprocessing
        self.fingerprint = fingerprint or self._combined()

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
