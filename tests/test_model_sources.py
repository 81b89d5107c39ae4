"""Weights by name: what torchvision and timm keep in their caches, without network or either library."""

from pathlib import Path

import pytest
import torch
from foreign_folders import timm_files, write_cached
from small_models import small_model, small_spec

import resfit
from resfit.errors import UsageError
from resfit.model.load import load_weights
from resfit.model.model import weights_sha256

MODEL = small_model(small_spec(stem="imagenet", stem_width=8))


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of torch and of the hub."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path


def keep(caches: Path, name: str) -> None:
    torch.save(MODEL.weights, caches / "torch" / "hub" / "checkpoints" / name)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "resnet18-0123abcd", "resnet18-0123abcd.pth"])
def test_torchvisions_cache(caches: Path, name: str) -> None:
    keep(caches, "resnet18-0123abcd.pth")
    keep(caches, "resnet18_a1_0-89abcdef.pth")  # timm's of old, another training
    model = resfit.load(name)
    assert weights_sha256(model) == weights_sha256(MODEL)
    assert model.provenance.source == "torchvision:resnet18-0123abcd"
    assert model.provenance.trained


@pytest.mark.parametrize("name", ["timm:resnet18.small", "timm:resnet18", "resnet18.small"])
def test_timms_cache(caches: Path, name: str) -> None:
    write_cached(caches / "hf" / "hub", "timm/resnet18.small", timm_files(MODEL))
    model = resfit.load(name)
    assert weights_sha256(model) == weights_sha256(MODEL)
    assert model.provenance.source == "timm:resnet18.small"
    assert model.labels == MODEL.labels


def test_a_networks_bare_name_is_untrained_and_tells_of_cached_weights(caches: Path) -> None:
    assert not any("cached" in note for note in resfit.load("resnet18").provenance.notes)
    keep(caches, "resnet18-0123abcd.pth")
    model = resfit.load("resnet18")
    assert not model.provenance.trained
    assert "trained weights of it are cached: torchvision:resnet18-0123abcd" in model.provenance.notes


def test_where_weights_are_wanted_a_bare_name_means_them(caches: Path) -> None:
    keep(caches, "resnet18-0123abcd.pth")
    assert weights_sha256(load_weights("resnet18")) == weights_sha256(MODEL)
    write_cached(caches / "hf" / "hub", "timm/resnet18.small", timm_files(MODEL))
    with pytest.raises(UsageError, match="there are 2 weights of resnet18") as caught:
        load_weights("resnet18")
    assert "torchvision:resnet18-0123abcd, timm:resnet18.small" in str(caught.value.hint)
    with pytest.raises(UsageError, match="resnet34 is a network's name, not weights: no weights of resnet34") as caught:
        load_weights("resnet34")
    assert "hf-hub:timm/resnet34" in str(caught.value.hint)


def test_what_is_not_there_is_said_with_what_is(caches: Path) -> None:
    with pytest.raises(UsageError, match="no weights of torchvision:resnet18 are in the caches"):
        resfit.load("torchvision:resnet18")
    with pytest.raises(UsageError, match="no weights of timm:resnet18 are in the hub's cache"):
        resfit.load("timm:resnet18")
    write_cached(caches / "hf" / "hub", "timm/resnet18.small", timm_files(MODEL))
    with pytest.raises(UsageError, match="timm:resnet19 is not in") as caught:
        resfit.load("timm:resnet19")
    assert "resnet18.small" in str(caught.value.hint)
    with pytest.raises(UsageError, match=r"resnet18\.large is no folder, no file"):
        resfit.load("resnet18.large")


def test_commands_take_them_too(caches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(caches, "resnet18-0123abcd.pth")
    result = resfit.inspect("torchvision:resnet18")
    assert result["source"] == "torchvision:resnet18-0123abcd"
    assert result["trained"]
    assert "ImageNet's mean" in capsys.readouterr().err
