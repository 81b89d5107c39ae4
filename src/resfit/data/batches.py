"""Batches of one epoch, wherever it starts and however many processes share it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from resfit.data.augment import Augment, apply, draw, mix
from resfit.data.balance import balanced_order
from resfit.data.dataset import ArrayDataset, Dataset
from resfit.errors import DataError, UsageError
from resfit.randomness import rng


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Images uint8 (N, height, width, channels), targets int64 (N,), `indices` in the dataset int64 (N,).

    `step` counts the epoch's batches from 0, also when the epoch was entered later. Where images were mixed
    (mixup, cutmix), `partners` int64 (N,) are the second images' targets and `shares` float32 (N,), 0 to 1,
    what the first target counts: the loss is `share * loss(target) + (1 - share) * loss(partner)`.
    """

    images: np.ndarray
    targets: np.ndarray
    indices: np.ndarray
    step: int
    partners: np.ndarray | None = None
    shares: np.ndarray | None = None


def order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order of `count` images in an epoch: a function of (seed, epoch) alone."""
    return rng(seed, "order", epoch).permutation(count)


def num_batches(count: int, *, batch_size: int, world_size: int = 1, drop_last: bool = True) -> int:
    """Batches an epoch yields to each rank."""
    together = batch_size * world_size
    return count // together if drop_last else -(-count // together)


def batches(
    dataset: Dataset,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    start: int = 0,
    augment: Augment | None = None,
    drop_last: bool = True,
    balance: Literal["none", "sampling"] = "none",
) -> Iterator[Batch]:
    """The epoch's batches from step `start` on, those of `rank` among `world_size` equal processes.

    One step takes `batch_size * world_size` images of the epoch's order; each rank gets its own part, so all
    ranks together see what one process with that batch would. An image's augmentation depends on (seed,
    epoch, index), not on the batch it is in; it is mixed with the next image of the epoch's order, whatever
    batch that is in. Without `drop_last` the last batches may be short, for some ranks empty.
    `balance` "sampling" shows each class equally often in an epoch of the same length: images of small
    classes come several times, so that their augmentation depends on (seed, epoch, place in the order).
    UsageError for sizes that cannot be; DataError when there are fewer images than one step takes.
    """
    if batch_size < 1 or world_size < 1 or not 0 <= rank < world_size or start < 0:
        raise UsageError(f"batch size {batch_size}, rank {rank} of {world_size}, start {start}: not possible")
    if balance not in ("none", "sampling"):
        raise UsageError(f"balance {balance!r}: none or sampling expected")
    count = len(dataset)
    steps = num_batches(count, batch_size=batch_size, world_size=world_size, drop_last=drop_last)
    if not steps:
        raise DataError(
            f"{count} images are fewer than one step takes ({batch_size} x {world_size})",
            hint="choose a smaller batch size",
        )
    return _generate(_Epoch(dataset, seed, epoch, augment, balance), batch_size, rank, world_size, range(start, steps))


def _generate(epoch: "_Epoch", batch_size: int, rank: int, world_size: int, steps: range) -> Iterator[Batch]:
    for step in steps:
        begin = (step * world_size + rank) * batch_size
        yield epoch.batch(step, np.arange(begin, min(begin + batch_size, len(epoch.dataset))))


class _Epoch:
    """One epoch's order and draws; its batches by their places in the order."""

    def __init__(self, dataset: Dataset, seed: int, epoch: int, augment: Augment | None, balance: str):
        count = len(dataset)
        self.dataset = dataset
        self._balanced = balance == "sampling"
        self._order = order(count, seed=seed, epoch=epoch)
        if self._balanced:
            self._order = balanced_order(_targets(dataset), seed=seed, epoch=epoch)
        self._augment = augment if augment is not None and augment.changes_images else None
        self._draws = None if self._augment is None else draw(self._augment, count=count, seed=seed, epoch=epoch)

    def batch(self, step: int, places: np.ndarray) -> Batch:
        mixes = self._augment is not None and self._augment.mixes
        needed = np.append(places, (places[-1:] + 1) % len(self._order)) if mixes else places
        indices = self._order[needed]
        images, targets = _gather(self.dataset, indices)
        if self._augment is None or self._draws is None:
            return Batch(images=images, targets=targets, indices=indices, step=step)
        draws = self._draws.take(needed if self._balanced else indices)
        images = apply(images, draws, self._augment)
        if not mixes:
            return Batch(images=images, targets=targets, indices=indices, step=step)
        count = len(places)
        images, shares = mix(images[:count], images[1:], draws.take(np.arange(count)))
        return Batch(
            images=images,
            targets=targets[:count],
            indices=indices[:count],
            step=step,
            partners=targets[1:],
            shares=shares,
        )


def _targets(dataset: Dataset) -> np.ndarray:
    if isinstance(dataset, ArrayDataset):
        return dataset.targets
    return np.array([dataset.read(index)[1] for index in range(len(dataset))], dtype=np.int64)


def _gather(dataset: Dataset, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(dataset, ArrayDataset):
        return dataset.images[indices], dataset.targets[indices]
    first, _ = dataset.read(0)
    images, targets = np.empty((len(indices), *first.shape), dtype=np.uint8), np.empty(len(indices), dtype=np.int64)
    for place, index in enumerate(indices.tolist()):
        images[place], targets[place] = dataset.read(index)
    return images, targets
