"""Pictures a network has not seen quite so: moved, mirrored, blended. Made from (seed, purpose) alone."""

import numpy as np

from resfit.data.images import Images
from resfit.randomness import rng

SHIFT_SHARE = 8  # an image is shifted by up to this part of its side
SMALLER_PART = 0.3  # of a blend in which one image stays the larger


def moved(images: Images, *, seed: int) -> np.ndarray:
    """Each image shifted by up to an eighth of its side, edges filled with black, every other one mirrored."""
    count, height, width, _ = images.shape
    generator = rng(seed, "moved images")
    most_down, most_across = height // SHIFT_SHARE, width // SHIFT_SHARE
    down = generator.integers(-most_down, most_down + 1, count)
    across = generator.integers(-most_across, most_across + 1, count)
    mirrored = generator.random(count) < 0.5
    result = np.zeros(images.shape, np.uint8)
    for index in range(count):
        image = images[index]
        rows, columns = int(down[index]), int(across[index])
        kept = image[max(0, -rows) : height - max(0, rows), max(0, -columns) : width - max(0, columns)]
        top, left = max(0, rows), max(0, columns)
        result[index, top : top + kept.shape[0], left : left + kept.shape[1]] = kept
        if mirrored[index]:
            result[index] = result[index, :, ::-1]
    return result


def partly_blended(images: Images, *, seed: int) -> np.ndarray:
    """Each image, moved, with a smaller part of another one: hard to recognise, and still what it was."""
    first = moved(images, seed=seed)
    second = first[rng(seed, "partly blended images").permutation(len(images))]
    mixed: np.ndarray = ((1 - SMALLER_PART) * first.astype(np.float32) + SMALLER_PART * second).astype(np.uint8)
    return mixed


def blended(images: Images, *, seed: int) -> np.ndarray:
    """Each image mixed with another one, both moved: pictures that a network is less sure of than of its training's."""
    generator = rng(seed, "blended images")
    shares = generator.uniform(0.25, 0.75, (len(images), 1, 1, 1)).astype(np.float32)
    first = moved(images, seed=seed)
    second = first[generator.permutation(len(images))]
    mixed: np.ndarray = (shares * first + (1 - shares) * second).astype(np.uint8)
    return mixed
