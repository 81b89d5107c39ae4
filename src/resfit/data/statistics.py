"""What the training images look like: own size, channels, and the mean and deviation that normalise them."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
from PIL import ExifTags, Image

from resfit.data.listing import Listing
from resfit.data.preprocessing import GREY_MODES, open_image

LARGEST_OWN_SIZE = 256  # images all of one size are kept at it up to here
USUAL_SIZE = 224  # what networks for photographs are trained at
PROBED = 256  # images whose header is read to learn the own size
SAMPLED = 5000  # images that decide mean and deviation
Normalize = Literal["standardize", "minmax", "none"]


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
                sizes.add(_upright_size(image))
                modes.add(image.mode)
        except Exception:  # as many kinds as `decode` meets, which names the file
            continue
    channels = 1 if modes and all(mode in GREY_MODES for mode in modes) else 3
    if len(sizes) == 1 and max(next(iter(sizes))) <= LARGEST_OWN_SIZE:
        width, height = sizes.pop()
        return height, width, channels
    return USUAL_SIZE, USUAL_SIZE, channels


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) as the image is shown; Pillow has turned those of TIFF files already."""
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    turned = image.format != "TIFF" and orientation in (5, 6, 7, 8)
    width, height = image.size
    return (height, width) if turned else (width, height)


def channel_statistics(
    parts: Iterable[np.ndarray], normalize: Normalize = "standardize"
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) a channel of uint8 (N, height, width, channels) arrays, as parts of 255: what is subtracted
    and what is divided by.

    "standardize": mean and standard deviation. "minmax": the least level and the range, so that all pixels seen
    come to 0..1. "none": 0 and 1. From exact integer counts, so neither order nor machine changes a digit;
    rounded to six decimals. A channel that never varies is divided by one grey level, since 0 could not divide.
    """
    counts = _level_counts(parts)
    if normalize == "none":
        offset, scale = np.zeros(len(counts)), np.full(len(counts), 255.0)
    elif normalize == "minmax":
        seen = [np.flatnonzero(channel) for channel in counts]
        offset = np.array([float(levels[0]) for levels in seen])
        scale = np.array([float(levels[-1]) for levels in seen]) - offset
    else:
        levels, total = np.arange(256, dtype=np.int64), counts.sum(axis=1)
        offset = counts @ levels / total
        scale = np.sqrt(np.maximum(counts @ levels**2 / total - offset**2, 0.0))
    scale = np.where(scale < 1.0, 1.0, scale)
    return (
        tuple(round(float(value), 6) for value in offset / 255),
        tuple(round(float(value), 6) for value in scale / 255),
    )


def _level_counts(parts: Iterable[np.ndarray]) -> np.ndarray:
    """int64 (channels, 256): how often each grey level occurs in each channel."""
    counts = np.zeros((1, 256), dtype=np.int64)
    for images in parts:
        pixels = images.reshape(-1, images.shape[-1])
        counts = counts + np.stack(
            [np.bincount(pixels[:, channel], minlength=256) for channel in range(pixels.shape[1])]
        )
    return counts
