"""No file crashes a reader, runs, or fills its memory: whatever is wrong with one is a ModelError that names it."""

import contextlib
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import slow_reader
import torch
from c_reader import run
from container_files import assert_equal, at_kinds, rewrite, varied_model, with_checksum
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import small_model, small_spec

from resfit.coding.codec import number_bytes
from resfit.errors import ModelError
from resfit.measure.macs import parameters
from resfit.model.container import container_sizes, load_container, save_container
from resfit.model.container_bytes import CODEC_NUMBERS, MAGIC, read_sections
from resfit.model.container_directory import SYMBOLS_A_BYTE, preset_dictionary, too_dense
from resfit.model.encoding import Grid
from resfit.model.model import weights_sha256
from resfit.nn.architectures import NAMED

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
    return with_checksum(whole[:LENGTHS_AT] + b"".join(map(number_bytes, change(lengths))) + whole[at:])


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


def grown(plain: bytes) -> bytes:
    """The directory of a network of half a billion weights, shapes and layout in agreement."""
    text = json.loads(plain[plain.index(b'{"') :])
    text["spec"] |= {"stem_width": 4096, "widths": [4096, 4096]}
    count, names = plain[1], plain.index(b"fc.bias\n") + len(b"fc.bias\n")
    columns, end = at_kinds(plain, count), plain.index(b'{"')
    shapes = plain[names:columns]
    for width in (8, 12):
        shapes = shapes.replace(bytes([width]), number_bytes(4096))
    return plain[:names] + shapes + plain[columns:end] + json.dumps(text).encode()


def test_bombs_take_no_memory(tmp_path: Path, whole: bytes) -> None:
    """A directory that unpacks without end, and shapes in agreement that promise a hundred million weights."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, preset_dictionary())
    endless = packer.compress(bytes(150_000_000)) + packer.flush()
    for name, change in (("endless", {"directory": lambda _: endless}), ("grown", {"plain": grown})):
        (tmp_path / name).write_bytes(whole)
        rewrite(tmp_path / name, **change)  # type: ignore[arg-type]
    refused(tmp_path / "endless", "does not unpack to the")
    refused(tmp_path / "grown", r"its kernels are said to be [\d,]+ symbols")
    megabytes, errors = peak_of_reading(tmp_path / "endless", tmp_path / "grown")
    assert errors == ["ModelError", "ModelError"]
    assert megabytes < 60


def test_all_streams_together_are_bounded_in_every_reader(tmp_path: Path, whole: bytes, unpack: Path) -> None:
    """Half a billion weights in 200 kB, which the bound of one stream allows: refused before anything is decoded."""
    path = tmp_path / "c.resfit"
    path.write_bytes(whole)
    rewrite(path, plain=grown, kernels=lambda _: bytes(200_000), vectors=lambda _: bytes(200_000))
    refused(path, r"its streams are said to be [\d,]+ symbols in")
    with pytest.raises(ValueError, match="more numbers than so few bytes hold"):
        slow_reader.read(path)
    done = run(unpack, path, tmp_path / "weights")
    assert (done.returncode, "so few bytes hold no so many numbers" in done.stderr) == (1, True)


def test_every_network_of_the_table_may_be_as_sparse_as_a_stream_allows() -> None:
    largest = max(parameters(spec) for spec in NAMED.values())
    assert too_dense({"kernels": largest}, {"kernels": largest // SYMBOLS_A_BYTE}) is None
    for count, size, wrong in ((2**27, 2**15, False), (2**27 + 1, 2**15, True), (2**30, 2**25, False)):
        assert bool(too_dense({"kernels": count - 1, "vectors": 1}, {"kernels": size, "vectors": 0})) is wrong


@pytest.mark.parametrize("codec", CODEC_NUMBERS)
def test_a_number_takes_few_bytes_of_memory_while_it_is_read(tmp_path: Path, codec: str) -> None:
    """Of two million weights, one of 300 not zero: about nine bytes each."""
    generator = torch.Generator().manual_seed(0)
    count = 0
    for name, width in (("small", 8), ("large", 14_000)):  # the small one, so that all that reads is loaded before
        model = small_model(small_spec(depths=(1,), widths=(8,), strides=(1,), inner_widths=(((width,),),)))
        kernels = {
            key: (torch.rand(item.shape, generator=generator) < 1 / 300) * 0.5
            for key, item in model.weights.items()
            if item.ndim == 4
        }
        grids = dict.fromkeys(kernels, Grid(bits=2, axis=None, scales=np.array([0.5])))
        sparse = dataclasses.replace(model, weights={**model.weights, **kernels}, encodings=grids)
        save_container(sparse, tmp_path / name, codec=codec)
        count = sum(item.numel() for item in sparse.weights.values())
    assert read_sections(tmp_path / "large").codec == codec
    megabytes, errors = peak_of_reading(tmp_path / "large", before=[tmp_path / "small"])
    assert not errors
    assert megabytes * 1e6 / count < 11


def peak_of_reading(*paths: Path, before: Sequence[Path] = ()) -> tuple[float, list[str]]:
    """How many megabytes a process needs to read files beyond what importing and `before` took, and its errors."""
    code = (
        "import sys\n"
        "from resfit.measure.memory import peak_memory_bytes as peak\n"
        "from resfit.model.container import load_container\n"
        "for path in sys.argv[2 : 2 + int(sys.argv[1])]:\n    load_container(path)\n"
        "before = peak()\n"
        "for path in sys.argv[2 + int(sys.argv[1]) :]:\n"
        "    try:\n        load_container(path)\n"
        "    except Exception as error:\n        print(type(error).__name__)\n"
        "print(peak() - before)\n"
    )
    command = [sys.executable, "-c", code, str(len(before)), *map(str, before), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *names, size = done.stdout.split()
    return int(size) / 1e6, names


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
