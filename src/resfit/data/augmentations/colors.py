"""What pixels look like: brightness, contrast, saturation, sharpness, tone curves."""

import numpy as np

from resfit.data.augmentations.parts import parts

_LUMA = (299, 587, 114)  # thousandths of red, green, blue in the brightness the eye sees (ITU-R BT.601)


def jittered(images: np.ndarray, *, brightness: np.ndarray, contrast: np.ndarray, saturation: np.ndarray) -> np.ndarray:
    """Saturation, then contrast around the image's mean brightness, then brightness; a new array.

    Each is a factor an image, float (N,): 1 leaves it alone, 0 takes all of it away (the gray image, its mean
    gray, black). A gray image has no saturation to change. Values are rounded and cut off at 0 and 255 once,
    at the end.
    """
    own = (brightness * contrast * saturation).astype(np.float32)
    grays = (brightness * contrast * (1 - saturation)).astype(np.float32)
    offset = brightness * (1 - contrast)
    result = np.empty_like(images)
    for part in parts(images):
        luma = _luma(images[part])
        mean = luma.mean(axis=(1, 2, 3), dtype=np.float64) / 1000
        mixed = images[part] * own[part, None, None, None]
        mixed += luma.astype(np.float32) * (grays[part, None, None, None] / np.float32(1000))
        mixed += (offset[part] * mean).astype(np.float32)[:, None, None, None]
        result[part] = np.rint(mixed, out=mixed).clip(0, 255, out=mixed)
    return result


def _luma(images: np.ndarray) -> np.ndarray:
    """A thousand times the brightness, int32 (N, height, width, 1)."""
    if images.shape[-1] == 1:
        return images.astype(np.int32) * 1000
    red, green, blue = (images[..., channel].astype(np.int32) for channel in range(3))
    return (red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2])[..., None]


def sharpened(images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Sharper for factors (N,) above 1, smoother below; 0 is the smoothed image. The outermost pixels stay."""
    result = images.copy()
    if min(images.shape[1:3]) < 3:
        return result
    for part in parts(images):
        wide = images[part].astype(np.int32)
        inner = wide[:, 1:-1, 1:-1]
        across = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
        total = across[:, :-2] + across[:, 1:-1] + across[:, 2:] + 4 * inner
        smooth = (2 * total + 13) // 26  # thirteenths, rounded
        mixed = smooth + (inner - smooth) * factors[part].astype(np.float32)[:, None, None, None]
        result[part, 1:-1, 1:-1] = np.rint(mixed, out=mixed).clip(0, 255, out=mixed)
    return result


def looked_up(images: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Every value replaced by its table's: `tables` uint8 (N, channels, 256), or (N, 1, 256) for all channels."""
    result = np.empty_like(images)
    for index, rows in enumerate(tables):
        if len(rows) == 1:
            result[index] = rows[0].take(images[index])
        else:
            for channel, row in enumerate(rows):
                result[index, :, :, channel] = row.take(images[index, :, :, channel])
    return result


def stretched_tables(images: np.ndarray) -> np.ndarray:
    """Tables for `looked_up` that spread each channel's values linearly over 0..255; one value stays."""
    values = np.arange(256)
    lowest = images.min(axis=(1, 2)).astype(np.int64)[..., None]
    spread = images.max(axis=(1, 2)).astype(np.int64)[..., None] - lowest
    curve = np.clip((values - lowest) * 255 // np.maximum(spread, 1), 0, 255)
    return np.where(spread > 0, curve, values).astype(np.uint8)


def equalized_tables(images: np.ndarray) -> np.ndarray:
    """Tables for `looked_up` that make each channel's values about equally frequent, as Pillow's equalize."""
    count, height, width, channels = images.shape
    rows = np.arange(count)[:, None, None, None] * channels + np.arange(channels)
    frequency = np.bincount((rows * 256 + images).reshape(-1), minlength=count * channels * 256)
    frequency = frequency.reshape(count, channels, 256)
    values = np.arange(256)
    highest = images.max(axis=(1, 2))[..., None].astype(np.int64)
    step = (height * width - np.take_along_axis(frequency, highest, axis=-1)) // 255
    before = np.cumsum(frequency, axis=-1) - frequency
    curve = np.minimum((before + step // 2) // np.maximum(step, 1), 255)
    return np.where(step > 0, curve, values).astype(np.uint8)


def posterized_tables(bits: np.ndarray) -> np.ndarray:
    """Tables for `looked_up` that keep the highest `bits` int (N,), 1 to 8, of every value."""
    mask = 256 - (1 << (8 - bits))
    return (np.arange(256) & mask[:, None, None]).astype(np.uint8)


def solarized_tables(thresholds: np.ndarray) -> np.ndarray:
    """Tables for `looked_up` that invert values from the threshold int (N,), 0 to 256, upwards."""
    values = np.arange(256)
    return np.where(values < thresholds[:, None, None], values, 255 - values).astype(np.uint8)
