"""Classes of unequal size: weights for the loss, or an order that shows each class equally often."""

from typing import Literal, get_args

import numpy as np

from resfit.errors import DataError
from resfit.randomness import rng

Balance = Literal["none", "weights", "sampling"]
BALANCES: tuple[Balance, ...] = get_args(Balance)


def class_weights(targets: np.ndarray, num_classes: int) -> np.ndarray:
    """A loss weight a class, float32 (num_classes,), in inverse proportion to its images; mean 1 over the images.

    With these each class that has images counts the same in an epoch, and the learning rate means what it
    did. A class without images gets 0. `targets` int (N,), 0 to num_classes - 1; DataError when empty or
    beyond.
    """
    counts = _counts(targets, num_classes)
    present = counts > 0
    share = len(targets) / present.sum()
    return np.where(present, share / np.maximum(counts, 1), 0).astype(np.float32)


def balanced_order(targets: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """As many indices int64 (N,) as there are images, each class equally often: a function of all arguments.

    Classes differ by at most one; which get one more is drawn. Within a class no image comes twice more often
    than another by more than one: a large class shows a drawn part of itself, a small one repeats.
    DataError when there are no targets.
    """
    counts = _counts(targets, int(np.max(targets, initial=0)) + 1)
    chance = rng(seed, "balance", epoch)
    present = np.flatnonzero(counts)
    quotas = np.full(len(present), len(targets) // len(present))
    quotas[chance.permutation(len(present))[: len(targets) % len(present)]] += 1
    members = np.split(np.argsort(targets, kind="stable"), np.cumsum(counts[present])[:-1])
    chosen = [_members(group, int(quota), chance) for group, quota in zip(members, quotas, strict=True)]
    return chance.permutation(np.concatenate(chosen))


def _members(group: np.ndarray, quota: int, chance: np.random.Generator) -> np.ndarray:
    whole, rest = divmod(quota, len(group))
    return np.concatenate([np.tile(group, whole), chance.permutation(group)[:rest]])


def _counts(targets: np.ndarray, num_classes: int) -> np.ndarray:
    counts = np.bincount(targets, minlength=num_classes) if len(targets) else np.zeros(0, dtype=np.int64)
    if not len(targets) or len(counts) > num_classes:
        raise DataError(f"{len(targets)} targets: at least one, all below {num_classes}, expected")
    return counts
