"""TrivialAugment (Müller & Hutter 2021, arXiv 2103.10158): one operation an image, at one of 31 strengths.

The operations and strengths are the paper's wide search space. Differing from it: what comes in from outside
an image is its mirror image instead of black; shears turn about the middle instead of the corner; colour,
contrast, brightness and sharpness go from 1 to both sides (1 +- 0.99) instead of from 0.01 to 2, so that
strength 0 leaves an image alone; shifts are bounded by the image's size.
"""

from collections.abc import Callable

import numpy as np

from resfit.data.augmentations import colors, geometry

STRENGTHS = 30
_MAX_DEGREES, _MAX_SHEAR, _MAX_SHIFT_PIXELS, _MAX_FACTOR, _MAX_BITS = 135, 0.99, 32, 0.99, 6


def trivially_augmented(images: np.ndarray, *, operations: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """Each image through its operation; a new array.

    `operations` int (N,), indices into OPERATIONS; `strengths` int (N,), -STRENGTHS to STRENGTHS, where the
    sign is a direction and is ignored by operations that have none.
    """
    result = images.copy()
    for code, (_, operation) in enumerate(OPERATIONS):
        chosen = np.flatnonzero(operations == code)
        if len(chosen):
            result[chosen] = operation(images[chosen], strengths[chosen] / STRENGTHS)
    return result


def _unchanged(images: np.ndarray, _strength: np.ndarray) -> np.ndarray:
    return images


def _stretch(images: np.ndarray, _strength: np.ndarray) -> np.ndarray:
    return colors.looked_up(images, colors.stretched_tables(images))


def _equalize(images: np.ndarray, _strength: np.ndarray) -> np.ndarray:
    return colors.looked_up(images, colors.equalized_tables(images))


def _rotate(images: np.ndarray, strength: np.ndarray) -> np.ndarray:
    return geometry.warped(images, geometry.rotation(strength * _MAX_DEGREES))


def _solarize(images: np.ndarray, strength: np.ndarray) -> np.ndarray:
    return colors.looked_up(images, colors.solarized_tables(256 - (abs(strength) * 256).astype(np.int64)))


def _posterize(images: np.ndarray, strength: np.ndarray) -> np.ndarray:
    return colors.looked_up(images, colors.posterized_tables(8 - (abs(strength) * _MAX_BITS).astype(np.int64)))


def _saturate(images: np.ndarray, strength: np.ndarray) -> np.ndarray:
    one = np.ones_like(strength)
    return colors.jittered(images, brightness=one, contrast=one, saturation=1 + strength * _MAX_FACTOR)


def _contrast(images: np.ndarray, strength: np.ndarray) -> np.ndarray:
    one = np.ones_like(strength)
    return colors.jittered(images, brightness=one, contrast=1 + strength * _MAX_FACTOR, saturation=one)


def _brighten(images: np.ndarray, strength: np.ndarray) -> np.ndarray:
    one = np.ones_like(strength)
    return colors.jittered(images, brightness=1 + strength * _MAX_FACTOR, contrast=one, saturation=one)


def _sharpen(images: np.ndarray, strength: np.ndarray) -> np.ndarray:
    return colors.sharpened(images, 1 + strength * _MAX_FACTOR)


def _shear_x(images: np.ndarray, strength: np.ndarray) -> np.ndarray:
    return geometry.warped(images, geometry.shear(x=strength * _MAX_SHEAR, y=np.zeros_like(strength)))


def _shear_y(images: np.ndarray, strength: np.ndarray) -> np.ndarray:
    return geometry.warped(images, geometry.shear(x=np.zeros_like(strength), y=strength * _MAX_SHEAR))


def _shift_x(images: np.ndarray, strength: np.ndarray) -> np.ndarray:
    pixels = np.trunc(strength * min(_MAX_SHIFT_PIXELS, images.shape[2]))
    return geometry.warped(images, geometry.shift(x=pixels, y=np.zeros_like(pixels)))


def _shift_y(images: np.ndarray, strength: np.ndarray) -> np.ndarray:
    pixels = np.trunc(strength * min(_MAX_SHIFT_PIXELS, images.shape[1]))
    return geometry.warped(images, geometry.shift(x=np.zeros_like(pixels), y=pixels))


OPERATIONS: tuple[tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]], ...] = (
    ("unchanged", _unchanged),
    ("stretch", _stretch),
    ("equalize", _equalize),
    ("rotate", _rotate),
    ("solarize", _solarize),
    ("saturate", _saturate),
    ("posterize", _posterize),
    ("contrast", _contrast),
    ("brighten", _brighten),
    ("sharpen", _sharpen),
    ("shear_x", _shear_x),
    ("shear_y", _shear_y),
    ("shift_x", _shift_x),
    ("shift_y", _shift_y),
)
