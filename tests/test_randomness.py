"""Streams of chance: apart for other names, the same for the same, today's what they were."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.randomness import derived_seed, rng

SEEDS = st.integers(0, 2**64 - 1)


@settings(max_examples=60, deadline=None)
@given(one=SEEDS, other=SEEDS, purpose=st.sampled_from(["order", "augment", "mix"]))
def test_seeds_do_not_share_a_stream(one, other, purpose):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = (rng(seed, purpose).integers(2**63, size=4).tolist() for seed in (one, other))
    assert (first == second) == (one == other)


@pytest.mark.parametrize("purpose", ["order", "augment"])  # one key from 2**63 on and one below
@pytest.mark.parametrize("seed", [2**53, 2**63 - 2, 2**64 - 2])
def test_large_neighbouring_seeds_differ(seed, purpose):
    assert rng(seed, purpose).integers(2**63) != rng(seed + 1, purpose).integers(2**63)


def test_every_part_of_the_name_counts():
    names = [(1, "a"), (2, "a"), (1, "b"), (1, "a", 1), (1, "a", 0, 1), (1, "a", 1, 1)]
    assert len({derived_seed(*name) for name in names}) == len(names)
    assert derived_seed(1, "a") == derived_seed(1, "a", 0, 0)


def test_the_streams_are_those_that_were_written_down():
    """Other values silently change every seeded result."""
    drawn = [int(rng(7, purpose, 3, 1).integers(10**9)) for purpose in ("order", "augment", "flip", "step")]
    assert drawn == WRITTEN_DRAWS
    assert np.array_equal(rng(7 + 2**64, "order").random(3), rng(7, "order").random(3))


WRITTEN_DRAWS = [265931657, 118289146, 917802602, 867989557]
