"""Labelled images not yet decoded: names, targets and a way to the encoded bytes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Listing:
    """The images of one role before decoding.

    `names` a path or id an image (unique); `keys` what the hash-seeded split is decided by, so that neither
    order nor location matters; `targets` int64 (N,), indices into `labels`; `read(index)` the encoded bytes.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    targets: np.ndarray
    labels: tuple[str, ...]
    read: Callable[[int], bytes]

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: np.ndarray) -> "Listing":
        """The images at `indices`, in that order."""
        chosen = [int(index) for index in indices]
        read = self.read
        return Listing(
            names=tuple(self.names[index] for index in chosen),
            keys=tuple(self.keys[index] for index in chosen),
            targets=self.targets[chosen],
            labels=self.labels,
            read=lambda index: read(chosen[index]),
        )
