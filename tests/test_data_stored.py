"""The file of decoded images: read back as written, and damage noticed wherever it is."""

import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.data.stored import FORMAT, TAIL, DamagedFile, StoredImages, StoreWriter, stored_bytes
from resfit.errors import DataError

SHAPE = (20, 5, 4, 3)
ARRAY = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


def write(path, failures=None, order=range(20)):
    with open(path, "wb") as file:
        writer = StoreWriter(file.fileno(), SHAPE)
        for index in order:
            writer.write(index, ARRAY[index])
        writer.finish(failures or {})
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("stored") / "whole")


def test_the_order_of_writing_does_not_matter(tmp_path, whole):
    backwards = write(tmp_path / "backwards", order=range(19, -1, -1))
    assert backwards.read_bytes() == whole.read_bytes()
    assert whole.stat().st_size == stored_bytes(SHAPE)


def test_images_are_read_as_they_were_written(whole):
    images = StoredImages(whole, SHAPE)
    chosen = np.array([7, 0, 19, 7])
    assert np.array_equal(images[:], ARRAY)
    assert np.array_equal(images[chosen], ARRAY[chosen])
    assert np.array_equal(images[-1], ARRAY[-1])
    assert images.failures == {}


def test_places_without_an_image_keep_their_reason(tmp_path):
    order = [index for index in range(20) if index not in (3, 12)]
    images = StoredImages(write(tmp_path / "file", {12: "empty", 3: "cut short ü"}, order), SHAPE)
    assert images.failures == {3: "cut short ü", 12: "empty"}
    assert np.array_equal(images[np.array(order)], ARRAY[order])


@settings(deadline=None)
@given(position=st.integers(0, stored_bytes(SHAPE) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(tmp_path_factory, whole, position, bit):
    damaged = bytearray(whole.read_bytes())
    damaged[position] ^= 1 << bit
    path = tmp_path_factory.mktemp("damaged") / "file"
    path.write_bytes(damaged)
    if position >= ARRAY.size:
        with pytest.raises(DamagedFile):
            StoredImages(path, SHAPE)
        return
    images = StoredImages(path, SHAPE)
    hit = position // (5 * 4 * 3)
    others = np.array([index for index in range(20) if index != hit])
    assert np.array_equal(images[others], ARRAY[others])
    with pytest.raises(DataError, match=f"image {hit} does not match its checksum"):
        images[hit]


@settings(deadline=None)
@given(st.integers(0, stored_bytes(SHAPE) - 1))
def test_a_file_cut_short_is_noticed(tmp_path_factory, whole, length):
    path = tmp_path_factory.mktemp("short") / "file"
    path.write_bytes(whole.read_bytes()[:length])
    with pytest.raises(DamagedFile):
        StoredImages(path, SHAPE)


def test_images_at_each_others_place_are_noticed(tmp_path, whole):
    content = bytearray(whole.read_bytes())
    size = 5 * 4 * 3
    content[:size], content[size : 2 * size] = content[size : 2 * size], content[:size]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match="image 0 does not match"):
        StoredImages(tmp_path / "file", SHAPE)[0]


@pytest.mark.parametrize("shape", [(20, 4, 5, 3), (10, 5, 4, 6), (19, 5, 4, 3), (21, 5, 4, 3)])
def test_a_file_of_another_shape_is_refused(whole, shape):
    with pytest.raises(DamagedFile):
        StoredImages(whole, shape)


def test_the_bytes_of_a_file_are_those_of_its_format(tmp_path):
    """Other bytes under the same FORMAT would make every file of before read as damaged: raise it with them."""
    images = np.arange(36, dtype=np.uint8).reshape(3, 2, 2, 3)
    with open(tmp_path / "file", "wb") as file:
        writer = StoreWriter(file.fileno(), images.shape)
        for index in (0, 2):
            writer.write(index, images[index])
        writer.finish({1: "empty"})
    checksums = bytes.fromhex("65c97092 00000000 c7647ad0")
    after = checksums + b'{"format": 2, "shape": [3, 2, 2, 3], "failures": [[1, "empty"]]}'
    tail = b"RESFITIM" + (64).to_bytes(8, "little") + zlib.crc32(after).to_bytes(4, "little")
    content = bytes(range(12)) + bytes(12) + bytes(range(24, 36))
    assert (tmp_path / "file").read_bytes() == content + after + tail
    assert FORMAT == 2


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("resfit.data.stored.FORMAT", FORMAT + 1)
    later = write(tmp_path / "later")
    monkeypatch.undo()
    with pytest.raises(DamagedFile, match=f"format {FORMAT + 1}"):
        StoredImages(later, SHAPE)
    meta = later.read_bytes()[ARRAY.size + 4 * 20 : -TAIL.size]
    assert json.loads(meta) == {"format": FORMAT + 1, "shape": list(SHAPE), "failures": []}


def test_a_damaged_image_comes_from_its_source_and_is_told_once(tmp_path, capsys):
    path = write(tmp_path / "file")
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    content[5 * 4 * 3] ^= 1
    path.write_bytes(content)
    images = StoredImages(path, SHAPE, again=ARRAY.__getitem__)
    assert np.array_equal(images[:], ARRAY)
    assert np.array_equal(images[:], ARRAY)
    assert capsys.readouterr().err.count("is damaged") == 1
    assert not path.exists()


def test_a_file_written_anew_meanwhile_keeps_its_name(tmp_path):
    path = write(tmp_path / "file")
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    images = StoredImages(path, SHAPE, again=ARRAY.__getitem__)
    path.unlink()
    write(path)
    assert np.array_equal(images[0], ARRAY[0])
    assert np.array_equal(StoredImages(path, SHAPE)[:], ARRAY)


def test_an_image_of_another_size_is_not_written(tmp_path):
    with open(tmp_path / "file", "wb") as file, pytest.raises(ValueError, match="image of 5 bytes"):
        StoreWriter(file.fileno(), SHAPE).write(0, np.zeros(5, dtype=np.uint8))
