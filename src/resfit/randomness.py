"""The only source of chance: a generator named by (seed, purpose, epoch, index)."""

import hashlib

import numpy as np


def _key(purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")


def rng(seed: int, purpose: str, epoch: int = 0, index: int = 0) -> np.random.Generator:
    """An independent generator for each (seed, purpose, epoch, index); equal arguments, equal draws.

    Seed and purpose form the key and epoch and index the counter of Philox (Salmon et al. 2011), so that no
    two seeds share shifted copies of one stream.
    """
    philox = np.random.Philox(key=[seed % 2**64, _key(purpose)], counter=[0, 0, epoch, index])
    return np.random.Generator(philox)


def derived_seed(seed: int, purpose: str, epoch: int = 0, index: int = 0) -> int:
    """A 63-bit integer for libraries that take a seed instead of a generator."""
    return int(rng(seed, purpose, epoch, index).integers(2**63))
