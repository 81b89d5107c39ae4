"""Batches of one epoch, wherever it starts and however many processes share it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from resfit.data.augment import Augment, Draws, apply, draw
from resfit.data.dataset import ArrayDataset, Dataset
from resfit.errors import DataError, UsageError
from resfit.randomness import rng


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Images uint8 (N, height, width, channels), targets int64 (N,), `indices` in the dataset int64 (N,).

    `step` counts the epoch's batches from 0, also when the epoch was entered later.
    """

    images: np.ndarray
    targets: np.ndarray
    indices: np.ndarray
    step: int


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
) -> Iterator[Batch]:
    """The epoch's batches from step `start` on, those of `rank` among `world_size` equal processes.

    One step takes `batch_size * world_size` images of the epoch's order; each rank gets its own part, so all
    ranks together see what one process with that batch would. An image's augmentation depends on (seed,
    epoch, index), not on the batch it is in. Without `drop_last` the last batches may be short, for some
    ranks empty.
    UsageError for sizes that cannot be; DataError when there are fewer images than one step takes.
    """
    if batch_size < 1 or world_size < 1 or not 0 <= rank < world_size or start < 0:
        raise UsageError(f"batch size {batch_size}, rank {rank} of {world_size}, start {start}: not possible")
    count = len(dataset)
    steps = num_batches(count, batch_size=batch_size, world_size=world_size, drop_last=drop_last)
    if not steps:
        raise DataError(
            f"{count} images are fewer than one step takes ({batch_size} x {world_size})",
            hint="choose a smaller batch size",
        )
    return _generate(dataset, batch_size, seed, epoch, rank, world_size, range(start, steps), augment)


def _generate(
    dataset: Dataset,
    batch_size: int,
    seed: int,
    epoch: int,
    rank: int,
    world_size: int,
    steps: range,
    augment: Augment | None,
) -> Iterator[Batch]:
    shuffled = order(len(dataset), seed=seed, epoch=epoch)
    draws = draw(augment, count=len(dataset), seed=seed, epoch=epoch) if augment is not None else None
    for step in steps:
        begin = (step * world_size + rank) * batch_size
        indices = shuffled[begin : begin + batch_size]
        images, targets = _gather(dataset, indices)
        if augment is not None and draws is not None:
            images = _augmented(images, draws.take(indices), augment)
        yield Batch(images=images, targets=targets, indices=indices, step=step)


def _augmented(images: np.ndarray, draws: Draws, augment: Augment) -> np.ndarray:
    return apply(images, draws, augment) if augment.crop_padding or augment.flip else images


def _gather(dataset: Dataset, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(dataset, ArrayDataset):
        return dataset.images[indices], dataset.targets[indices]
    read = [dataset.read(int(index)) for index in indices]
    return np.stack([image for image, _ in read]), np.array([target for _, target in read], dtype=np.int64)
