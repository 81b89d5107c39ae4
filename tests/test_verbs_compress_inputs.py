"""What `resfit compress` begins with: which network, its classes by name, its size, its cut, unreadable images."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_images import with_bad_images
from foreign_folders import huggingface_files, timm_files, write_cached
from small_compressions import SPEC, compressed, digits_model
from small_models import small_model, small_spec

from resfit.data.labels import LabelMismatch
from resfit.data.preprocessing import Preprocessing
from resfit.data.sources import open_data
from resfit.engines.artifact import build
from resfit.errors import DataError
from resfit.model.container import save_container
from resfit.model.load import load, untrained
from resfit.model.model import Model
from resfit.model.run_folder import save
from resfit.verbs.compress import render
from resfit.verbs.compress_inputs import Inputs, open_inputs
from resfit.verbs.evaluate import evaluate
from resfit.verbs.model_and_data import load_for

pytestmark = pytest.mark.usefixtures("at_home")

KEPT: dict[str, Any] = {"method": "fp16", "max_drop": 100.0}  # a file that answers as the model does


def run_of(model: Model, folder: Path, **opening: Any) -> str:
    save(model, folder)
    if opening:
        (folder / "request.json").write_text(json.dumps({"opening": opening}))
    return str(folder)


def with_classes(order: list[int], labels: list[str]) -> Model:
    """The network that knows its digits, with these rows of its classifier under these names."""
    model = digits_model()
    weights = dict(model.weights) | {name: model.weights[name][order] for name in ("fc.weight", "fc.bias")}
    spec = dataclasses.replace(model.spec, num_classes=len(order))
    return dataclasses.replace(model, spec=spec, weights=weights, labels=tuple(labels))


def colours(size: int = 12) -> Model:
    preprocessing = Preprocessing(height=size, width=size, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    spec = dataclasses.replace(SPEC, num_classes=3, in_channels=3)
    return untrained(spec, preprocessing=preprocessing, labels=("blue", "green", "red"), source="noise")


def opened(source: str, data: str = "digits", **changes: Any) -> Inputs:
    nothing = dict.fromkeys(("img_size", "mean", "std", "split_seed", "max_unreadable"))
    return open_inputs(source, data, **{**nothing, **changes})


def test_classes_are_matched_by_name_in_any_order(tmp_path: Path) -> None:
    turned = with_classes(list(range(9, -1, -1)), [str(digit) for digit in range(9, -1, -1)])
    plain, other = (
        compressed(run_of(model, tmp_path / name), tmp_path / f"{name}.files", **KEPT)
        for name, model in (("plain", digits_model()), ("turned", turned))
    )
    for name in ("accuracy_before", "accuracy_after", "selected_on"):
        assert other[name] == plain[name]
    assert load(other["artifact"]["path"]).labels == turned.labels
    inputs = opened(str(tmp_path / "turned"))
    assert [turned.labels[target] for target in inputs.splits.train.targets] == [
        str(target) for target in open_data("digits").train.targets
    ]


def test_a_model_that_knows_more_classes_is_compressed_and_trained_on(tmp_path: Path) -> None:
    more = with_classes([*range(10), 0, 1], [*map(str, range(10)), "none", "many"])
    result = compressed(run_of(more, tmp_path / "run"), tmp_path, epochs=1, sparsity=0.3, **KEPT)
    small = load(result["artifact"]["path"])
    assert small.labels == more.labels
    assert result["accuracy_after"] > 0.9
    assert any("trained on for 1 epoch" in note for note in small.provenance.notes)


def test_classes_that_the_model_does_not_know_are_refused_before_anything_is_tried(tmp_path: Path) -> None:
    others = with_classes(list(range(10)), list("abcdefghij"))
    with pytest.raises(LabelMismatch, match="does not know"):
        compressed(run_of(others, tmp_path / "run"), tmp_path, epochs=1)
    assert not (tmp_path / "small.resfit.work").exists()


def test_the_cut_is_the_run_s_own_and_goes_with_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = run_of(digits_model(), tmp_path / "run", split_seed=3)
    own, zero = (
        compressed(source, tmp_path / name, **KEPT, **flags)
        for name, flags in (("own", {}), ("zero", {"split_seed": 0}))
    )
    assert "its own split seed is 3" in capsys.readouterr().err
    assert [result["seeds"]["split_seed"] for result in (own, zero)] == [3, 0]
    assert own["roles"] != zero["roles"]
    assert own["notes"] == []
    assert "split seed is 3" in zero["notes"][0]
    for result in (own, zero):
        path, cut = result["artifact"]["path"], result["seeds"]["split_seed"]
        assert evaluate(path, "digits", threads=1, split_seed=cut)["accuracy"] == result["accuracy_after"]
        again = opened(path)
        assert again.split_seed == 3
        assert again.roles == own["roles"]
        assert evaluate(path, "digits", split_seed=3, threads=1)["notes"] == []
        assert "split seed is 3" in evaluate(path, "digits", split_seed=0, threads=1)["notes"][0]


def test_the_cut_of_the_compression_goes_with_the_file_where_that_of_the_training_is_unknown(tmp_path: Path) -> None:
    torch.save(dict(digits_model().weights), tmp_path / "digits.th")
    result = compressed(str(tmp_path / "digits.th"), tmp_path, **KEPT, split_seed=5)
    assert opened(result["artifact"]["path"]).split_seed == 5


def test_the_network_of_a_fit_is_measured_not_its_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = digits_model()
    source = run_of(model, tmp_path / "fit")
    known = evaluate(source, "digits", threads=1)["accuracy"]
    silent = {**model.weights, "fc.weight": torch.zeros_like(model.weights["fc.weight"])}
    build(dataclasses.replace(model, weights=silent), tmp_path / "fit" / "model.onnx")
    (tmp_path / "fit" / "fit.json").write_text(json.dumps({"artifact": {"path": "model.onnx"}}))
    assert evaluate(source, "digits", threads=1)["accuracy"] < 0.5 < known
    assert compressed(source, tmp_path, **KEPT)["accuracy_before"] == known
    assert "not its artifact model.onnx" in capsys.readouterr().err
    assert compressed(source, tmp_path, **KEPT, img_size=10)["preprocessing"]["height"] == 10


def test_the_size_is_the_model_s_or_the_data_s_where_it_has_none(
    tmp_path: Path, shapes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    model, data = colours(size=9), str(shapes_folder)
    save_container(model, tmp_path / "container")
    torch.save(dict(model.weights), tmp_path / "weights.th")
    published = small_model(small_spec(stem="imagenet", stem_width=8))
    write_cached(tmp_path / "hf" / "hub", "timm/resnet18.small", timm_files(published))
    write_cached(tmp_path / "hf" / "hub", "somebody/small", huggingface_files(published))
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(published.weights, tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-0123abcd.pth")
    build(model, tmp_path / "exported.safetensors", format="torch")
    sized = {
        "container": 9, "weights.th": 12, run_of(model, tmp_path / "run"): 9, "resnet8": 12,
        "exported.safetensors": 9, "timm:resnet18.small": 40, "hf-hub:somebody/small": 48,
        "hf/hub/models--somebody--small": 48, "torchvision:resnet18": 12,
    }  # fmt: skip
    for name, size in sized.items():
        source = str(tmp_path / name) if (tmp_path / name).exists() else name
        assert load_for(source, data).preprocessing.height == size
        assert load_for(source, data, img_size=7).preprocessing.height == 7
    result = compressed(str(tmp_path / "container"), tmp_path, data=data, **KEPT)
    assert result["preprocessing"]["height"] == 9
    assert result["accuracy_before"] == evaluate(str(tmp_path / "container"), data, threads=1)["accuracy"]


def test_untrained_weights_are_said_to_be_so(tmp_path: Path, shapes_folder: Path) -> None:
    result = compressed(run_of(colours(), tmp_path / "run"), tmp_path, data=str(shapes_folder), **KEPT)
    assert not result["trained"]
    assert "untrained" in result["notes"][0]
    assert "untrained" in render(result)


def test_unreadable_images_are_left_out_up_to_the_share_that_the_run_allows(
    tmp_path: Path, shapes_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    num_tested = len(open_data(str(shapes_folder), roles=("test",)).role("test"))
    data, bad = with_bad_images(shapes_folder, tmp_path / "data", "test", 2)
    plain = run_of(colours(), tmp_path / "plain")
    for flags in ({}, {"max_unreadable": 0.02}):
        with pytest.raises(DataError, match=bad[0]):
            compressed(plain, tmp_path, data=data, **KEPT, **flags)
        assert not (tmp_path / "small.resfit.work").exists()
    share = 0.03  # of all 90 images, as in training; of the test images alone it would be none
    assert share * num_tested < 1
    allowing = run_of(colours(), tmp_path / "allowing", max_unreadable=share)
    for result in (
        compressed(plain, tmp_path, data=data, **KEPT, max_unreadable=share),
        compressed(allowing, tmp_path, data=data, **KEPT),
    ):
        assert result["max_unreadable"] == share
        assert result["num_images"] == num_tested - 2
    assert bad[0] in capsys.readouterr().err


def test_no_choice_is_made_with_test_images_in_reach(tmp_path: Path) -> None:
    inputs = opened(run_of(digits_model(), tmp_path / "run"))
    assert inputs.splits.test is None
    assert inputs.splits.fingerprint == open_data("digits", roles=("train", "validation")).fingerprint
    assert inputs.roles == open_data("digits").roles()
