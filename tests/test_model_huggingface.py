"""Folders of Hugging Face's ResNet open as they are, with their labels and preprocessing."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from foreign_folders import huggingface_files, torch_saved, write
from small_models import small_model, small_spec

import resfit
from resfit.errors import ModelError
from resfit.model.huggingface import preprocessing_from_config
from resfit.model.huggingface_layout import huggingface_names
from resfit.model.huggingface_names import from_huggingface
from resfit.model.model import Model, weights_sha256
from resfit.nn.architectures import architecture


def small(**changes: Any) -> Model:
    return small_model(small_spec(stem="imagenet", stem_width=8, widths=(16, 24), **changes))


LAYOUTS = [
    {"layer_type": "basic"},
    {"layer_type": "bottleneck", "downsample_in_first_stage": True},
    {"layer_type": "bottleneck", "downsample_in_bottleneck": True},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: "-".join(layout))
def test_logits_are_those_of_the_library(tmp_path: Path, layout: dict[str, Any]) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    names = {0: "ant", 1: "bee", 2: "cat"}
    config = ResNetConfig(embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2], id2label=names, **layout)
    theirs = ResNetForImageClassification(config)
    theirs(torch.randn(8, 3, 64, 64))  # running statistics of its own
    theirs.eval().save_pretrained(tmp_path)
    ours = resfit.load(tmp_path)
    batch = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours.module()(batch), theirs(batch).logits, rtol=1e-5, atol=1e-5)
    assert ours.labels == ("ant", "bee", "cat")
    assert ours.provenance.trained
    assert ours.provenance.source == str(tmp_path)
    assert any("blocks 1-2, widths 16-24" in note for note in ours.provenance.notes)


@pytest.mark.parametrize("saved", [dict, torch_saved], ids=["safetensors", "bin"])
def test_weights_labels_and_preprocessing(tmp_path: Path, saved: Any) -> None:
    model = small(strides=(2, 2))
    ours = resfit.load(write(tmp_path, saved(huggingface_files(model))))
    assert weights_sha256(ours) == weights_sha256(model)
    assert ours.spec == model.spec
    assert ours.labels == model.labels
    shape = ours.preprocessing
    assert (shape.height, shape.width, shape.fit) == (48, 48, "crop")
    assert (shape.mean, shape.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
    assert any("inner 87.5%" in note for note in ours.provenance.notes)
    assert any("another filter" in note for note in ours.provenance.notes)


def test_a_folder_without_a_processor_says_what_is_assumed(tmp_path: Path) -> None:
    files = huggingface_files(small())
    del files["preprocessor_config.json"]
    ours = resfit.load(write(tmp_path, files))
    assert ours.preprocessing.mean == (0.485, 0.456, 0.406)
    assert (ours.preprocessing.height, ours.preprocessing.fit) == (224, "crop")
    assert any("ImageNet's mean and deviation assumed" in note for note in ours.provenance.notes)


def test_the_weights_alone_are_recognised_too(tmp_path: Path) -> None:
    model = small()
    write(tmp_path, huggingface_files(model))
    ours = resfit.load(tmp_path / "model.safetensors")
    assert weights_sha256(ours) == weights_sha256(model)
    assert any("read from the tensors" in note for note in ours.provenance.notes)


def read(**config: Any) -> tuple[Any, list[str]]:
    notes: list[str] = []
    shape = preprocessing_from_config(config, channels=3, mean=(0.1,) * 3, std=(0.2,) * 3, notes=notes)
    return shape, notes


def test_processors_of_several_kinds() -> None:
    shape, notes = read(do_center_crop=True, size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224})
    assert (shape.height, shape.width, shape.fit, shape.mean) == (224, 224, "crop", (0.1,) * 3)
    assert notes == ["its processor keeps the inner 87.5% of an image's shorter side; here the whole of it is read"]
    shape, notes = read(size={"height": 32, "width": 40}, do_center_crop=False)
    assert (shape.height, shape.width, shape.fit, notes) == (32, 40, "squash", [])
    shape, notes = read(image_processor_type="ConvNextImageProcessor", size={"shortest_edge": 384}, crop_pct=0.95)
    assert (shape.height, shape.fit, notes) == (384, "squash", [])
    assert read(do_normalize=False)[0].mean == (0.0,) * 3
    unscaled, _ = read(do_rescale=False, image_mean=[127.5] * 3, image_std=[51.0] * 3)
    assert unscaled.mean == pytest.approx((0.5,) * 3)
    assert unscaled.std == pytest.approx((0.2,) * 3)
    with pytest.raises(ModelError, match="no preprocessing"):
        read(image_mean=["much"])
    with pytest.raises(ModelError, match=r"no preprocessing.*std"):
        read(image_std=[0.0, 1.0, 1.0])


def test_labels_that_name_nothing_are_numbered(tmp_path: Path) -> None:
    names = {str(index): f"LABEL_{index}" for index in range(3)}
    ours = resfit.load(write(tmp_path, huggingface_files(small(), id2label=names)))
    assert ours.labels == ("0", "1", "2")
    assert any("numbered" in note for note in ours.provenance.notes)


WRONG = [
    ({"model_type": "vit"}, "the model is a 'vit', expected 'resnet'"),
    ({"hidden_act": "silu"}, "hidden_act is 'silu'"),
    ({"depths": [1]}, "no ResNet: depths"),
    ({"depths": "many"}, "no ResNet"),
    ({"depths": [1, 3]}, r"7\d* missing|missing: layer2\.2"),
    ({"hidden_sizes": [16, 32]}, "of another shape: layer2"),
    ({"layer_type": "article"}, "does not fit the network"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=lambda value: str(value)[:30])
def test_what_config_json_says_is_checked_against_the_tensors(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = write(tmp_path / "theirs", huggingface_files(small(), **change))
    with pytest.raises(ModelError, match=message) as caught:
        resfit.load(folder)
    assert "theirs" in caught.value.message


def test_missing_and_unexpected_tensors_are_listed(tmp_path: Path) -> None:
    files = huggingface_files(small())
    weights = safetensors.torch.load(files["model.safetensors"])
    del weights["resnet.embedder.embedder.normalization.bias"]
    weights["vision.extra"] = torch.zeros(2)
    files["model.safetensors"] = safetensors.torch.save(weights)
    with pytest.raises(ModelError, match=r"1 missing: bn1\.bias; 1 unexpected: vision\.extra"):
        resfit.load(write(tmp_path, files))


DAMAGED = {
    "model.safetensors": b"cut",
    "preprocessor_config.json": b"{",
    "config.json": b'{"model_type": "resnet", "depths": [[[]]]}',
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, huggingface_files(small()) | {name: DAMAGED[name]})
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        resfit.load(folder)


def test_a_folder_without_weights_or_classifier(tmp_path: Path) -> None:
    files = huggingface_files(small())
    weights = safetensors.torch.load(files["model.safetensors"])
    backbone = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier")}
    write(tmp_path / "backbone", files | {"model.safetensors": safetensors.torch.save(backbone)})
    with pytest.raises(ModelError, match="has no classifier"):
        resfit.load(tmp_path / "backbone")
    del files["model.safetensors"]
    with pytest.raises(ModelError, match="no weights"):
        resfit.load(write(tmp_path / "empty", files))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_names_read_are_the_names_written(name: str) -> None:
    theirs = huggingface_names(architecture(name))
    tensors = {their: torch.empty(0) for their in theirs.values()}
    assert list(from_huggingface(tensors)) == list(theirs)
