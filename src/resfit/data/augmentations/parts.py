"""Large batches a few images at a time, so that the intermediate arrays stay in the processor's cache."""

from collections.abc import Iterator

import numpy as np

_PIXELS = 1 << 14


def parts(images: np.ndarray) -> Iterator[slice]:
    """Slices along the first axis of (N, height, width, channels) of 16 thousand pixels at most, or one image."""
    together = max(1, _PIXELS // max(1, images.shape[1] * images.shape[2]))
    for begin in range(0, len(images), together):
        yield slice(begin, begin + together)
