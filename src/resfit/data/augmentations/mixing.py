"""Squares cut out, and two images made one: cutout, mixup, cutmix."""

import numpy as np

_STEPS = 256  # shares of a mixed image; a weighted sum of two bytes then fits 16 bits


def cut_out(images: np.ndarray, *, centers: np.ndarray, size: int) -> np.ndarray:
    """A square of `size` pixels around each centre replaced by the image's mean colour; a new array.

    `centers` float (N, 2): row and column as shares 0 to 1 of height and width. At the edge less is cut.
    Cutout (DeVries & Taylor 2017, arXiv 1708.04552) fills with the data's mean colour, which a uint8 image
    does not know; its own mean is as empty of content.
    """
    count, height, width, channels = images.shape
    # whole rows first: several times as fast as pixels of three
    columns = images.reshape(count, height, width * channels).sum(axis=1, dtype=np.uint32)
    sums = columns.reshape(count, width, channels).sum(axis=1)
    means = (sums / (height * width)).round().astype(np.uint8)
    result = images.copy()
    tops = np.floor(centers[:, 0] * height).astype(int) - size // 2
    lefts = np.floor(centers[:, 1] * width).astype(int) - size // 2
    for index, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
        result[index, max(0, top) : top + size, max(0, left) : left + size] = means[index]
    return result


def mixed(
    images: np.ndarray, others: np.ndarray, *, shares: np.ndarray, cut: np.ndarray, centers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each image with its other one, blended or, where `cut`, with a box of the other's pixels in it.

    `shares` float (N,), 0 to 1, is what stays of the first; `cut` bool (N,); `centers` float (N, 2) the boxes'
    middle as shares of height and width. Returns the images, a new array, and the shares float32 (N,) that
    the pixels in fact have: blended in 256ths, boxes cut off at the edge.
    mixup: Zhang et al. 2018, arXiv 1710.09412. cutmix: Yun et al. 2019, arXiv 1905.04899.
    """
    result = np.empty_like(images)
    kept = np.empty(len(images), dtype=np.float32)
    for index, (share, center) in enumerate(zip(shares.tolist(), centers.tolist(), strict=True)):
        if cut[index]:
            result[index] = images[index]
            rows, columns = _box(images.shape[1:3], share, center)
            result[index, rows, columns] = others[index, rows, columns]
            area = (rows.stop - rows.start) * (columns.stop - columns.start)
            kept[index] = 1 - area / (images.shape[1] * images.shape[2])
        else:
            weight = round(share * _STEPS)
            result[index] = _blended(images[index], others[index], weight)
            kept[index] = weight / _STEPS
    return result, kept


def _blended(one: np.ndarray, other: np.ndarray, weight: int) -> np.ndarray:
    total = one * np.uint16(weight)
    total += other * np.uint16(_STEPS - weight)
    total += np.uint16(_STEPS // 2)
    total >>= np.uint16(8)
    return total


def _box(size: tuple[int, ...], share: float, center: list[float]) -> tuple[slice, slice]:
    """The box of the image's shape with an area of 1 - share around the centre, cut off at the edges."""
    spans = []
    for pixels, middle in zip(size, center, strict=True):
        half = (1 - share) ** 0.5 * pixels / 2
        at = int(middle * pixels) + 0.5
        begin, end = round(at - half), round(at + half)
        spans.append(slice(max(0, begin), min(pixels, end)))
    return spans[0], spans[1]
