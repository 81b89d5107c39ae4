"""Phrases and code widths, byte for byte."""

import numpy as np
import pytest

from resfit.coding import lzw
from resfit.coding.codec import CodingError
from resfit.coding.lzw import Lzw


def test_the_bytes_of_a_repetition() -> None:
    """Four ones over {0, 1}: codes 1 (1 bit), then the phrase 11 before it is complete (2: 2 bits), then 1 (2 bits)."""
    data, ends = Lzw().encode([np.array([1, 1, 1, 1, 0])])
    # alphabet: 2 symbols from 0, distance 1; codes: 1 in 1 bit, 2 in 2 bits, 1 in 2 bits, 0 in 3 bits
    assert data == bytes([2, 0, 0, 0b11001000])
    assert ends == [4]
    assert Lzw().decode(data, [(5,)], max_symbols=5)[0].tolist() == [1, 1, 1, 1, 0]


def test_a_long_repetition_is_short() -> None:
    assert len(Lzw().encode([np.zeros(100_000, np.int32)])[0]) < 600


def test_a_full_dictionary_still_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lzw, "MOST_PHRASES", 20)
    tensor = np.random.default_rng(0).integers(0, 3, 3000)
    data, _ = Lzw().encode([tensor])
    assert np.array_equal(Lzw().decode(data, [(3000,)], max_symbols=3000)[0], tensor)
    assert data[4:] != Lzw().encode([np.sort(tensor)])[0][4:]


def test_tensors_share_a_dictionary() -> None:
    tensor = np.random.default_rng(0).integers(0, 4, 500)
    once, twice = (len(Lzw().encode([tensor] * times)[0]) for times in (1, 2))
    assert twice < 1.9 * once


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes([2, 0, 0, 0b01100000]), "not known yet"),  # the code 3 where 0 to 2 are known
        (bytes([2, 0, 0, 0b11000000]), "more symbols than its shapes"),
        (bytes([2, 0, 0, 0b10100001]), "after the last code"),
        (bytes([0]), "alphabet of 0 symbols"),
    ],
    ids=["unknown phrase", "too long", "tail", "no alphabet"],
)
def test_codes_that_lie_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(CodingError, match=message):
        Lzw().decode(data, [(2,)], max_symbols=2)
