"""A `.resfit` file gives back the very model, costs little beyond its symbols, and every verb takes it."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from container_files import assert_equal, encoded, short_floats, varied_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import images, small_model, small_spec
from test_model_run_folder import specs

from resfit.coding.codecs import CODECS
from resfit.errors import MissingExtra, ModelError, UsageError
from resfit.model.container import container_sizes, load_container, save_container
from resfit.model.container_bytes import CODEC_NUMBERS, is_container, read_sections
from resfit.model.container_description import SPEC_DEFAULTS
from resfit.model.encoding import Codebook, Encoding, Float, Grid
from resfit.model.fold import fold
from resfit.model.load import load
from resfit.model.model import Model
from resfit.model.run_folder import load_run, save
from resfit.nn.spec import ResNetSpec


@pytest.mark.parametrize("codec", CODEC_NUMBERS)
def test_every_codec_gives_the_model_back(tmp_path: Path, codec: str) -> None:
    model = varied_model()
    path = tmp_path / "c.resfit"
    save_container(model, path, codec=codec)
    loaded = load_container(path)
    assert_equal(loaded, model)
    assert read_sections(path).codec == codec
    assert torch.equal(loaded.module()(images(model.spec)), model.module()(images(model.spec)))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=specs(), seed=st.integers(0, 2**31), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_a_model_of_floats_is_given_back(tmp_path: Path, spec: ResNetSpec, seed: int, dtype: torch.dtype) -> None:
    model = small_model(spec, seed=seed, dtype=dtype)
    save_container(model, tmp_path / "c.resfit")
    assert_equal(load_container(tmp_path / "c.resfit"), model)


@st.composite
def encodings(draw: st.DrawFn, shape: tuple[int, ...]) -> Encoding:
    kind = draw(st.sampled_from(["grid", "codebook", "fp16", "bf16"]))
    if kind == "grid":
        axis = draw(st.sampled_from([None, *range(len(shape))]))
        count = 1 if axis is None else shape[axis]
        exponents = draw(st.lists(st.integers(-30, 3), min_size=count, max_size=count))
        factors = draw(st.lists(st.floats(1, 2, width=32), min_size=count, max_size=count))
        return Grid(bits=draw(st.integers(2, 16)), axis=axis, scales=np.array(factors) * 2.0 ** np.array(exponents))
    if kind == "codebook":
        finite = st.floats(-(2.0**127), 2.0**127, width=32, allow_subnormal=False).map(lambda value: value + 0.0)
        return Codebook(centers=np.array(sorted(draw(st.sets(finite, min_size=1, max_size=20)))))
    return Float(kind=kind)  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), codec=st.sampled_from(["raw", "huffman", "lzw"]))
def test_any_encodings_of_any_tensors_are_given_back(tmp_path: Path, data: st.DataObject, codec: str) -> None:
    model = fold(small_model(small_spec(widths=(8, 8), shortcut="projection")))
    chosen = data.draw(st.sets(st.sampled_from(sorted(model.weights))))
    drawn = {name: data.draw(encodings(tuple(model.weights[name].shape))) for name in sorted(chosen)}
    model = encoded(model, drawn)
    save_container(model, tmp_path / "c.resfit", codec=codec)
    assert_equal(load_container(tmp_path / "c.resfit"), model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    model = small_model(small_spec(), dtype=torch.float32)
    weights = {name: item.to(dtype) if item.is_floating_point() else item for name, item in model.weights.items()}
    model = encoded(
        dataclasses.replace(model, weights=weights), {"fc.weight": Grid(bits=5, axis=None, scales=np.array([0.0625]))}
    )
    save_container(model, tmp_path / "c.resfit", codec="raw")
    assert_equal(load_container(tmp_path / "c.resfit"), model)


def test_the_same_model_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.resfit", "b.resfit"):
        save_container(varied_model(), tmp_path / name)
    assert (tmp_path / "a.resfit").read_bytes() == (tmp_path / "b.resfit").read_bytes()


def test_values_beside_their_encoding_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    model = varied_model()
    moved = {**model.weights, "fc.weight": model.weights["fc.weight"] + 0.01}
    with pytest.raises(ModelError, match=r"fc\.weight holds values that its encoding does not have"):
        save_container(dataclasses.replace(model, weights=moved), tmp_path / "c.resfit")
    broken = {**model.weights, "fc.bias": model.weights["fc.bias"] * float("nan")}
    with pytest.raises(ModelError, match=r"not finite in fc\.bias"):
        save_container(dataclasses.replace(model, weights=broken), tmp_path / "c.resfit")
    with pytest.raises(UsageError, match="no codec 'rang'"):
        save_container(model, tmp_path / "c.resfit", codec="rang")
    assert os.listdir(tmp_path) == []


def compressed(*, mantissa_bits: int = 3) -> Model:
    """A folded ResNet-20 of random weights at 4 bits a weight, its scales of a few mantissa bits."""
    labels = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    model = fold(dataclasses.replace(load("resnet20"), labels=labels))
    chosen: dict[str, Encoding] = {}
    for name, tensor in model.weights.items():
        values = tensor.numpy()
        if values.ndim == 1:
            scale = short_floats(np.maximum(np.abs(values).max() / 60, 1e-3), mantissa_bits)
            chosen[name] = Grid(bits=8, axis=None, scales=scale)
        else:
            spread = np.abs(values).reshape(len(values), -1).max(axis=1) / 3
            chosen[name] = Grid(bits=4, axis=0, scales=short_floats(spread, mantissa_bits))
    return encoded(model, chosen)


def test_little_is_spent_beside_the_symbols(tmp_path: Path) -> None:
    path = tmp_path / "c.resfit"
    save_container(compressed(), path, codec="huffman")
    assert container_sizes(path)["overhead_bytes"] < 500
    scales = sum(len(item.scales) for item in compressed().encodings.values())
    assert len(read_sections(path).contents["scales"]) < 0.8 * scales  # under seven bits rather than thirty-two


def test_scales_are_stored_exactly_whatever_they_are(tmp_path: Path) -> None:
    model = fold(small_model(small_spec()))
    scales = np.array([1e-38, 1e-45, 0.1, 3e38, 1.0, 2**-20, 7e-3, np.pi], np.float32)
    zero = torch.zeros_like(model.weights["conv1.weight"])
    model = dataclasses.replace(model, weights={**model.weights, "conv1.weight": zero})
    model = dataclasses.replace(model, encodings={"conv1.weight": Grid(bits=2, axis=0, scales=scales)})
    save_container(model, tmp_path / "c.resfit", codec="raw")
    assert load_container(tmp_path / "c.resfit").encodings == model.encodings


@pytest.mark.parametrize("codec", CODEC_NUMBERS)
def test_sizes_add_up_to_the_file(tmp_path: Path, codec: str) -> None:
    model, path = varied_model(), tmp_path / "c.resfit"
    save_container(model, path, codec=codec)
    sizes = container_sizes(path)
    assert sizes["file_bytes"] == path.stat().st_size
    assert sizes["overhead_bytes"] + sum(layer["bytes"] for layer in sizes["layers"]) == sizes["file_bytes"]
    assert [layer["name"] for layer in sizes["layers"]] == list(model.weights)
    assert sizes["codec"] == codec
    by_name = {layer["name"]: layer for layer in sizes["layers"]}
    assert by_name["fc.bias"] == {
        "name": "fc.bias", "kind": "bias", "encoding": "float32", "symbols": 3, "bytes": 12,
    }  # fmt: skip
    assert by_name["fc.weight"]["encoding"] == "int16"
    assert by_name["layer1.0.conv2.weight"]["encoding"] == "5 values"
    kinds = {"conv1.bias": "bias", "conv1.weight": "convolution", "layer2.0.downsample.0.weight": "convolution"}
    kinds |= {"fc.weight": "classifier", "norm.running_mean": "norm", "norm.num_batches_tracked": "norm"}
    assert {name: by_name[name]["kind"] for name in kinds} == kinds


def test_a_tensor_s_bytes_are_those_that_it_costs(tmp_path: Path) -> None:
    """A tensor of one value costs next to nothing, and its share goes down by what the file does."""
    model = varied_model()
    save_container(model, tmp_path / "a.resfit", codec="huffman")
    name = "layer2.0.conv1.weight"
    flat = {**model.weights, name: torch.zeros_like(model.weights[name])}
    save_container(dataclasses.replace(model, weights=flat), tmp_path / "b.resfit", codec="huffman")
    before, after = container_sizes(tmp_path / "a.resfit"), container_sizes(tmp_path / "b.resfit")
    shares = [next(layer["bytes"] for layer in sizes["layers"] if layer["name"] == name) for sizes in (before, after)]
    assert shares[0] > 2 * 12 * 8 * 9 * 0.9
    assert shares[0] - shares[1] == pytest.approx(before["file_bytes"] - after["file_bytes"], abs=8)


@pytest.mark.parametrize("kept", [0, 1])  # none: all equal
def test_a_model_too_uniform_for_its_codec_is_stored_raw(tmp_path: Path, kept: int) -> None:
    """What a reader would take for a trap is not written: a reader refuses more than 4,096 numbers a byte."""
    model = fold(small_model(small_spec(widths=(96, 192), stem_width=96)))
    flat = dict.fromkeys((name for name, item in model.weights.items() if item.ndim == 4), np.array([0.5, 1.0]))
    weights = {name: torch.ones_like(item) if name in flat else item for name, item in model.weights.items()}
    for name in flat:
        weights[name].reshape(-1)[:kept] = 0.5
    books = {name: Codebook(centers=centers) for name, centers in flat.items()}
    model = dataclasses.replace(model, weights=weights, encodings=books)
    save_container(model, tmp_path / "c.resfit", codec="zstd")
    assert read_sections(tmp_path / "c.resfit").codec == "raw"
    assert_equal(load_container(tmp_path / "c.resfit"), model)


def test_what_is_left_out_means_today_s_defaults() -> None:
    """The defaults of files of version 1 never change; today they are still those of the class."""
    fields = {field.name: field.default for field in dataclasses.fields(ResNetSpec)}
    assert {**fields, **SPEC_DEFAULTS} == fields


def test_without_the_package_zstd_is_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_container(varied_model(), tmp_path / "c.resfit", codec="zstd")
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(MissingExtra, match="zstandard"):
        load_container(tmp_path / "c.resfit")


def test_codec_numbers_name_every_codec() -> None:
    assert CODEC_NUMBERS.keys() == CODECS.keys()


def test_what_is_a_container(tmp_path: Path) -> None:
    save_container(varied_model(), tmp_path / "named.bin", codec="raw")
    (tmp_path / "text.resfit").write_text("not one")
    assert is_container(tmp_path / "named.bin")
    assert is_container(tmp_path / "text.resfit")
    assert not is_container(tmp_path)
    assert not is_container(tmp_path / "nowhere.resfit")
    assert_equal(load(tmp_path / "named.bin"), varied_model())
    with pytest.raises(ModelError, match=r"text\.resfit: it is no \.resfit file"):
        load(tmp_path / "text.resfit")


def test_to_a_run_folder_and_back_is_the_same_file(tmp_path: Path) -> None:
    save_container(varied_model(), tmp_path / "a.resfit")
    save(load_container(tmp_path / "a.resfit"), tmp_path / "run")
    save_container(load_run(tmp_path / "run"), tmp_path / "b.resfit")
    assert (tmp_path / "a.resfit").read_bytes() == (tmp_path / "b.resfit").read_bytes()
