"""Zstandard frames: widths, sizes that lie, and the package that may be missing."""

import sys

import numpy as np
import pytest
import zstandard

from resfit.coding.codec import CodingError
from resfit.coding.zstd import Zstd
from resfit.errors import MissingExtra


@pytest.mark.parametrize(("greatest", "width"), [(127, 1), (128, 2), (32767, 2), (32768, 4)])
def test_symbols_take_the_least_bytes(greatest: int, width: int) -> None:
    data, _ = Zstd().encode([np.array([0, -greatest - 1 if greatest in (127, 32767) else greatest])])
    assert data[0] == width
    assert zstandard.get_frame_parameters(data[1:]).content_size == 2 * width


def test_the_frame_holds_the_symbols_as_bytes() -> None:
    data, _ = Zstd().encode([np.array([1, -1]), np.array([[256]])])
    assert zstandard.ZstdDecompressor().decompress(data[1:]) == bytes([1, 0, 255, 255, 0, 1])


def test_a_bomb_is_refused_by_its_stated_size() -> None:
    bomb = b"\1" + zstandard.ZstdCompressor().compress(bytes(10**7))
    with pytest.raises(CodingError, match="says that it holds 10,000,000 bytes of symbols, expected 4"):
        Zstd().decode(bomb, [(4,)], max_symbols=4)


def test_a_bomb_that_states_no_size_is_refused() -> None:
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    bomb = b"\1" + stream.compress(bytes(10**7)) + stream.flush()
    with pytest.raises(CodingError, match="expected 4"):
        Zstd().decode(bomb, [(4,)], max_symbols=4)


@pytest.mark.parametrize("first", [0, 3, 8])
def test_another_width_is_refused(first: int) -> None:
    with pytest.raises(CodingError, match="width of a symbol"):
        Zstd().decode(bytes([first, 1, 2]), [(4,)], max_symbols=4)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtra, match="the codec zstd needs the package zstandard") as caught:
        Zstd().encode([np.zeros(3, np.int32)])
    assert "resfit[compress]" in str(caught.value)
