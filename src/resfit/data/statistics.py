"""What the training images look like: own size, channels, and the mean and deviation that normalise them."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from resfit.data.listing import Listing
from resfit.data.preprocessing import GREY_MODES, open_image

LARGEST_OWN_SIZE = 256  # images all of one size are kept at it up to here
USUAL_SIZE = 224  # what networks for photographs are trained at
PROBED = 256  # images whose header is read to learn the own size
SAMPLED = 5000  # images that decide mean and deviation


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` indices, evenly spread over 0..count-1: every class of a sorted listing takes part."""
    if count <= most:
        return np.arange(count)
    return np.arange(most, dtype=np.int64) * count // most


def own_shape(listing: Listing) -> tuple[int, int, int]:
    """(height, width, channels) for networks on these images, from the headers of a sample.

    The images' own size if they share one of at most 256 pixels a side, else 224x224; one channel if all are
    grey. Unreadable images are passed over here; decoding names them.
    """
    sizes, modes = set(), set()
    for index in spread(len(listing), PROBED):
        try:
            with open_image(listing.read(int(index))) as image:
                sizes.add(image.size)
                modes.add(image.mode)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    channels = 1 if modes and all(mode in GREY_MODES for mode in modes) else 3
    if len(sizes) == 1 and max(next(iter(sizes))) <= LARGEST_OWN_SIZE:
        width, height = sizes.pop()
        return height, width, channels
    return USUAL_SIZE, USUAL_SIZE, channels


def channel_statistics(parts: Iterable[np.ndarray]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel of uint8 (N, height, width, channels) arrays, as parts of 255.

    Exact integer sums, so neither order nor machine changes a digit; rounded to six decimals. A channel that
    never varies gets the deviation of one grey level, since 0 could not divide.
    """
    count, total, squares = 0, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    for images in parts:
        pixels = images.reshape(-1, images.shape[-1])
        counts = [np.bincount(pixels[:, channel], minlength=256) for channel in range(pixels.shape[1])]
        levels = np.arange(256, dtype=np.int64)
        total = total + np.array([levels @ channel for channel in counts])
        squares = squares + np.array([levels**2 @ channel for channel in counts])
        count += len(pixels)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    std = np.where(deviation < 1.0, 1.0, deviation)
    return (
        tuple(round(float(value), 6) for value in mean / 255),
        tuple(round(float(value), 6) for value in std / 255),
    )
