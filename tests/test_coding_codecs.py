"""What all codecs promise: any whole numbers of any shapes come back, and no bytes do harm."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from resfit.coding.codec import CodingError, Reader, number_bytes, signed_bytes
from resfit.coding.codecs import CODECS

NAMES = sorted(CODECS)
LEAST, GREATEST = -(2**31), 2**31 - 1

SMALL = st.integers(-3, 3)
SYMBOLS = st.one_of(SMALL, st.integers(-300, 300), st.integers(LEAST, GREATEST), st.sampled_from([LEAST, GREATEST]))
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
TENSORS = st.lists(
    st.one_of(
        arrays.arrays(np.int32, SHAPES, elements=SYMBOLS),
        arrays.arrays(np.int32, st.sampled_from([(4, 3, 3, 3), (2, 3, 1, 5), (3, 2, 4), (40,)]), elements=SMALL),
    ),
    max_size=4,
)


def weights(seed: int = 0) -> list[np.ndarray]:
    """Tensors as a small network has them: kernels, a classifier, biases, one without symbols."""
    generator = np.random.default_rng(seed)
    return [
        np.rint(generator.laplace(0, 0.8, (16, 8, 3, 3))).astype(np.int32),
        np.rint(generator.laplace(0, 0.4, (8, 16, 1, 1))).astype(np.int32),
        np.rint(generator.normal(0, 30, (16,))).astype(np.int32),
        np.zeros((0, 4), np.int32),
        np.rint(generator.laplace(0, 4, (10, 16))).astype(np.int32),
    ]


def decoded(name: str, data: bytes, tensors: list[np.ndarray]) -> list[np.ndarray]:
    return CODECS[name].decode(
        data, [tensor.shape for tensor in tensors], max_symbols=sum(tensor.size for tensor in tensors)
    )


@pytest.mark.parametrize("name", NAMES)
@given(tensors=TENSORS)
@settings(max_examples=60, deadline=None)
def test_any_tensors_come_back(name: str, tensors: list[np.ndarray]) -> None:
    data, ends = CODECS[name].encode(tensors)
    back = decoded(name, data, tensors)
    assert len(back) == len(tensors)
    for tensor, other in zip(tensors, back, strict=True):
        assert other.dtype == np.int32
        assert other.shape == tensor.shape
        assert np.array_equal(tensor, other)
    assert len(ends) == len(tensors)
    assert ends == sorted(ends)
    assert not ends or ends[-1] == len(data)


@pytest.mark.parametrize("name", NAMES)
def test_no_symbols_are_no_bytes(name: str) -> None:
    assert CODECS[name].encode([]) == (b"", [])
    assert CODECS[name].encode([np.zeros((0,), np.int32), np.zeros((3, 0, 2), np.int32)]) == (b"", [0, 0])
    assert [tensor.shape for tensor in CODECS[name].decode(b"", [(0,), (3, 0, 2)], max_symbols=0)] == [(0,), (3, 0, 2)]


@pytest.mark.parametrize("name", NAMES)
def test_the_ends_say_where_the_bytes_go(name: str) -> None:
    """A long tensor of chance takes nearly all bytes, a tensor without symbols none."""
    tensors = [np.zeros((20,), np.int32), np.random.default_rng(0).integers(0, 200, (2000,)), np.zeros((0,), np.int32)]
    data, ends = CODECS[name].encode(tensors)
    first, second, third = np.diff([0, *ends])
    assert third <= 4  # what ends a stream
    assert second > 1800
    assert first < len(data) / 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, bool])
def test_integers_of_other_types_are_taken(name: str, dtype: type) -> None:
    tensor = np.array([[0, 1], [1, 1]], dtype)
    if dtype is bool:
        with pytest.raises(CodingError, match="holds bool, expected whole numbers"):
            CODECS[name].encode([tensor])
        return
    assert np.array_equal(decoded(name, CODECS[name].encode([tensor])[0], [tensor])[0], tensor)


@pytest.mark.parametrize("name", NAMES)
def test_other_numbers_are_refused(name: str) -> None:
    with pytest.raises(CodingError, match="tensor 1 holds float32"):
        CODECS[name].encode([np.zeros(2, np.int32), np.zeros(2, np.float32)])
    with pytest.raises(CodingError, match="tensor 0 holds numbers beyond 32 bits"):
        CODECS[name].encode([np.array([2**31])])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "range"])
def test_a_stream_cut_anywhere_is_refused(name: str) -> None:
    tensors = weights()
    data, _ = CODECS[name].encode(tensors)
    for length in {0, 1, 2, len(data) // 3, len(data) // 2, len(data) - 2, len(data) - 1}:
        with pytest.raises(CodingError):
            decoded(name, data[:length], tensors)


def test_a_range_stream_cut_anywhere_is_refused_or_is_that_of_other_symbols() -> None:
    """Past its end a range coder reads 0xff, so a shorter stream may be whole; then it is not the longer one's."""
    tensors = weights()
    data, _ = CODECS["range"].encode(tensors)
    refused = 0
    for length in range(0, len(data), len(data) // 40):
        try:
            back = decoded("range", data[:length], tensors)
        except CodingError:
            refused += 1
            continue
        assert any(not np.array_equal(tensor, other) for tensor, other in zip(tensors, back, strict=True))
    assert refused > 30


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tail", [b"\0", b"\xff", b"more"])
def test_bytes_after_the_end_are_refused(name: str, tail: bytes) -> None:
    tensors = weights()
    with pytest.raises(CodingError):
        decoded(name, CODECS[name].encode(tensors)[0] + tail, tensors)
    with pytest.raises(CodingError):
        CODECS[name].decode(tail, [], max_symbols=0)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.binary(max_size=60), shapes=st.lists(SHAPES, max_size=3))
