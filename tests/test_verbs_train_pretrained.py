"""`resfit train --pretrained`: from whose weights, with which classifier and preprocessing, and resumed."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_folders import huggingface_files, write
from PIL import Image
from small_models import small_model, small_spec

import resfit
from resfit.errors import UsageError
from resfit.model.model import Model, weights_sha256
from resfit.model.run_folder import save
from resfit.training.surroundings import Interrupted
from resfit.verbs.training_choices import chosen_network

FAST: dict[str, Any] = {
    "epochs": 1, "precision": "fp32", "memory_format": "contiguous", "compile": "eager", "threads": 1,
    "batch_size": 16, "lr": 1e-9, "warmup_fraction": 0.0, "weight_decay": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def source() -> Model:
    model = small_model(small_spec())
    shape = dataclasses.replace(model.preprocessing, mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1), fit="letterbox")
    return dataclasses.replace(model, preprocessing=shape, labels=("green", "blue", "red"))


@pytest.fixture
def run(source: Model, tmp_path: Path) -> str:
    save(source, tmp_path / "source")
    return str(tmp_path / "source")


def tuned(data: Path, out: Path, **flags: Any) -> tuple[dict[str, Any], Model]:
    result = resfit.train(str(data), out=str(out), **{**FAST, **flags})
    return result, resfit.load(out)


def test_the_sources_preprocessing_is_kept(source: Model, run: str, shapes_folder: Path, tmp_path: Path) -> None:
    _, model = tuned(shapes_folder, tmp_path / "a", pretrained=run)
    assert model.preprocessing == source.preprocessing
    _, model = tuned(shapes_folder, tmp_path / "b", pretrained=run, img_size=20, fit="squash")
    assert (model.preprocessing.height, model.preprocessing.fit) == (20, "squash")
    assert model.preprocessing.mean == source.preprocessing.mean
    _, model = tuned(shapes_folder, tmp_path / "c", pretrained=run, normalize="minmax")
    assert (model.preprocessing.height, model.preprocessing.fit) == (16, "letterbox")
    assert model.preprocessing.mean != source.preprocessing.mean


def test_normalize_measures_square_images_only(source: Model, shapes_folder: Path, tmp_path: Path) -> None:
    wide = dataclasses.replace(source, preprocessing=dataclasses.replace(source.preprocessing, width=24))
    save(wide, tmp_path / "wide")
    with pytest.raises(UsageError, match="16 x 24 pixels, and --normalize"):
        tuned(shapes_folder, tmp_path / "a", pretrained=str(tmp_path / "wide"), normalize="minmax")
    _, model = tuned(shapes_folder, tmp_path / "b", pretrained=str(tmp_path / "wide"))
    assert (model.preprocessing.height, model.preprocessing.width) == (16, 24)


def test_the_same_classes_keep_the_classifier_in_their_order(source: Model) -> None:
    network = chosen_network(None, None)
    network = dataclasses.replace(network, initial=source, spec=source.spec)
    wanted = ("blue", "green", "red")
    weights = network.weights_for(source.spec, labels=wanted, seed=0)
    assert weights is not None
    rows = [source.labels.index(label) for label in wanted]
    assert torch.equal(weights["fc.weight"], source.weights["fc.weight"][rows])
    assert torch.equal(weights["fc.bias"], source.weights["fc.bias"][rows])


@pytest.mark.parametrize(
    ("known", "wanted", "kept"),
    [
        (("0", "1", "2"), ("ant", "bee", "cat"), True),  # nothing names the classes
        (("ant", "bee", "dog"), ("ant", "bee", "cat"), False),
        (("ant", "bee", "cat"), ("ant", "bee", "cat", "dog"), False),
    ],
)
def test_other_classes_have_a_new_classifier(
    source: Model, known: tuple[str, ...], wanted: tuple[str, ...], kept: bool
) -> None:
    network = dataclasses.replace(
        chosen_network(None, None), initial=dataclasses.replace(source, labels=known), spec=source.spec
    )
    spec = dataclasses.replace(source.spec, num_classes=len(wanted))
    first, again, other = (network.weights_for(spec, labels=wanted, seed=seed) for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first["fc.weight"].shape == (len(wanted), 16)
    assert torch.equal(first["fc.weight"], source.weights["fc.weight"]) == kept if len(wanted) == 3 else not kept
    assert torch.equal(first["fc.weight"], again["fc.weight"])
    assert torch.equal(first["fc.weight"], other["fc.weight"]) == kept
    assert torch.equal(first["conv1.weight"], source.weights["conv1.weight"])


def test_only_the_classifier_moves_while_the_rest_is_frozen(
    source: Model, run: str, shapes_folder: Path, tmp_path: Path
) -> None:
    result, model = tuned(shapes_folder, tmp_path / "a", pretrained=run, freeze_epochs=1, lr=0.1)
    moved = {name for name, value in model.weights.items() if not torch.equal(value, source.weights[name])}
    assert moved == {"fc.weight", "fc.bias"}
    assert result["recipe"]["freeze_epochs"] == 1
    assert result["pretrained"] == run
    assert model.provenance.source == f"resfit train, from {run}"


def test_layer_decay_is_followed(run: str, shapes_folder: Path, tmp_path: Path) -> None:
    flags = {"pretrained": run, "lr": 0.05}
    plain, _ = tuned(shapes_folder, tmp_path / "a", **flags)
    slower, _ = tuned(shapes_folder, tmp_path / "b", **flags, layer_decay=0.5)
    assert slower["recipe"]["layer_decay"] == 0.5
    assert slower["weights_sha256"] != plain["weights_sha256"]


@pytest.mark.parametrize("flag", [{"freeze_epochs": 1}, {"layer_decay": 0.5}])
def test_both_need_weights_to_start_from(shapes_folder: Path, tmp_path: Path, flag: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="these are random"):
        tuned(shapes_folder, tmp_path / "a", model="resnet8", **flag)
    assert not (tmp_path / "a").exists()


def test_a_stopped_fine_tuning_resumes_to_the_same(
    run: str, shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resfit.training.loop as loop

    flags = {"pretrained": run, "freeze_epochs": 1, "layer_decay": 0.8, "epochs": 2, "lr": 0.05}
    whole, model = tuned(shapes_folder, tmp_path / "whole", **flags)
    genuine = loop.train
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", lambda *values, **options: genuine(*values, **options, stop_after_step=5))
        with pytest.raises(Interrupted):
            tuned(shapes_folder, tmp_path / "cut", **flags)
    resumed = resfit.train(resume=str(tmp_path / "cut"))
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert resumed["pretrained"] == run
    assert resfit.load(tmp_path / "cut").preprocessing == model.preprocessing


def test_a_hugging_face_folder_is_fine_tuned(shapes_folder: Path, tmp_path: Path) -> None:
    theirs = small_model(small_spec(stem="imagenet", stem_width=8))
    folder = write(tmp_path / "theirs", huggingface_files(theirs))
    result, model = tuned(shapes_folder, tmp_path / "run", pretrained=str(folder), img_size=24)
    assert model.labels == ("blue", "green", "red")
    assert model.preprocessing.mean == (0.5, 0.4, 0.3)
    assert torch.allclose(model.weights["conv1.weight"], theirs.weights["conv1.weight"], atol=1e-5)
    assert result["weights_sha256"] == weights_sha256(model)
    assert json.loads((tmp_path / "run" / "request.json").read_text())["pretrained"] == str(folder)


def test_fine_tuning_learns_what_random_weights_cannot_in_the_time(tmp_path: Path) -> None:
    """From weights that know the pictures, a training too short for random ones ends well above them."""
    generator = np.random.default_rng(0)
    for channel, label in enumerate(("red", "green", "blue")):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(24):
            pixels = generator.integers(0, 120, (12, 12, 3))
            pixels[..., channel] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "data" / label / f"{number}.png")
    flags = {"epochs": 8, "lr": 0.05, "weight_decay": 5e-4, "model": "resnet8", "warmup_fraction": 0.1}
    tuned(tmp_path / "data", tmp_path / "taught", **flags)
    short = {"steps": 2, "epochs": None, "lr": 0.01}
    warm, _ = tuned(tmp_path / "data", tmp_path / "warm", pretrained=str(tmp_path / "taught"), **short)
    cold, _ = tuned(tmp_path / "data", tmp_path / "cold", model="resnet8", **short)
    assert warm["loss"] < cold["loss"]
