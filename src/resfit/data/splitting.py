"""A stratified cut decided by hashes: the same images fall on the same side whatever their order.

Each image's place in its class is the hash of its own key, so new images move at most the few others that
stand at the cut.
"""

import hashlib

import numpy as np

TEST_FRACTION = 0.2
VALIDATION_FRACTION = 0.1
MAX_VALIDATION = 2500


def _place(key: str, *, seed: int, purpose: str) -> bytes:
    return hashlib.blake2b(f"{purpose}\0{seed}\0{key}".encode("utf-8", "surrogateescape")).digest()


def cut(
    keys: tuple[str, ...], targets: np.ndarray, *, fraction: float, seed: int, purpose: str
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (kept, cut off), each ascending: about `fraction` of every class is cut off.

    Of a class of two or more images at least one is cut off and at least one kept; a class of one is kept.
    """
    cut_off: list[int] = []
    for target in np.unique(targets):
        members = np.flatnonzero(targets == target).tolist()
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        members.sort(key=lambda index: (_place(keys[index], seed=seed, purpose=purpose), index))
        cut_off.extend(members[:count])
    mask = np.zeros(len(keys), dtype=bool)
    mask[cut_off] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def cut_test(keys: tuple[str, ...], targets: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (rest, test): 20 % of every class for the final proof."""
    return cut(keys, targets, fraction=TEST_FRACTION, seed=seed, purpose="test split")


def cut_validation(keys: tuple[str, ...], targets: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, validation): 10 % of every class, at most about 2,500 images, for all choices."""
    fraction = min(VALIDATION_FRACTION, MAX_VALIDATION / max(len(keys), 1))
    return cut(keys, targets, fraction=fraction, seed=seed, purpose="validation split")
