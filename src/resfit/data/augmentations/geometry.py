"""Where pixels come from: windows, mirror images, rotation, shear, shift; outside an image lies its mirror image.

Fields filled with one colour, as elsewhere, are something no test image has.
"""

import numpy as np

from resfit.data.augmentations.parts import parts

_STEPS = 256  # positions between two pixels; the weights of an interpolation then fit 16 bits


def mirrored(positions: np.ndarray, size: int) -> np.ndarray:
    """Positions beyond 0..size-1 reflected at the edge pixel, as often as needed for a tiny image."""
    if size == 1:
        return np.zeros_like(positions)
    period = 2 * (size - 1)
    inside = positions % period
    return np.where(inside < size, inside, period - inside)


def windows(images: np.ndarray, *, top: np.ndarray, left: np.ndarray, flipped: np.ndarray, padding: int) -> np.ndarray:
    """A window of the image's own size out of each image padded by `padding` pixels, left-right where `flipped`.

    `top` and `left` int (N,), 0..2 * padding, are the window's corner in the padded image; `flipped` bool (N,).
    """
    height, width = images.shape[1:3]
    rows = mirrored(np.arange(-padding, height + padding), height)
    columns = mirrored(np.arange(-padding, width + padding), width)
    result = np.empty_like(images)
    corners = zip(top.tolist(), left.tolist(), flipped.tolist(), strict=True)
    for index, (first_row, first_column, flip) in enumerate(corners):
        chosen = columns[first_column : first_column + width]
        band = images[index].take(rows[first_row : first_row + height], axis=0)
        # mode="clip" writes straight into the result; the positions are inside already
        band.take(chosen[::-1] if flip else chosen, axis=1, out=result[index], mode="clip")
    return result


def rotation(degrees: np.ndarray) -> np.ndarray:
    """Matrices float64 (N, 2, 3) for `warped` that turn each image's content counter-clockwise."""
    angle = np.deg2rad(degrees)
    zero = np.zeros_like(angle)
    return _matrices([[np.cos(angle), np.sin(angle), zero], [-np.sin(angle), np.cos(angle), zero]])


def shear(*, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Matrices float64 (N, 2, 3): a row moves by `x` of its distance from the middle row, a column by `y`."""
    one, zero = np.ones_like(x), np.zeros_like(x)
    return _matrices([[one, y, zero], [x, one, zero]])


def shift(*, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Matrices float64 (N, 2, 3) that take each pixel from `x` pixels to the right and `y` below."""
    one, zero = np.ones_like(x), np.zeros_like(x)
    return _matrices([[one, zero, y], [zero, one, x]])


def _matrices(rows: list[list[np.ndarray]]) -> np.ndarray:
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def warped(images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Each image as its matrix says where to look: a new array, interpolated bilinearly.

    `matrices` float64 (N, 2, 3) give, for a pixel's (row, column, 1) counted from the middle, the (row,
    column) it is taken from. Positions are rounded to 1/256 pixel and interpolated in whole numbers, so that
    every machine computes the same.
    """
    result = np.empty_like(images)
    for part in parts(images):
        result[part] = _warped(images[part], matrices[part])
    return result


def _warped(images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    count, height, width, channels = images.shape
    row_a, row_b, row_weight = _neighbours(matrices[:, 0], height, width, height)
    column_a, column_b, column_weight = _neighbours(matrices[:, 1], height, width, width)
    above, below = (rows * width + np.arange(count)[:, None, None] * (height * width) for rows in (row_a, row_b))
    pixels = _words(images)
    corners = [
        pixels.take(rows + columns).view(np.uint8).reshape(count, height, width, -1)
        for rows in (above, below)
        for columns in (column_a, column_b)
    ]
    result = np.empty_like(images)
    across, down = column_weight.astype(np.uint16), row_weight.astype(np.uint32)
    for channel in range(channels):  # plane by plane: twice as fast as weights broadcast over three channels
        upper_a, upper_b, lower_a, lower_b = (corner[..., channel] for corner in corners)
        mixed = _between(upper_a, upper_b, across) * (_STEPS - down)
        mixed += _between(lower_a, lower_b, across) * down
        mixed += _STEPS * _STEPS // 2
        mixed >>= 16
        result[..., channel] = mixed
    return result


def _words(images: np.ndarray) -> np.ndarray:
    """Each pixel as one number, (N * height * width,): numpy takes single numbers faster than rows of three."""
    channels = images.shape[-1]
    if channels == 1:
        return images.reshape(-1)
    padded = np.zeros((*images.shape[:-1], 4), dtype=np.uint8)
    padded[..., :channels] = images
    return padded.view(np.uint32).reshape(-1)


def _neighbours(rows: np.ndarray, height: int, width: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Along one axis of `size`: the two pixels each position lies between, and the second's weight, 0 to 255.

    All (N, height, width), for a row of each matrix, (N, 3).
    """
    down, across = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    scaled = rows * _STEPS
    exact = scaled[:, :1, None] * down[:, None] + scaled[:, 2:, None] + (size - 1) / 2 * _STEPS
    exact = exact + scaled[:, 1:2, None] * across
    position = np.rint(exact, out=exact).astype(np.int64)
    first = position >> 8
    lowest = int(first.min())
    table = mirrored(np.arange(lowest, int(first.max()) + 2), size)
    first -= lowest
    return table.take(first), table.take(first + 1), position & (_STEPS - 1)


def _between(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    mixed = one * (_STEPS - weight)
    mixed += other * weight
    return mixed
