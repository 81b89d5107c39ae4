"""What is saved comes back bit for bit; what is damaged is named and never runs or fills the memory."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import images, small_model, small_spec

from resfit import storage
from resfit.errors import ModelError, UsageError
from resfit.model.encoding import Grid
from resfit.model.model import Model, Provenance, Range, weights_sha256
from resfit.model.run_folder import is_run, load_run, save
from resfit.nn.spec import ResNetSpec


def assert_equal(left: Model, right: Model) -> None:
    assert weights_sha256(left) == weights_sha256(right)
    for name in ("spec", "preprocessing", "labels", "provenance", "encodings", "activation_ranges"):
        assert getattr(left, name) == getattr(right, name), name


@st.composite
def specs(draw: st.DrawFn) -> ResNetSpec:
    values: dict[str, Any] = {
        "depths": tuple(draw(st.lists(st.integers(1, 2), min_size=1, max_size=3))),
        "stem_width": draw(st.sampled_from([8, 16])),
        "block": draw(st.sampled_from(["basic", "bottleneck", "article"])),
        "order": draw(st.sampled_from(["post", "pre", "none"])),
        "stem": draw(st.sampled_from(["imagenet", "deep", "tiered", "cifar"])),
        "shortcut": draw(st.sampled_from(["zero_pad", "projection", "projection_always", "avgpool", "none"])),
        "activation": draw(st.sampled_from(["relu", "prelu", "sin"])),
        "norm": draw(st.sampled_from(["batch", "batch_leading", "group", "none"])),
        "bias": draw(st.booleans()),
        "se_ratio": draw(st.sampled_from([0.0, 0.25])),
        "num_classes": draw(st.integers(1, 4)),
        "in_channels": draw(st.sampled_from([1, 3])),
        "dropout": draw(st.floats(0, 0.9)),
    }
    values["widths"] = tuple(16 * 2**stage for stage in range(len(values["depths"])))
    values["strides"] = tuple(draw(st.integers(1, 2)) for _ in values["depths"])
    try:
        return ResNetSpec(**values)
    except UsageError:  # a combination the family does not have
        return dataclasses.replace(small_spec(), num_classes=values["num_classes"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=specs(), seed=st.integers(0, 2**31), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_save_and_load_give_the_same_model(tmp_path: Path, spec: ResNetSpec, seed: int, dtype: torch.dtype) -> None:
    model = small_model(spec, seed=seed, dtype=dtype)
    save(model, tmp_path)
    assert_equal(load_run(tmp_path), model)


def rich_model() -> Model:
    model = small_model(small_spec())
    return dataclasses.replace(
        model,
        labels=("café", "</script>", "日本"),
        encodings={
            "conv1.weight": Grid(bits=8, axis=0, scales=np.linspace(0.01, 0.3, 8)),
            "fc.weight": Grid(bits=4, axis=None, scales=np.array([0.1])),
        },
        activation_ranges={"input": Range(low=-2.1, high=2.6), "layer1.0": Range(low=0.0, high=1 / 3)},
        provenance=Provenance(trained=True, source="fit", recipe={"lr": 0.1}, data={"n": 3}, notes=("one",)),
    )


def test_everything_is_kept(tmp_path: Path) -> None:
    model = rich_model()
    save(model, tmp_path / "run")
    assert is_run(tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run")) == [
        "config.json",
        "encodings.safetensors",
        "model.safetensors",
    ]
    loaded = load_run(tmp_path / "run")
    assert_equal(loaded, model)
    batch = images(model.spec)
    assert torch.equal(loaded.module()(batch), model.module()(batch))


def test_saving_again_replaces_the_model_and_leaves_other_files(tmp_path: Path) -> None:
    save(rich_model(), tmp_path)
    (tmp_path / "metrics.csv").write_text("epoch\n")
    plain = small_model(small_spec(num_classes=5))
    save(plain, tmp_path)
    assert_equal(load_run(tmp_path), plain)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "metrics.csv", "model.safetensors"]


def test_a_save_that_is_cut_off_is_no_run_or_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first save that dies before config.json leaves no run, a later one a mixture that is refused."""
    real = storage.write_atomic

    def dies_at_config(path: Path, write: bytes) -> None:
        if Path(path).name == "config.json":
            raise OSError("power cut")
        real(path, write)

    monkeypatch.setattr("resfit.model.run_folder.write_atomic", dies_at_config)
    with pytest.raises(OSError, match="power cut"):
        save(small_model(small_spec()), tmp_path / "new")
    assert not is_run(tmp_path / "new")
    monkeypatch.undo()
    save(small_model(small_spec(), seed=1), tmp_path / "old")
    monkeypatch.setattr("resfit.model.run_folder.write_atomic", dies_at_config)
    with pytest.raises(OSError, match="power cut"):
        save(small_model(small_spec(), seed=2), tmp_path / "old")
    with pytest.raises(ModelError, match=r"model\.safetensors is not the file that config\.json was written for"):
        load_run(tmp_path / "old")


