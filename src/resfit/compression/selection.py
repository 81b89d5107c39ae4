"""Which images points are chosen on: new ones, or blends of training images, as published networks have seen them all.

The test images are no part of this. Validation images were held back from a training of resfit's own, so that they
are new to its network; a network that is as right on them as on training images has learnt them.
"""

import math

import numpy as np

from resfit.compression.agreement import Selection, logits_of
from resfit.compression.moved_images import moved, partly_blended
from resfit.data.dataset import ArrayDataset, Splits
from resfit.measure.macs import macs
from resfit.model.model import Model
from resfit.randomness import rng

MOST_IMAGES = 10_000
MOST_MACS = 2e12  # the answers to images of one kind take no more, but for the least number
LEAST_IMAGES = 1_000
MOST_BYTES = 5e8  # of pictures, whatever their number; while they are made, about four times as many are held
COPIES = 4  # of an image, each moved otherwise
COMPARED = 2_500  # images of each kind that tell whether the original knows them
SURE = 3.0  # standard errors


def selection_for(original: Model, splits: Splits, *, seed: int) -> Selection:
    """Images drawn with the seed, moved: new ones, some copies of each where there are few, or blends."""
    new = validation_is_new(original, splits, seed=seed)
    role = "validation" if new else "train"
    dataset = splits.validation if new else splits.train
    most = _affordable(original, MOST_IMAGES)
    places = _drawn(dataset, most, seed)
    copies = min(COPIES, max(1, most // len(places)))
    picture = moved if new else partly_blended
    images = dataset.images[places]
    pictures = np.empty((copies, *images.shape), np.uint8)
    for copy in range(copies):
        pictures[copy] = picture(images, seed=seed, index=copy)
    kind = "moved copies" if new else "blends of moved copies"
    return Selection(
        pictures=pictures.reshape(-1, *images.shape[1:]),
        targets=np.tile(dataset.targets[places], copies),
        copies=copies,
        new=new,
        told=f"{copies * len(places):,} images: {kind} of {role} images ({splits.sources[role]})",
    )


def validation_is_new(original: Model, splits: Splits, *, seed: int) -> bool:
    """Whether the original is wrong on validation images more often than chance lets it be on training images."""
    shares, variance = [], 0.0
    for dataset in (splits.train, splits.validation):
        places = _drawn(dataset, _affordable(original, COMPARED), seed)
        answers = logits_of(original, dataset.images[places]).argmax(1).numpy()
        share = float((answers == dataset.targets[places]).mean())
        shares.append(share)
        variance += share * (1 - share) / len(places)
    return shares[0] - shares[1] > SURE * math.sqrt(variance)


def _affordable(original: Model, most: int) -> int:
    """So many images, or fewer where answers take long or pictures are large; at least one."""
    shape = original.preprocessing
    work = macs(original.spec, shape.height, shape.width)
    held = MOST_BYTES / (shape.height * shape.width * shape.channels)
    return int(max(1, min(most, max(LEAST_IMAGES, MOST_MACS / work), held)))


def _drawn(dataset: ArrayDataset, most: int, seed: int) -> np.ndarray:
    return np.sort(rng(seed, "selection").permutation(len(dataset))[:most])
