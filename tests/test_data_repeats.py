"""Equal files are counted as a person would count them."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.data.repeats import count_repeats


def digests(contents):
    """Rows that end in zeros, which a comparison of texts would drop."""
    rows = np.zeros((len(contents), 32), dtype=np.uint8)
    rows[:, 3] = contents
    return rows


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 8), max_size=12), max_size=3))
def test_groups_and_leaks(roles):
    counts = Counter(content for role in roles for content in role)
    groups = sum(1 for content in counts if counts[content] > 1)
    leaks = sum(
        1 for later, role in enumerate(roles) for content in role if any(content in other for other in roles[:later])
    )
    assert count_repeats([digests(role) for role in roles]) == (groups, leaks)


def test_the_last_byte_counts():
    rows = np.zeros((3, 32), dtype=np.uint8)
    rows[1, 31] = 1
    assert count_repeats([rows]) == (1, 0)
