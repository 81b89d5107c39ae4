"""Pixels of an array as image files, so that they pass the same decoder as any file."""

import numpy as np

from resfit.data.stored_arrays import StoredArray
from resfit.errors import DataError

PART_BYTES = 16_000_000  # what is held at once while the values of an array are looked at


class ImageArray:
    """The images of an array, (N, height, width) with or without 1, 3 or 4 channels, last or first.

    `where` names its file. DataError for other shapes, and for values whose range cannot be told.
    """

    def __init__(self, array: StoredArray, where: str):
        self._array, self.where = array, where
        self._channels_first = _channels_first(array, where)
        self._scale = _scale(array, where)

    def encoded(self, index: int) -> bytes:
        """The image at `index` as a PGM or PPM file of 8 bits; a fourth channel, alpha, is left out."""
        pixels = self._array.read(index, index + 1)[0]
        if self._channels_first:
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.ndim == 3:
            pixels = pixels[..., :3] if pixels.shape[-1] > 1 else pixels[..., 0]
        height, width = pixels.shape[:2]
        kind = b"P5" if pixels.ndim == 2 else b"P6"
        return b"%s %d %d 255\n" % (kind, width, height) + _eight_bits(pixels, self._scale).tobytes()


def _channels_first(array: StoredArray, where: str) -> bool:
    shape = array.shape
    if len(shape) == 3 or (len(shape) == 4 and shape[-1] in (1, 3, 4)):
        return False
    if len(shape) == 4 and shape[1] in (1, 3, 4):
        return True
    raise DataError(
        f"{where}: images {array.dtype} {shape}: (N, height, width) expected, or that with 1, 3 or 4 channels",
        hint="flat rows of pixels have no shape: reshape them first" if len(shape) == 2 else None,
    )


def _scale(array: StoredArray, where: str) -> float:
    """What the values are multiplied by to come to 0..255.

    uint8 as it is; true and false, and fractions of 0..1, by 255; of 16 bits that are used the top 8;
    whole numbers of 0..255 in any other type as they are.
    """
    if array.dtype == np.uint8:
        return 1.0
    if array.dtype.kind == "b":
        return 255.0
    if array.dtype.kind not in "iuf":
        raise DataError(f"{where}: images of {array.dtype}: numbers expected")
    lowest, highest, whole = _range(array)
    if whole and lowest >= 0 and highest <= 255 and (array.dtype.kind != "f" or highest > 1):
        return 1.0
    if array.dtype == np.uint16:
        return 1 / 256
    if array.dtype.kind == "f" and lowest >= 0 and highest <= 1:
        return 255.0
    raise DataError(
        f"{where}: images of {array.dtype} from {lowest:g} to {highest:g} have no known range",
        hint="save them as uint8 of 0..255, or as fractions of 0..1, before any normalisation",
    )


def _range(array: StoredArray) -> tuple[float, float, bool]:
    """(lowest, highest, whether all are whole numbers) of all values, looked at in parts; DataError by its caller
    for values that are no numbers, since nan compares as no range does."""
    entry = int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize
    step = max(1, PART_BYTES // max(1, entry))
    lows, highs, whole = [], [], True
    for start in range(0, len(array), step):
        part = array.read(start, min(start + step, len(array)))
        lows.append(float(part.min()))
        highs.append(float(part.max()))
        whole = whole and (array.dtype.kind != "f" or bool((part == np.floor(part)).all()))
    return float(np.min(lows)), float(np.max(highs)), whole


def _eight_bits(pixels: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1.0:
        return pixels.astype(np.uint8)
    if scale < 1.0:
        return (pixels >> 8).astype(np.uint8)
    return np.rint(pixels.astype(np.float64) * scale).astype(np.uint8)
