"""Fixed-width fields, byte for byte."""

import numpy as np
import pytest

from resfit.coding.codec import CodingError
from resfit.coding.raw import Raw


def test_fields_are_as_wide_as_the_range_of_symbols() -> None:
    data, ends = Raw().encode([np.array([-2, 0, 3, -2])])
    assert data == bytes([3, 3, 0b00001010, 0b10000000])  # -2 as a signed number, width 3, then 0, 2, 5, 0
    assert ends == [4]


def test_a_constant_takes_no_fields() -> None:
    assert Raw().encode([np.full((64, 64), 7)])[0] == bytes([14, 0])


def test_a_long_constant_takes_a_bit_a_symbol() -> None:
    data = Raw().encode([np.full((8, 1000), 7)])[0]
    assert data == bytes([14, 1]) + bytes(1000)
    assert np.array_equal(Raw().decode(data, [(8, 1000)], max_symbols=8000)[0], np.full((8, 1000), 7))


def test_too_wide_fields_are_refused() -> None:
    with pytest.raises(CodingError, match="fields of 33 bits"):
        Raw().decode(bytes([0, 33]) + bytes(10), [(2,)], max_symbols=2)


def test_a_symbol_beyond_32_bits_is_refused() -> None:
    with pytest.raises(CodingError, match="beyond 32 bits"):
        Raw().decode(bytes([2, 32]) + b"\xff" * 4, [(1,)], max_symbols=1)


def test_set_bits_after_the_last_field_are_refused() -> None:
    with pytest.raises(CodingError, match="after the last symbol"):
        Raw().decode(bytes([0, 3, 1]), [(2,)], max_symbols=2)


@pytest.mark.parametrize("width", [1, 3, 13, 32])
def test_many_fields_come_back(width: int) -> None:
    tensor = np.random.default_rng(width).integers(0, 2**width, 200_001) - 2 ** (width - 1)
    data = Raw().encode([tensor])[0]
    assert np.array_equal(Raw().decode(data, [tensor.shape], max_symbols=tensor.size)[0], tensor)
    if tensor.size * width % 8:
        with pytest.raises(CodingError, match="after the last symbol"):
            Raw().decode(data[:-1] + bytes([data[-1] | 1]), [tensor.shape], max_symbols=tensor.size)
