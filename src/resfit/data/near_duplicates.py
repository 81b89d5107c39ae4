"""Pairs of images that are one picture: stored again, resized, brightened, made grey.

Two descriptions an image, both of its luminance and both blind to brightness and contrast. The coarse one, 8 x 8
means, finds candidates: two unit vectors of correlation c lie sqrt(2 - 2c) apart, and their projections no further,
so that images sorted along their main axis need only be compared with those close by. That loses no pair. The fine
one is what remains at 16 x 16 when slow changes of brightness are taken away (sky and fog look alike in the coarse
one); it must agree over the whole image and again over its centre, since frames and borders look alike too. Colours
must be close, unless one of the two images is grey.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from resfit.data.images import Images

LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
CHROMINANCE = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=np.float32)  # Cb, Cr
COARSE, FINE, SLOW = 8, 16, 4  # means a side
COARSE_ALIKE = 0.97
FINE_ALIKE = 0.90
CENTRE_ALIKE = 0.85
COLOUR_APART = 16.0  # levels of Cb and Cr, mean over 4 x 4 places; two shades of one photograph differ by less
COLOURLESS = 2.0  # mean level of Cb and Cr up to which an image counts as grey
FAINT = 0.5  # grey levels: the deviation below which the fine description is rounding noise
PART = 2048  # images compared with as many others at once
MOST_PAIRS_AN_IMAGE = 50  # beyond this the search stops: the images are variants of a few


@dataclass(frozen=True, kw_only=True, eq=False)
class Descriptions:
    """What N images are compared by, half a kilobyte each.

    `coarse` float32 (N, 64) of length one; `fine` int8 (N, 16, 16), each image in units of its own, and `lengths`
    float32 (N, 2) of it and of its centre; `colour` int8 (N, 4, 4, 2), Cb and Cr. Zero where an image is too plain
    to tell.
    """

    coarse: np.ndarray
    fine: np.ndarray
    lengths: np.ndarray
    colour: np.ndarray


def describe(thumbnails: Images, usable: np.ndarray) -> Descriptions:
    """Descriptions of the images uint8 (N, 32, 32, 3); those not `usable` (bool, N) resemble nothing."""
    count = len(thumbnails)
    coarse = np.zeros((count, COARSE * COARSE), dtype=np.float32)
    fine = np.zeros((count, FINE, FINE), dtype=np.int8)
    lengths = np.zeros((count, 2), dtype=np.float32)
    colour = np.zeros((count, SLOW, SLOW, 2), dtype=np.int8)
    slow = _slow_part()
    for start in range(0, count, PART):
        part = slice(start, min(start + PART, count))
        pixels = thumbnails[part].astype(np.float32)
        grey = pixels @ LUMINANCE
        coarse[part] = _unit(_means(grey, COARSE).reshape(len(grey), -1)) * usable[part, None]
        detail = _means(grey, FINE)
        detail -= slow @ detail @ slow.T
        largest = np.maximum(np.abs(detail).max((1, 2), keepdims=True), 1e-6)
        fine[part] = np.rint(detail * (127 / largest))
        told = detail.std((1, 2)) >= FAINT
        lengths[part] = np.stack([_lengths(fine[part]), _lengths(_centre(fine[part]))], 1) * told[:, None]
        for channel in (0, 1):
            colour[part, ..., channel] = np.rint(_means(pixels @ CHROMINANCE[channel], SLOW)).clip(-127, 127)
    return Descriptions(coarse=coarse, fine=fine, lengths=lengths, colour=colour)


def near_pairs(descriptions: Descriptions) -> tuple[np.ndarray, bool]:
    """Pairs int64 (K, 2) of images that are one picture, each once, and whether the search saw all.

    It ends early where there are more than 50 pairs an image: all but a few images are copies then.
    """
    coarse = descriptions.coarse
    candidates = np.flatnonzero(coarse.any(axis=1))
    found: list[np.ndarray] = [np.empty((0, 2), dtype=np.int64)]
    left = MOST_PAIRS_AN_IMAGE * max(len(candidates), 1000)
    for pairs in _candidate_pairs(coarse, candidates):
        kept = pairs[_agree(descriptions, pairs)]
        found.append(kept)
        left -= len(kept)
        if left < 0:
            return np.concatenate(found), False
    return np.concatenate(found), True


def grouped(count: int, pairs: np.ndarray) -> np.ndarray:
    """int64 (count,): the smallest index that each image is joined to through `pairs`, itself where none."""
    parent = np.arange(count, dtype=np.int64)
    while True:
        low = np.minimum(parent[pairs[:, 0]], parent[pairs[:, 1]])
        before = parent.copy()
        for side in (0, 1):
            np.minimum.at(parent, before[pairs[:, side]], low)  # the whole group of each end moves down
            np.minimum.at(parent, pairs[:, side], low)
        while not np.array_equal(parent, parent[parent]):
            parent = parent[parent]
        if np.array_equal(parent, before):
            return parent


def _candidate_pairs(coarse: np.ndarray, candidates: np.ndarray) -> Iterator[np.ndarray]:
    """Every pair whose coarse descriptions agree, a block of images against the blocks close by at a time."""
    if len(candidates) < 2:
        return
    rows = coarse[candidates]
    places = (rows - rows.mean(0)) @ _main_axis(rows)
    order = np.argsort(places, kind="stable")
    rows, places, names = rows[order], places[order], candidates[order]
    reach = float(np.sqrt(2 - 2 * COARSE_ALIKE)) + 1e-4
    for first in range(0, len(rows), PART):
        block = rows[first : first + PART]
        end = int(np.searchsorted(places, places[first + len(block) - 1] + reach, side="right"))
        for other in range(first, end, PART):
            hits = np.flatnonzero((block @ rows[other : min(other + PART, end)].T).ravel() >= COARSE_ALIKE)
            left, right = np.divmod(hits, min(PART, end - other))
            once = left + first < right + other
            if once.any():
                yield np.stack([names[left[once] + first], names[right[once] + other]], axis=1)


def _main_axis(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(0)
    return np.linalg.eigh(centred.T @ centred)[1][:, -1].astype(np.float32)


def _agree(descriptions: Descriptions, pairs: np.ndarray) -> np.ndarray:
    """bool (K,): whether the fine descriptions of each pair agree, in the whole image and in its centre."""
    agree = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), PART):
        ends = pairs[start : start + PART]
        left, right = (descriptions.fine[ends[:, side]].astype(np.float32) for side in (0, 1))
        lengths = descriptions.lengths[ends[:, 0]] * descriptions.lengths[ends[:, 1]]
        whole = (left * right).sum((1, 2)) >= FINE_ALIKE * lengths[:, 0]
        middle = (_centre(left) * _centre(right)).sum((1, 2)) >= CENTRE_ALIKE * lengths[:, 1]
        alike = whole & middle & (lengths > 0).all(axis=1)
        agree[start : start + PART] = alike & _same_colours(*(descriptions.colour[ends[:, side]] for side in (0, 1)))
    return agree


def _same_colours(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """bool (K,): whether two int8 (K, 4, 4, 2) are close, or one of them is grey."""
    one, two = left.astype(np.float32), right.astype(np.float32)
    apart = np.abs(one - two).mean((1, 2, 3))
    grey = np.minimum(np.abs(one).mean((1, 2, 3)), np.abs(two).mean((1, 2, 3))) <= COLOURLESS
    return (apart <= COLOUR_APART) | grey


def _lengths(images: np.ndarray) -> np.ndarray:
    return np.linalg.norm(images.astype(np.float32), axis=(1, 2))


def _centre(images: np.ndarray) -> np.ndarray:
    quarter = FINE // 4
    return images[:, quarter:-quarter, quarter:-quarter]


def _means(grey: np.ndarray, edge: int) -> np.ndarray:
    """float32 (N, edge, edge): means over equal squares of (N, side, side)."""
    step = grey.shape[1] // edge
    return grey.reshape(len(grey), edge, step, edge, step).mean((2, 4))


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows - rows.mean(1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(lengths > COARSE * FAINT, rows / np.maximum(lengths, 1e-6), 0)


def _slow_part() -> np.ndarray:
    """float32 (16, 16): a row's 4 means, joined by straight lines; straight slopes pass unchanged."""
    step = FINE // SLOW
    means = np.kron(np.eye(SLOW), np.full((1, step), 1 / step))
    place = (np.arange(FINE) - (step - 1) / 2) / step  # in units of means; the outer ones are continued straight
    low = np.clip(np.floor(place).astype(int), 0, SLOW - 2)
    lines = np.zeros((FINE, SLOW))
    lines[np.arange(FINE), low] = low + 1 - place
    lines[np.arange(FINE), low + 1] = place - low
    return (lines @ means).astype(np.float32)