@settings(max_examples=150, deadline=None)
def test_bytes_of_chance_are_refused_or_read_as_what_they_are(name: str, data: bytes, shapes: list) -> None:
    try:
        tensors = CODECS[name].decode(data, shapes, max_symbols=2000)
    except CodingError:
        return
    assert [tensor.shape for tensor in tensors] == shapes


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bits_are_refused_or_read_as_other_symbols(name: str) -> None:
    tensors = weights()
    data = bytearray(CODECS[name].encode(tensors)[0])
    generator = np.random.default_rng(1)
    changed = 0
    for place in generator.integers(0, len(data), 40):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(generator.integers(8))
        try:
            back = decoded(name, bytes(damaged), tensors)
        except CodingError:
            changed += 1
            continue
        changed += any(not np.array_equal(tensor, other) for tensor, other in zip(tensors, back, strict=True))
    assert changed >= 38  # a bit of a zstd frame may mean nothing


@pytest.mark.parametrize("name", NAMES)
def test_more_symbols_than_allowed_are_refused_before_memory_is_taken(name: str) -> None:
    with pytest.raises(CodingError, match="hold 1,000,000,000,000 symbols, expected at most 5"):
        CODECS[name].decode(b"\0\0", [(10**6, 10**6)], max_symbols=5)
    with pytest.raises(CodingError, match="hold 6 symbols, expected at most 5"):
        CODECS[name].decode(b"\0\0", [(3,), (3,)], max_symbols=5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(-1,), (2, -1, -1), (1,) * 33])
def test_shapes_that_are_none_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(CodingError, match="not the shape of a tensor"):
        CODECS[name].decode(b"", [shape], max_symbols=5)


def test_the_codecs_by_name() -> None:
    assert list(CODECS) == ["raw", "huffman", "lzw", "zstd", "range"]


def test_naming_the_codecs_loads_no_compiler() -> None:
    code = "import sys, resfit.coding.codecs; print({'numba', 'zstandard', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


@given(st.integers(0, 2**33 - 1))
def test_numbers_come_back(number: int) -> None:
    reader = Reader(number_bytes(number))
    assert reader.number() == number
    reader.finish()


@given(st.integers(-(2**32), 2**32 - 1))
def test_signed_numbers_come_back(number: int) -> None:
    assert Reader(signed_bytes(number)).signed() == number


def test_numbers_as_bytes() -> None:
    assert number_bytes(0) == b"\0"
    assert number_bytes(300) == b"\xac\x02"
    assert [signed_bytes(number) for number in (0, -1, 1, -2)] == [b"\0", b"\1", b"\2", b"\3"]


@pytest.mark.parametrize(
    "data", [b"\x80\0", b"\xff" * 5, b"\xff\xff\xff\xff\x7f", b"\x80" * 9], ids=lambda data: data.hex()
)
def test_a_number_in_another_than_its_shortest_form_is_refused(data: bytes) -> None:
    with pytest.raises(CodingError, match="malformed"):
        Reader(data).number()
