"""No file crashes a reader, runs, or fills its memory: whatever is wrong with one is a ModelError that names it."""

import contextlib
import json
import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from container_files import assert_equal, at_kinds, rewrite, varied_model, with_checksum
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.errors import ModelError
from resfit.model.container import container_sizes, load_container, save_container
from resfit.model.container_bytes import CODEC_NUMBERS, MAGIC, read_sections, varint
from resfit.model.container_directory import preset_dictionary
from resfit.model.model import weights_sha256

CODEC_AT, LENGTHS_AT = 9, 10


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a file with tensors of every kind."""
    path = tmp_path_factory.mktemp("whole") / "c.resfit"
    save_container(varied_model(), path, codec="huffman")
    return path.read_bytes()


def refused(path: Path, match: str | None = None) -> None:
    for read in (load_container, container_sizes):
        with pytest.raises(ModelError, match=match) as caught:
            read(path)
        assert str(path) in caught.value.message


def test_any_cut_is_noticed(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "c.resfit"
    for end in [*range(40), *range(40, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:end])
        refused(path)


def test_any_flipped_byte_is_noticed(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "c.resfit"
    for at in [*range(40), *range(40, len(whole), 53), *range(len(whole) - 4, len(whole))]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        refused(path)


def test_bytes_after_the_end_are_refused(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "c.resfit"
    path.write_bytes(whole + b"\0")
    refused(path, "says that it has")
    path.write_bytes(with_checksum(whole + b"\0\0\0\0"))
    refused(path, "says that it has")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.resfit"
    for content in (b"", MAGIC, b"PK\x03\x04", pickle.dumps([1]), MAGIC + b"\xff" * 200):
        path.write_bytes(content)
        refused(path)
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        load_container(tmp_path)
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        load_container(tmp_path / "nowhere.resfit")


def test_unknown_versions_and_codecs_are_refused(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "c.resfit"
    path.write_bytes(with_checksum(whole[:8] + b"\x02" + whole[9:]))
    refused(path, "version 2, expected 1")
    for codec in (5, 255):
        path.write_bytes(with_checksum(whole[:CODEC_AT] + bytes([codec]) + whole[LENGTHS_AT:]))
        refused(path, f"codec number {codec}")


def with_lengths(whole: bytes, change: Callable[[list[int]], list[int]]) -> bytes:
    """The file with other lengths in its header and the same content."""
    lengths, at = [], LENGTHS_AT
    for _ in range(6):
        value = shift = 0
        while True:
            value |= (whole[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if whole[at - 1] < 0x80:
                break
        lengths.append(value)
    return with_checksum(whole[:LENGTHS_AT] + b"".join(map(varint, change(lengths))) + whole[at:])


LYING_LENGTHS: dict[str, Callable[[list[int]], list[int]]] = {
    "directory unpacks to less": lambda lengths: [lengths[0] - 1, *lengths[1:]],
    "directory unpacks to more": lambda lengths: [lengths[0] + 1, *lengths[1:]],
    "directory unpacks to a gigabyte": lambda lengths: [1 << 30, *lengths[1:]],
    "a section beyond the file": lambda lengths: [*lengths[:2], lengths[2] + 1, *lengths[3:]],
    "a section beyond any file": lambda lengths: [*lengths[:2], (1 << 62), *lengths[3:]],
    "a section shorter than the file": lambda lengths: [*lengths[:2], lengths[2] - 1, *lengths[3:]],
    "kernels that overlap the vectors": lambda lengths: [*lengths[:2], lengths[2] + 5, lengths[3] - 5, *lengths[4:]],
    "vectors that overlap the kernels": lambda lengths: [*lengths[:2], lengths[2] - 5, lengths[3] + 5, *lengths[4:]],
    "scales that overlap the floats": lambda lengths: [*lengths[:4], lengths[4] + 4, lengths[5] - 4],
    "directory that overlaps the kernels": lambda lengths: [lengths[0], lengths[1] + 1, lengths[2] - 1, *lengths[3:]],
    "all in the floats": lambda lengths: [lengths[0], lengths[1], 0, 0, 0, sum(lengths[2:])],
}


@pytest.mark.parametrize("lie", LYING_LENGTHS.values(), ids=LYING_LENGTHS.keys())
def test_lying_lengths_and_overlaps_are_refused(tmp_path: Path, whole: bytes, lie: object) -> None:
    (tmp_path / "c.resfit").write_bytes(with_lengths(whole, lie))  # type: ignore[arg-type]
    refused(tmp_path / "c.resfit")


def test_numbers_not_in_their_shortest_form_are_refused(tmp_path: Path, whole: bytes) -> None:
    at = LENGTHS_AT + 2  # after the size of the unpacked directory, which has two bytes
    longer = whole[: at - 1] + bytes([whole[at - 1] | 0x80, 0]) + whole[at:]
    (tmp_path / "c.resfit").write_bytes(with_checksum(longer))
    refused(tmp_path / "c.resfit", "not in its shortest form")
    (tmp_path / "c.resfit").write_bytes(with_checksum(whole[:LENGTHS_AT] + b"\xff" * 9 + whole[at:]))
    refused(tmp_path / "c.resfit", "not in its shortest form")


def test_bombs_take_no_memory(tmp_path: Path, whole: bytes) -> None:
    """A directory that unpacks without end, and shapes in agreement that promise a hundred million weights."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, preset_dictionary())
    endless = packer.compress(bytes(150_000_000)) + packer.flush()

    def grown(plain: bytes) -> bytes:
        text = json.loads(plain[plain.index(b'{"') :])
        text["spec"] |= {"stem_width": 4096, "widths": [4096, 4096]}
        count, names = plain[1], plain.index(b"fc.bias\n") + len(b"fc.bias\n")
        columns, end = at_kinds(plain, count), plain.index(b'{"')
        shapes = plain[names:columns]
        for width in (8, 12):
            shapes = shapes.replace(bytes([width]), varint(4096))
        return plain[:names] + shapes + plain[columns:end] + json.dumps(text).encode()

    for name, change in (("endless", {"directory": lambda _: endless}), ("grown", {"plain": grown})):
        (tmp_path / name).write_bytes(whole)
        rewrite(tmp_path / name, **change)  # type: ignore[arg-type]
    refused(tmp_path / "endless", "does not unpack to the")
    refused(tmp_path / "grown", r"its kernels are said to be [\d,]+ symbols")
    assert peak_megabytes_of_reading(tmp_path / "endless", tmp_path / "grown") < 60


