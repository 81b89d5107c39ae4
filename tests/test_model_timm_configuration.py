"""Folders that timm writes open as they are, and what their tensors do not tell is refused or followed."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from foreign_folders import timm_files, write
from small_models import small_model, small_spec

import resfit
from resfit.errors import ModelError
from resfit.model.model import Model, weights_sha256
from resfit.model.timm_configuration import changes_from_config, preprocessing_from_config


def small(**changes: Any) -> Model:
    return small_model(small_spec(stem="imagenet", stem_width=8, **changes))


NETWORKS = [
    {"block": "BasicBlock", "layers": [1, 2, 1, 1], "channels": [8, 16, 8, 8], "act_layer": "prelu"},
    {"block": "Bottleneck", "layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "act_layer": "prelu", "cardinality": 2},
    {"block": "BasicBlock", "layers": [1, 1, 1, 1], "channels": [16, 32, 32, 32], "act_layer": "silu", "avg_down": True,
     "stem_type": "deep", "stem_width": 8, "block_args": {"attn_layer": "se"}},
]  # fmt: skip


@pytest.mark.parametrize("arguments", NETWORKS, ids=lambda arguments: arguments["block"] + arguments["act_layer"])
def test_logits_are_those_of_timm(tmp_path: Path, arguments: dict[str, Any]) -> None:
    from timm.models import resnet

    torch.manual_seed(0)
    block = getattr(resnet, arguments["block"])
    theirs = resnet.ResNet(**{**arguments, "block": block}, num_classes=3)
    theirs(torch.randn(8, 3, 64, 64))  # running statistics of its own
    torch.save(theirs.eval().state_dict(), tmp_path / "pytorch_model.bin")
    described = {name: value for name, value in arguments.items() if name != "block"}
    config = {"architecture": "resnet18", "model_args": described, "pretrained_cfg": {"input_size": [3, 64, 64]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours = resfit.load(tmp_path)
    batch = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours.module()(batch), theirs(batch), rtol=1e-5, atol=1e-5)
    assert ours.spec.activation == arguments["act_layer"]


def test_a_folder_that_timm_itself_wrote(tmp_path: Path) -> None:
    from timm.models._hub import save_for_hf

    torch.manual_seed(0)
    theirs = timm.create_model("resnet10t", num_classes=3).eval()
    save_for_hf(theirs, tmp_path, model_config={"label_names": ["ant", "bee", "cat"]})
    ours = resfit.load(tmp_path)
    batch = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours.module()(batch), theirs(batch), rtol=1e-5, atol=1e-5)
    assert ours.labels == ("ant", "bee", "cat")
    assert any("resnet10t" in note for note in ours.provenance.notes)


def test_labels_and_preprocessing(tmp_path: Path) -> None:
    model = small()
    ours = resfit.load(write(tmp_path, timm_files(model)))
    assert weights_sha256(ours) == weights_sha256(model)
    assert ours.labels == model.labels
    shape = ours.preprocessing
    assert (shape.height, shape.width, shape.fit) == (40, 48, "squash")
    assert (shape.mean, shape.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
    assert [note for note in ours.provenance.notes if note.startswith("its preprocessing")] == [
        "its preprocessing resamples by bicubic; here linearly",
        "its preprocessing keeps the inner 95.0% of an image's shorter side; here the whole of it is read",
    ]
    changed = resfit.load(tmp_path, img_size=64, labels=("x", "y", "z"))
    assert (changed.preprocessing.width, changed.labels) == (64, ("x", "y", "z"))


def test_older_files_have_no_pretrained_cfg() -> None:
    notes: list[str] = []
    config = {"architecture": "resnet18", "mean": [0.5], "std": [0.2], "input_size": [3, 32, 32], "crop_mode": "border"}
    shape = preprocessing_from_config(config, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, notes=notes)
    assert (shape.mean, shape.height, shape.fit) == ((0.5,) * 3, 32, "letterbox")
    assert "'border'" in notes[0]
    for broken in ({"input_size": [3]}, {"mean": "grey"}, {"std": [0.0] * 3}, {"pretrained_cfg": 7}):
        with pytest.raises(ModelError, match=r"no preprocessing|pretrained_cfg is 7"):
            preprocessing_from_config(broken, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, notes=notes)


REFUSED = [
    ({"architecture": "resnetaa50"}, "resnetaa50 does more than its tensors tell"),
    ({"architecture": "resnetblur18"}, "resnetblur18 does more"),
    ({"architecture": "resnetrs50"}, "resnetrs50 does more"),
    ({"global_pool": "catavgmax"}, "global_pool is 'catavgmax'"),
    ({"model_args": {"aa_layer": "blurpc"}}, "aa_layer 'blurpc'"),
    ({"model_args": {"output_stride": 8}}, "output_stride 8"),
    ({"model_args": {"block_args": {"attn_layer": "eca"}}}, "attn_layer"),
    ({"model_args": {"act_layer": "shrink"}}, "act_layer is 'shrink'"),
    ({"model_args": ["aa_layer"]}, "model_args is"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_has_the_tensors_of_another_network_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = write(tmp_path / "theirs", timm_files(small(), **change))
    with pytest.raises(ModelError, match=message) as caught:
        resfit.load(folder)
    assert "theirs" in caught.value.message


def test_arguments_that_change_nothing_are_followed() -> None:
    neutral = {"output_stride": 32, "aa_layer": None, "drop_rate": 0.1, "layers": [2, 2], "global_pool": "avg"}
    assert changes_from_config({"architecture": "resnet18", "model_args": neutral}) == {}
    assert changes_from_config({"architecture": "resnet18", "model_args": {"act_layer": "gelu"}}) == {
        "activation": "gelu"
    }
