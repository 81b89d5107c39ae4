"""Canonical codes under a limit: lengths, bytes, and tables that lie."""

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.coding.codec import CodingError
from resfit.coding.huffman import Huffman, code_lengths

FREQUENCIES = st.lists(st.integers(1, 10**6), min_size=2, max_size=60)


def unlimited_cost(frequencies: list[int]) -> int:
    """Bits of all codes by Huffman's own method: the sum of all merged nodes."""
    heap = list(frequencies)
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        cost += merged
        heapq.heappush(heap, merged)
    return cost


@given(FREQUENCIES)
def test_lengths_are_the_best_ones(frequencies: list[int]) -> None:
    counts = np.array(frequencies)
    assert int(counts @ code_lengths(counts, limit=40)) == unlimited_cost(frequencies)


@given(FREQUENCIES, st.integers(6, 20))
@settings(max_examples=60)
def test_lengths_keep_the_limit_and_fill_the_space(frequencies: list[int], limit: int) -> None:
    lengths = code_lengths(np.array(frequencies), limit=limit)
    assert lengths.min() >= 1
    assert lengths.max() <= limit
    assert sum(2 ** (limit - int(length)) for length in lengths) == 2**limit


def test_a_limit_that_binds_costs_least() -> None:
    """Of all lengths up to 3 for five symbols the best are 1, 3, 3, 3, 3 or 2, 2, 2, 3, 3, as the counts have it."""
    assert sorted(code_lengths(np.array([1, 2, 4, 8, 100]), limit=3).tolist()) == [1, 3, 3, 3, 3]
    assert code_lengths(np.array([5, 5, 4, 1, 1]), limit=3).tolist() == [2, 2, 2, 3, 3]


def test_the_bytes_of_a_tensor() -> None:
    """Symbols -1, 0, 5 with lengths 2, 1, 2 have the codes 10, 0, 11."""
    data, ends = Huffman().encode([np.array([0, 5, 0, -1, 0])])
    assert data == bytes([3, 1, 0, 4, 2, 1, 2, 0b01101000])
    assert ends == [8]


def test_one_symbol_takes_only_a_table() -> None:
    assert Huffman().encode([np.full(1000, 3)])[0] == bytes([1, 6, 0])


def test_a_table_serves_the_next_tensor_where_that_is_shorter() -> None:
    tensor = np.array([0, 5, 0, -1, 0])
    assert Huffman().encode([tensor, tensor])[1] == [8, 10]
    other = np.full(4000, 9)
    assert Huffman().encode([tensor, other])[1] == [8, 11]


def test_codes_longer_than_the_quick_table() -> None:
    """Counts that double with each symbol give codes of all lengths up to the limit of 20."""
    tensor = np.repeat(np.arange(22), 2 ** np.arange(21, -1, -1) // 16 + 1)
    data, _ = Huffman().encode([tensor])
    assert np.array_equal(Huffman().decode(data, [tensor.shape], max_symbols=tensor.size)[0], tensor)
    lengths = code_lengths(np.bincount(tensor), limit=20)
    assert lengths.max() > 15


def test_too_many_distinct_symbols_are_refused_with_a_way_out() -> None:
    with pytest.raises(CodingError, match="65,537 distinct symbols") as caught:
        Huffman().encode([np.arange(65537)])
    assert "raw" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes([0, 0]), "before the first one"),
        (bytes([2, 0, 0, 1, 2, 0]), "do not fit together"),
        (bytes([2, 0, 0, 0, 1, 0]), "do not fit together"),
        (bytes([2, 0, 0, 21, 1, 0]), "do not fit together"),
        (bytes([1, 0, 1, 0]), "do not fit together"),
        (bytes([3, 0, 0, 0, 1, 1, 1, 0]), "do not fit together"),
        (bytes([0x81, 0x80, 0x04, 0]), "alphabet of 65,537 symbols"),
        (bytes([2, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F, 5, 1, 1, 0]), "beyond 32 bits"),
        (bytes([2, 0, 0, 1, 1, 1]), "after the last code"),
    ],
    ids=["no table", "incomplete", "zero length", "too long", "lone length", "too full", "alphabet", "32 bits", "tail"],
)
def test_tables_that_lie_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(CodingError, match=message):
        Huffman().decode(data, [(2,)], max_symbols=2)