def test_folders_without_a_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert not is_run(folder)
        with pytest.raises(ModelError, match=r"config\.json cannot be read"):
            load_run(folder)


def set_at(*keys: str, to: object) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for key in keys[:-1]:
            config = config[key]
        config[keys[-1]] = to

    return change


def without(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for key in keys[:-1]:
            config = config[key]
        del config[keys[-1]]

    return change


DAMAGE = {
    "newer schema": set_at("schema_version", to=2),
    "no schema": without("schema_version"),
    "no spec": without("spec"),
    "spec is a list": set_at("spec", to=[1]),
    "unknown field": set_at("spec", "colour", to="red"),
    "missing field": without("spec", "depths"),
    "other activation": set_at("spec", "activation", to="rel"),
    "huge depth": set_at("spec", "depths", to=[1, 10**12]),
    "huge width": set_at("spec", "widths", to=[8, 10**15]),
    "width beyond floats": set_at("spec", "widths", to=[8, 10**400]),
    "huge classifier": set_at("spec", "num_classes", to=10**12),
    "float width": set_at("spec", "widths", to=[8.0, 16.0]),
    "text for a number": set_at("spec", "stem_width", to="8"),
    "null depths": set_at("spec", "depths", to=None),
    "another depth": set_at("spec", "depths", to=[1, 3]),
    "labels too few": set_at("labels", to=["a"]),
    "labels null": set_at("labels", to=None),
    "preprocessing empty": set_at("preprocessing", to={}),
    "preprocessing null": set_at("preprocessing", to=None),
    "deviation zero": set_at("preprocessing", "std", to=[0, 0, 0]),
    "deviation text": set_at("preprocessing", "std", to="abc"),
    "mean null": set_at("preprocessing", "mean", to=None),
    "provenance null": set_at("provenance", to=None),
    "provenance empty": set_at("provenance", to={}),
    "encodings of a stranger": set_at("encodings", to={"nothing": {"bits": 8, "axis": 0}}),
    "encodings without bits": set_at("encodings", "conv1.weight", to={"axis": 0}),
    "encoding axis": set_at("encodings", "conv1.weight", "axis", to=9),
    "ranges reversed": set_at("activation_ranges", "input", to=[1, 0]),
    "ranges text": set_at("activation_ranges", "input", to="ab"),
    "ranges list": set_at("activation_ranges", to=[1]),
    "files missing": without("files"),
    "fingerprint": set_at("files", "model.safetensors", to="00"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_configuration_is_named(tmp_path: Path, damage: Callable[[dict[str, Any]], None]) -> None:
    save(rich_model(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    damage(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError) as caught:
        load_run(tmp_path)
    assert str(tmp_path) in caught.value.message


CONTENTS = {
    "empty": b"",
    "not JSON": b"{",
    "not text": b"\xff\xfe\x00",
    "a number": b"3",
    "nested": b"[" * 200_000,
    "null": b"null",
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "encodings.safetensors"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    save(rich_model(), tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        load_run(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "encodings.safetensors"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), cut=st.booleans())
def test_any_cut_or_flipped_byte_is_noticed(tmp_path: Path, name: str, where: float, cut: bool) -> None:
    save(rich_model(), tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    position = int(where * len(data))
    if cut:
        del data[position:]
    else:
        data[position] ^= 0x40
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        load_run(tmp_path)


def test_a_missing_tensor_file_is_named(tmp_path: Path) -> None:
    for name in ("model.safetensors", "encodings.safetensors"):
        save(rich_model(), tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(ModelError, match=name.replace(".", r"\.")):
            load_run(tmp_path)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = small_model(small_spec())
    model.weights["layer1.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    save(model, tmp_path)
    with pytest.raises(ModelError, match=r"model\.safetensors holds values that are not finite in layer1\.0\.conv1"):
        load_run(tmp_path)


def test_the_weights_open_without_resfit(tmp_path: Path) -> None:
    model = small_model(small_spec())
    save(model, tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert set(tensors) == set(model.weights)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in model.weights.items())
