"""Numbers that say what a small picture shows, made without a network.

Learned patches as in Coates, Lee and Ng ("An analysis of single-layer networks in unsupervised feature learning",
2011): spherical k-means on whitened 6 x 6 patches of the images themselves, responses above a threshold averaged
over the four quarters; beside them edge directions over 4 x 4 cells (Dalal and Triggs 2005) and means and deviations
of colour over the same cells.
"""

from dataclasses import dataclass

import numpy as np

from resfit.data.images import Images
from resfit.data.near_duplicates import LUMINANCE
from resfit.randomness import rng

PATCH = 6  # pixels a side
STRIDE = 2
PATTERNS = 200
THRESHOLD = 0.25  # responses below it count as none
SAMPLED_IMAGES, SAMPLED_PATCHES = 2000, 20_000
ROUNDS = 8  # of k-means
CELLS, DIRECTIONS = 4, 8
FLAT = 10.0  # added to a patch's variance (levels squared), so that plain patches stay small
NUM_FEATURES = 4 * PATTERNS + CELLS * CELLS * (DIRECTIONS + 6)


@dataclass(frozen=True, kw_only=True, eq=False)
class Patterns:
    """Whitening and k-means in one: responses are `patches @ weights - offset`, weights float32 (108, 200)."""

    weights: np.ndarray
    offset: np.ndarray


def learn_patterns(thumbnails: Images, usable: np.ndarray, *, seed: int = 0) -> Patterns:
    """Patterns of the images uint8 (N, 32, 32, 3) at the places `usable`, int64 (K,), K of 1 or more."""
    chance = rng(seed, "audit patterns")
    chosen = np.sort(chance.choice(usable, min(len(usable), SAMPLED_IMAGES), replace=False))
    images = thumbnails[chosen].astype(np.float32)
    room = images.shape[1] - PATCH + 1
    rows, columns = chance.integers(room, size=(2, SAMPLED_PATCHES))
    which = chance.integers(len(images), size=SAMPLED_PATCHES)
    steps = np.arange(PATCH)
    patches = images[
        which[:, None, None], (rows[:, None] + steps)[:, :, None], (columns[:, None] + steps)[:, None, :]
    ].reshape(SAMPLED_PATCHES, -1)
    patches = _normalised(patches)
    mean = patches.mean(0)
    values, axes = np.linalg.eigh(np.cov((patches - mean).T))
    whitening = ((axes / np.sqrt(np.maximum(values, 0) + 0.1)) @ axes.T).astype(np.float32)
    centres = _directions((patches - mean) @ whitening, chance)
    weights = whitening @ centres.T
    return Patterns(weights=weights, offset=mean @ weights)


def features(images: np.ndarray, patterns: Patterns) -> np.ndarray:
    """float32 (N, 1024) of uint8 (N, 32, 32, 3)."""
    pixels = images.astype(np.float32)
    return np.concatenate([_responses(pixels, patterns), _edges(pixels), _colours(pixels)], axis=1)


def _directions(rows: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """float32 (200, 108) unit vectors: spherical k-means, an empty cluster drawn anew."""
    centres = rows[chance.choice(len(rows), PATTERNS, replace=False)]
    for _ in range(ROUNDS):
        centres = centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-6)
        alike = rows @ centres.T
        nearest = alike.argmax(axis=1)
        sums = np.zeros((len(rows), PATTERNS), dtype=np.float32)
        sums[np.arange(len(rows)), nearest] = alike[np.arange(len(rows)), nearest]
        centres = sums.T @ rows
        empty = ~centres.any(axis=1)
        centres[empty] = rows[chance.integers(len(rows), size=int(empty.sum()))]
    return centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-6)


def _normalised(patches: np.ndarray) -> np.ndarray:
    patches = patches - patches.mean(axis=1, keepdims=True)
    return patches / np.sqrt(patches.var(axis=1, keepdims=True) + FLAT)


def _responses(pixels: np.ndarray, patterns: Patterns) -> np.ndarray:
    """float32 (N, 800): square roots of mean responses of each pattern over the four quarters."""
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (PATCH, PATCH), axis=(1, 2))[:, ::STRIDE, ::STRIDE]
    count, places = len(pixels), windows.shape[1]
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, PATCH * PATCH * 3)
    above = np.maximum(_normalised(patches) @ patterns.weights - patterns.offset - THRESHOLD, 0)
    above = above.reshape(count, places, places, PATTERNS)
    half = places // 2
    quarters = [above[:, rows, columns] for rows in _halves(half) for columns in _halves(half)]
    return np.sqrt(np.concatenate([quarter.mean((1, 2)) for quarter in quarters], axis=1))


def _halves(half: int) -> tuple[slice, slice]:
    return slice(0, half), slice(half, None)


def _edges(pixels: np.ndarray) -> np.ndarray:
    """float32 (N, 128): strength of edges by direction and cell, each image's to a sum of one."""
    grey = np.sqrt(pixels @ LUMINANCE)
    across = np.zeros_like(grey)
    down = np.zeros_like(grey)
    across[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    down[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    strength = np.hypot(across, down)
    turn = (np.arctan2(down, across) % np.pi) * (DIRECTIONS / np.pi)
    edge = grey.shape[1] // CELLS
    cells = np.empty((len(pixels), CELLS, CELLS, DIRECTIONS), dtype=np.float32)
    for direction in range(DIRECTIONS):
        apart = np.abs(turn - direction)
        near = np.maximum(1 - np.minimum(apart, DIRECTIONS - apart), 0)
        cells[..., direction] = (strength * near).reshape(-1, CELLS, edge, CELLS, edge).sum((2, 4))
    flat = cells.reshape(len(pixels), -1)
    return np.sqrt(flat / np.maximum(flat.sum(axis=1, keepdims=True), 1.0))


def _colours(pixels: np.ndarray) -> np.ndarray:
    edge = pixels.shape[1] // CELLS
    cells = pixels.reshape(len(pixels), CELLS, edge, CELLS, edge, 3) / 255
    means, deviations = cells.mean((2, 4)), cells.std((2, 4))
    return np.concatenate([means.reshape(len(pixels), -1), deviations.reshape(len(pixels), -1)], axis=1)
