"""Three readers agree on every golden file: resfit's, one in plain Python and one in C, written from the documents."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import slow_reader
import torch
from c_reader import c_tensors, run
from container_files import varied_model, with_checksum
from torch import Tensor

from resfit.errors import ModelError
from resfit.model.container import load_container, save_container
from resfit.model.container_bytes import CODEC_NUMBERS
from resfit.model.container_description import described
from resfit.model.model import Model, weights_sha256
from resfit.storage import sha256_file

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))


def content(tensor: Tensor) -> bytes:
    """The bytes of a tensor in its own type."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_slow_reader_agrees(path: Path, model: Model) -> None:
    description, tensors = slow_reader.read(path)
    assert description == json.loads(json.dumps(described(model)))
    assert list(tensors) == list(model.weights)
    for name, (shape, data) in tensors.items():
        assert shape == tuple(model.weights[name].shape), name
        assert data == content(model.weights[name]), name


@pytest.mark.parametrize("name", EXPECTED)
def test_a_golden_file_is_what_it_was(name: str) -> None:
    path, expected = GOLDEN / name, EXPECTED[name]
    assert sha256_file(path) == expected["sha256"], "a golden file was changed: they are kept for ever"
    model = load_container(path)
    assert weights_sha256(model) == expected["weights_sha256"]
    assert list(model.labels) == expected["labels"]
    assert sorted(model.encodings) == expected["encodings"]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_slow_reader_agrees_on_golden_files(name: str) -> None:
    assert_slow_reader_agrees(GOLDEN / name, load_container(GOLDEN / name))


def test_golden_files_cover_every_codec() -> None:
    assert {about["codec"] for about in EXPECTED.values()} == CODEC_NUMBERS.keys()
    assert {path.name for path in GOLDEN.glob("*.resfit")} == EXPECTED.keys()


@pytest.mark.parametrize("name", [name for name, about in EXPECTED.items() if about["codec"] != "zstd"])
def test_the_same_model_is_still_written_as_the_same_bytes(tmp_path: Path, name: str) -> None:
    """What zstd writes is its library's affair."""
    save_container(load_container(GOLDEN / name), tmp_path / name, codec=EXPECTED[name]["codec"])
    assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("name", EXPECTED)
def test_the_c_reader_agrees_on_golden_files(unpack: Path, tmp_path: Path, name: str) -> None:
    done = run(unpack, GOLDEN / name, tmp_path / "weights", tmp_path / "description")
    assert (done.returncode, done.stderr) == (0, "")
    model = load_container(GOLDEN / name)
    tensors = c_tensors(done.stdout, (tmp_path / "weights").read_bytes())
    assert list(tensors) == list(model.weights)
    for tensor_name, (kind, shape, data) in tensors.items():
        tensor = model.weights[tensor_name]
        if tensor_name in model.encodings:
            values = np.frombuffer(data, np.float32).reshape(tuple(tensor.shape))
            assert kind == "float32"
            assert content(torch.from_numpy(values.copy()).to(tensor.dtype)) == content(tensor), tensor_name
        else:
            assert kind == str(tensor.dtype).removeprefix("torch.")
            assert data == content(tensor), tensor_name
        assert shape == ("x".join(map(str, tensor.shape)) or "scalar")
    description = json.loads((tmp_path / "description").read_text(encoding="utf-8"))
    assert description == json.loads(json.dumps(described(model)))


@pytest.mark.parametrize("name", ["varied-raw", "varied-huffman", "varied-lzw", "folded-range"])
@pytest.mark.parametrize("mended", [False, True], ids=["as it is", "with a true checksum"])
def test_the_c_reader_survives_flipped_bytes(unpack: Path, tmp_path: Path, name: str, mended: bool) -> None:
    """It ends with a sentence or a file, never in a fault, and accepts what resfit accepts, with the same weights."""
    whole = (GOLDEN / f"{name}.resfit").read_bytes()
    generator = np.random.default_rng(len(whole) + mended)
    for turn in range(40 if mended else 12):
        changed = bytearray(whole)
        reach = 200 if turn % 2 else len(whole) - 4  # the header and the directory, every other time
        for at in generator.integers(0, reach, generator.integers(1, 4)):
            changed[at] ^= int(generator.integers(1, 256))
        path = tmp_path / "flipped.resfit"
        path.write_bytes(with_checksum(bytes(changed)) if mended else bytes(changed))
        done = run(unpack, path, tmp_path / "weights")
        assert done.returncode in (0, 1), done.stderr
        assert done.returncode == 0 or done.stderr.startswith("unpack: "), done.stderr
        assert mended or done.returncode == 1
        try:
            model = load_container(path)
        except ModelError:
            continue
        assert done.returncode == 0
        for name_, (_, _, data) in c_tensors(done.stdout, (tmp_path / "weights").read_bytes()).items():
            assert data == content(model.weights[name_])


def test_the_c_reader_refuses_cuts_and_other_files(unpack: Path, tmp_path: Path) -> None:
    whole = (GOLDEN / "varied-huffman.resfit").read_bytes()
    path = tmp_path / "cut.resfit"
    for content_ in (b"", b"PK", whole[:9], whole[:30], whole[: len(whole) // 2], whole[:-1], whole + b"\0"):
        path.write_bytes(content_)
        done = run(unpack, path, tmp_path / "weights")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("unpack: ")
    assert run(unpack, tmp_path / "nowhere", tmp_path / "weights").returncode == 1
    assert run(unpack).returncode == 1
    assert os.listdir(tmp_path) == ["cut.resfit"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_slow_reader_agrees_on_other_float_types(tmp_path: Path, dtype: torch.dtype) -> None:
    model = varied_model(seed=4, dtype=dtype)
    save_container(model, tmp_path / "c.resfit", codec="raw")
    assert_slow_reader_agrees(tmp_path / "c.resfit", model)
