"""Pictures a network has not seen quite so: moved, mirrored, blended. Made from (seed, purpose, index) alone."""

import numpy as np

from resfit.data.images import Images
from resfit.randomness import rng

SHIFT_SHARE = 8  # an image is shifted by up to this part of its side
SMALLER_PART = 0.3  # of a blend in which one image stays the larger
PART = 64  # images that are blended at once: as floats they take many times their bytes


def moved(images: Images, *, seed: int, index: int = 0) -> np.ndarray:
    """Each image shifted by up to an eighth of its side, edges filled with black, every other one of colour mirrored.

    Grey images are mostly writing, which no training mirrors unasked (training.recipe.Recipe).
    index: of one among several copies, each moved otherwise.
    """
    count, height, width, _ = images.shape
    generator = rng(seed, "moved images", index=index)
    most_down, most_across = height // SHIFT_SHARE, width // SHIFT_SHARE
    down = generator.integers(-most_down, most_down + 1, count)
    across = generator.integers(-most_across, most_across + 1, count)
    mirrored = (generator.random(count) < 0.5) & (images.shape[-1] > 1)
    result = np.zeros(images.shape, np.uint8)
    for place in range(count):
        image = images[place]
        rows, columns = int(down[place]), int(across[place])
        kept = image[max(0, -rows) : height - max(0, rows), max(0, -columns) : width - max(0, columns)]
        top, left = max(0, rows), max(0, columns)
        result[place, top : top + kept.shape[0], left : left + kept.shape[1]] = kept
        if mirrored[place]:
            result[place] = result[place, :, ::-1]
    return result


def partly_blended(images: Images, *, seed: int, index: int = 0) -> np.ndarray:
    """Each image, moved, with a smaller part of another one: hard to recognise, and still what it was."""
    first = moved(images, seed=seed, index=index)
    partners = rng(seed, "partly blended images", index=index).permutation(len(images))
    return _mixed(first, partners, np.full(len(images), 1 - SMALLER_PART, np.float32))


def blended(images: Images, *, seed: int) -> np.ndarray:
    """Each image mixed with another one, both moved: pictures that a network is less sure of than of its training's."""
    generator = rng(seed, "blended images")
    shares = generator.uniform(0.25, 0.75, len(images)).astype(np.float32)
    return _mixed(moved(images, seed=seed), generator.permutation(len(images)), shares)


def _mixed(images: np.ndarray, partners: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """A share (float32) of each image, and of its partner the rest."""
    result = np.empty_like(images)
    for start in range(0, len(images), PART):
        part = slice(start, start + PART)
        share = shares[part, None, None, None]
        result[part] = share * images[part] + (1 - share) * images[partners[part]]
    return result
