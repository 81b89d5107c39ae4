"""The only source of chance: a generator named by (seed, purpose, epoch, index)."""

import hashlib

import numpy as np


def _key(purpose: str) -> int:
    """64 bits of a digest; from 2**63 on its first 53, to which the first results' keys were rounded."""
    digest = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")
    return digest if digest < 2**63 else int(float(digest)) % 2**64


def rng(seed: int, purpose: str, epoch: int = 0, index: int = 0) -> np.random.Generator:
    """An independent generator for each (seed, purpose, epoch, index); equal arguments, equal draws.

    Seed and purpose form the key and epoch and index the counter of Philox (Salmon et al. 2011), so that no
    two seeds share shifted copies of one stream.
    """
    # as an array: numpy makes a list of a number below and one from 2**63 on two floats, and seeds would collide
    key = np.array([seed % 2**64, _key(purpose)], dtype=np.uint64)
    philox = np.random.Philox(key=key, counter=[0, 0, epoch, index])
    return np.random.Generator(philox)


def derived_seed(seed: int, purpose: str, epoch: int = 0, index: int = 0) -> int:
    """A 63-bit integer for libraries that take a seed instead of a generator."""
    return int(rng(seed, purpose, epoch, index).integers(2**63))
