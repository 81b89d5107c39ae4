"""`resfit inspect` says what a checkpoint of anybody's is: its network, its size, where it came from."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from foreign_folders import huggingface_files, timm_files, write
from small_models import small_model, small_spec

import resfit
from resfit.cli import main
from resfit.nn.architectures import architecture, architecture_name, is_architecture, summary


def test_a_checkpoint_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.pth"
    torch.save({"state_dict": resfit.load("resnet20").weights}, path)
    assert main(["inspect", str(path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["architecture"] == "resnet20"
    assert result["parameters"] == 269_722
    assert result["source"] == str(path)
    assert result["trained"]
    assert any("zero-pad shortcuts (option A) assumed" in note for note in result["notes"])


def test_a_person_sees_network_and_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.pth"
    torch.save(resfit.load("resnet20").weights, path)
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr()
    assert "network  resnet20, cifar stem, basic blocks 3-3-3, widths 16-32-64" in printed.out
    assert f"source   {path}" in printed.out
    assert "note: the file carries no preprocessing" in printed.err


@pytest.mark.parametrize("files", [huggingface_files, timm_files])
def test_folders_of_other_libraries(tmp_path: Path, files: object) -> None:
    model = small_model(small_spec(stem="imagenet", stem_width=8))
    folder = write(tmp_path / "theirs", files(model))  # type: ignore[operator]
    result = resfit.inspect(str(folder))
    assert result["architecture"] == summary(model.spec) == result["summary"]
    assert result["source"] == str(folder)
    assert result["labels"] == list(model.labels)


NAMES = [
    "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "seresnet50d", "resnet10t", "resnet20", "resnet110",
    "resnet20b", "preresnet20", "preresnet50", "cifar_resnet50", "wrn-16-4", "article", "plain_resnet20",
    "plain_resnet34",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_known_by_its_name(name: str) -> None:
    spec = dataclasses.replace(architecture(name), num_classes=7, in_channels=1, drop_path=0.1)
    assert architecture_name(spec) == name
    assert summary(spec).startswith(f"{name}, ")


def test_other_networks_have_no_name() -> None:
    assert architecture_name(small_spec()) is None
    assert architecture_name(small_spec(depths=(1, 1, 1), widths=(7, 8, 9), strides=(1, 2, 2))) is None
    assert summary(small_spec()).startswith("cifar stem")
    assert is_architecture("resnet56")
    assert not is_architecture("resnet57")