def peak_megabytes_of_reading(*paths: Path) -> float:
    """How much a process that tries to read files needs beyond what it needs to import the reader."""
    code = (
        "import resource, sys\n"
        "from resfit.model.container import load_container\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        load_container(path)\n"
        "    except Exception as error:\n        print(type(error).__name__)\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=True)
    *names, kilobytes = done.stdout.split()
    assert names == ["ModelError"] * len(paths)
    return int(kilobytes) / 1000


@pytest.mark.parametrize("codec", CODEC_NUMBERS)
@pytest.mark.parametrize("section", ["kernels", "vectors", "scales"])
def test_bytes_after_the_end_of_a_stream_are_refused(tmp_path: Path, codec: str, section: str) -> None:
    path = tmp_path / "c.resfit"
    save_container(varied_model(), path, codec=codec)
    rewrite(path, **{section: lambda data: data + b"\0"})
    refused(path)


@pytest.mark.parametrize("codec", CODEC_NUMBERS)
@pytest.mark.parametrize("kept", [0, 1, -1])
def test_a_stream_that_ends_early_is_refused_or_means_other_numbers(tmp_path: Path, codec: str, kept: int) -> None:
    """To a range coder every string of bits means something, and may even end where its numbers do."""
    path = tmp_path / "c.resfit"
    save_container(varied_model(), path, codec=codec)
    rewrite(path, kernels=lambda data: data[:kept])
    if codec == "range" and kept == -1:
        with contextlib.suppress(ModelError):
            assert weights_sha256(load_container(path)) != weights_sha256(varied_model())
    else:
        refused(path)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), codec=st.sampled_from(["raw", "huffman", "lzw", "zstd"]))
def test_flipped_bits_under_a_true_checksum_give_a_model_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, codec: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"flipped-{codec}.resfit"
    save_container(varied_model(), path, codec=codec)
    content = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 5), min_size=1, max_size=4)):
        content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(with_checksum(bytes(content)))
    with contextlib.suppress(ModelError):
        load_container(path).module()


def test_numbers_that_an_encoding_does_not_have_are_refused(tmp_path: Path) -> None:
    from resfit.coding.codecs import CODECS

    path = tmp_path / "c.resfit"
    save_container(varied_model(), path, codec="raw")
    section = read_sections(path).contents["vectors"]
    sizes = {"conv1.bias": 8, "layer2.0.conv1.bias": 12, "layer2.1.conv1.bias": 12}
    arrays = CODECS["raw"].decode(section, [(size,) for size in sizes.values()], max_symbols=32)
    for index, (name, value) in enumerate(zip(sizes, (128, 0x8000, 1), strict=True)):
        for wrong in (value, -value - 1, 2**31 - 1, -(2**31)):
            changed = [array.copy() for array in arrays]
            changed[index][3] = wrong
            save_container(varied_model(), path, codec="raw")
            rewrite(path, vectors=lambda _, changed=changed: CODECS["raw"].encode(changed)[0])
            refused_by_loading(path, f"{name} holds a number beyond")


def refused_by_loading(path: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        load_container(path)


def test_scales_that_are_no_floats_are_refused(tmp_path: Path) -> None:
    from resfit.coding.codecs import CODECS

    path = tmp_path / "c.resfit"
    save_container(varied_model(), path, codec="raw")
    section = read_sections(path).contents["scales"]
    shapes = [(8,), (1,), (8,), (5,), (1,), (2,), (3,)]
    arrays = CODECS["raw"].decode(section, shapes, max_symbols=28)
    for index, value in ((0, -(2**31)), (0, 2**31 - 1), (3, 2**31 - 1), (5, 2**31 - 1)):
        changed = [array.copy() for array in arrays]
        changed[index][0] = value
        save_container(varied_model(), path, codec="raw")
        rewrite(path, scales=lambda _, changed=changed: CODECS["raw"].encode(changed)[0])
        refused_by_loading(path, r"finite|rising|each above")


def test_floats_that_are_not_finite_are_refused(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "c.resfit"
    path.write_bytes(whole)
    rewrite(path, floats=lambda data: np.float32([np.nan]).tobytes() + data[4:])
    refused_by_loading(path, "not finite")


def test_a_writer_that_dies_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.resfit"
    save_container(varied_model(), path, codec="raw")

    def dies(_: int) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(os, "fsync", dies)
    with pytest.raises(OSError, match="power cut"):
        save_container(varied_model(seed=1), path, codec="raw")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["c.resfit"]
    assert_equal(load_container(path), varied_model())
