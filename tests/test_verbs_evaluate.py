"""`evaluate` from end to end: what it says of a model whose mistakes are known, each flag with what it changes."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_model import COLOURS, colour_model
from PIL import Image
from random_models import TINY, random_model

import resfit
from resfit.cli import main
from resfit.data.labels import LabelMismatch
from resfit.engines.artifact import build
from resfit.engines.torch import TorchSession
from resfit.errors import DataError, UsageError
from resfit.model.run_folder import save
from resfit.verbs.evaluate import render


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs") / "colours"
    save(colour_model(), folder)
    return str(folder)


@pytest.fixture(scope="module")
def mixed(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colours as train and test, with two red pictures among the green ones of the test."""
    folder = tmp_path_factory.mktemp("data")
    for label in COLOURS:
        for number in range(30):
            split = "test" if number < 10 else "train"
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(shapes_folder / label / f"{number}.png", folder / split / label / f"{number}.png")
    for number in (3, 7):
        (folder / "test" / "red" / f"{number}.png").rename(folder / "test" / "green" / f"red {number}.png")
    return folder


def test_the_mistakes_are_the_pictures_in_the_wrong_folder(
    run: str, mixed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", run, str(mixed), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_images"] == 30
    assert found["accuracy"] == 28 / 30
    assert found["accuracy_interval"] == pytest.approx([0.787, 0.982], abs=0.001)
    assert found["top5_accuracy"] == 1
    assert found["confusion"] == [[10, 0, 0], [0, 10, 2], [0, 0, 8]]
    assert found["balanced_accuracy"] == pytest.approx((1 + 10 / 12 + 1) / 3)
    rows = {row["label"]: (row["num_images"], row["precision"], row["recall"]) for row in found["per_class"]}
    assert rows == {"blue": (10, 1, 1), "green": (12, 1, 10 / 12), "red": (8, 0.8, 1)}
    assert {Path(row["path"]).name for row in found["mistakes"]} == {"red 3.png", "red 7.png"}
    assert {(row["label"], row["predicted"]) for row in found["mistakes"]} == {("green", "red")}
    assert found["mistakes"][0]["probability"] >= found["mistakes"][1]["probability"] > 0.5
    assert [row["label"] for row in found["hits"]] == list(COLOURS)
    assert found["skipped"] == []
    assert found["trained"] is True


def test_what_a_person_reads(run: str, mixed: Path) -> None:
    text = render(resfit.evaluate(run, str(mixed)))
    assert "93.33% (78.68% to 98.15%) on 30 test images" in text
    assert "top 5" not in text  # of three classes
    assert "green      12     100.0%   83.3%   90.9%" in text
    assert text.count("green, taken for red with") == 2
    assert "untrained" not in text


def test_of_many_classes_those_that_are_least_often_right_are_shown(tmp_path: Path) -> None:
    labels = tuple(f"class {label:02}" for label in range(25))
    model = random_model(dataclasses.replace(TINY, num_classes=25), side=8, trained=True)
    save(dataclasses.replace(model, labels=labels), tmp_path / "run")
    generator = np.random.default_rng(0)
    for number in range(250):
        folder = tmp_path / "data" / "test" / labels[number % 25]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    found = resfit.evaluate(str(tmp_path / "run"), str(tmp_path / "data"))
    text = render(found)
    assert f"top 5        {found['top5_accuracy']:.2%}" in text
    assert found["top5_accuracy"] > found["accuracy"] > 0
    assert "the 20 of 25 classes with the lowest recall" in text
    table = text[text.index("F1\n") : text.index("the 20 of")]
    shown = [row["recall"] for row in found["per_class"] if row["label"] in table]
    assert sorted(shown) == sorted(row["recall"] for row in found["per_class"])[:20]


def test_a_networks_name_is_untrained() -> None:
    found = resfit.evaluate("resnet8", "digits")
    assert found["trained"] is False
    assert "untrained: resnet8 is the name of a network" in render(found)


def test_calibration_says_which_way(run: str, mixed: Path) -> None:
    model = colour_model()
    shy = {**model.weights, "fc.weight": model.weights["fc.weight"] / 50}
    folder = mixed.parent / "shy"
    save(dataclasses.replace(model, weights=shy), folder)
    found = resfit.evaluate(str(folder), str(mixed))
    assert found["accuracy"] == 28 / 30
    assert found["ece"] > 0.3
    assert "less sure than right" in render(found)
    assert "surer than right" in render(resfit.evaluate(run, str(mixed)))


def test_split_reads_other_images(run: str, mixed: Path) -> None:
    found = {split: resfit.evaluate(run, str(mixed), split=split) for split in ("train", "validation", "test")}
    assert [result["num_images"] for result in found.values()] == [54, 6, 30]
    assert len({result["source"] for result in found.values()}) == 3
    assert found["train"]["mistakes"] == []


def test_engines_agree(run: str, mixed: Path) -> None:
    one, other = (resfit.evaluate(run, str(mixed), engine=name, threads=1) for name in ("onnxruntime", "torch"))
    assert (one["engine"], other["engine"]) == ("onnxruntime", "torch")
    assert one["confusion"] == other["confusion"]
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "form", "engine"),
    [
        ("model.onnx", {}, "onnxruntime"),
        ("model.onnx", {}, "openvino"),
        ("beside.onnx", {"input": "normalised"}, "onnxruntime"),
        ("probabilities.onnx", {"output": "probabilities"}, "onnxruntime"),
        ("graph.xml", {"format": "openvino"}, "openvino"),
        ("model.safetensors", {"format": "torch"}, "torch"),
    ],
)
def test_every_artifact_is_scored_as_its_model(
    run: str, mixed: Path, tmp_path: Path, name: str, form: dict[str, Any], engine: str
) -> None:
    artifact = build(colour_model(), tmp_path / name, **form).path
    found = resfit.evaluate(str(artifact), str(mixed), engine=engine, precision="fp32", threads=1)
    expected = resfit.evaluate(run, str(mixed), threads=1)
    assert (found["engine"], found["precision"]) == (engine, "fp32")
    assert found["confusion"] == expected["confusion"]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-3)


def test_precision_is_what_the_runtime_can_do(run: str, mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", run, str(mixed), "--engine", "onnxruntime", "--precision", "bf16"]) == 1
    assert "bf16" in capsys.readouterr().err


def test_threads_are_those_asked_for(run: str, mixed: Path) -> None:
    assert [resfit.evaluate(run, str(mixed), threads=count)["threads"] for count in (1, 2)] == [1, 2]


def test_batches_are_as_large_as_asked_for(run: str, mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, sizes = TorchSession.run, []

    def watched(self: TorchSession, images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return answer(self, images)

    monkeypatch.setattr(TorchSession, "run", watched)
    results = [resfit.evaluate(run, str(mixed), engine="torch", batch_size=size) for size in (128, 12)]
    assert sizes == [30, 12, 12, 6]
    assert results[0]["confusion"] == results[1]["confusion"]
    with pytest.raises(UsageError, match="batch-size"):
        resfit.evaluate(run, str(mixed), batch_size=0)


@pytest.mark.parametrize("change", [{"img_size": 8}, {"mean": (0.1, 0.5, 0.9)}, {"std": (0.9, 0.9, 0.9)}], ids=str)
def test_preprocessing_is_changed_as_told(run: str, mixed: Path, change: dict[str, Any]) -> None:
    plain, changed = resfit.evaluate(run, str(mixed)), resfit.evaluate(run, str(mixed), **change)
    assert changed["preprocessing"] != plain["preprocessing"]
    assert changed["loss"] != plain["loss"]


def test_fit_decides_what_of_a_long_picture_is_seen(run: str, tmp_path: Path) -> None:
    """Green in the middle and red at both ends: cropped it is green, squashed it is red."""
    for label in COLOURS:
        (tmp_path / "test" / label).mkdir(parents=True)
        pixels = np.zeros((12, 60, 3), np.uint8)
        pixels[:, :, 0] = 180
        pixels[:, 24:36] = (0, 220, 0)
        Image.fromarray(pixels).save(tmp_path / "test" / label / "long.png")
    column = {}
    for fit in (None, "crop", "squash", "letterbox"):
        confusion = resfit.evaluate(run, str(tmp_path), fit=fit)["confusion"]
        column[fit] = COLOURS[int(np.argmax(np.sum(confusion, axis=0)))]
    assert column == {None: "green", "crop": "green", "squash": "red", "letterbox": "red"}


def test_split_seed_cuts_elsewhere_and_follows_the_run(shapes_folder: Path, tmp_path: Path) -> None:
    save(colour_model(), tmp_path / "run")
    model, data = str(tmp_path / "run"), str(shapes_folder)

    def tested(**changes: Any) -> float:
        return resfit.evaluate(model, data, **changes)["loss"]

    losses = [tested(split_seed=seed) for seed in (0, 1)]
    assert losses[0] != losses[1]
    assert tested() == losses[0]
    request = tmp_path / "run" / "request.json"
    request.write_text(json.dumps({"opening": {"split_seed": 1}}))
    assert tested() == losses[1]
    assert tested(split_seed=0) == losses[0]
    assert "split seed is 1" in resfit.evaluate(model, data, split_seed=0)["notes"][0]
    assert resfit.evaluate(model, data, split_seed=1)["notes"] == []
    request.write_text("{")
    with pytest.raises(UsageError, match=r"request\.json cannot be read"):
        tested()


def test_unreadable_images_are_left_out_only_where_allowed(
    run: str, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(mixed, data)
    (data / "test" / "blue" / "cut.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cut\.png"):
        resfit.evaluate(run, str(data))
    found = resfit.evaluate(run, str(data), max_unreadable=0.1)
    assert found["num_images"] == 30
    assert [Path(name).name for name, _ in found["skipped"]] == ["cut.png"]
    assert "cut.png" in capsys.readouterr().err
    with pytest.raises(UsageError, match="unreadable"):
        resfit.evaluate(run, str(data), max_unreadable=2)


def test_decoded_images_are_kept_in_the_folder_named(
    run: str, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resfit.data import cache

    options = cache.CacheOptions
    monkeypatch.setattr(cache, "CacheOptions", lambda **given: options(**given, memory_bytes=0))
    plain = resfit.evaluate(run, str(mixed), cache=str(tmp_path / "kept"))
    assert list((tmp_path / "kept").glob("*.images"))
    assert plain["confusion"] == resfit.evaluate(run, str(mixed))["confusion"]
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="folder for decoded images"):
        resfit.evaluate(run, str(mixed), cache=str(tmp_path / "file"))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build(colour_model(), tmp_path_factory.mktemp("artifacts") / "model.onnx").path)


def test_an_artifact_is_evaluated_as_it_is(artifact: str, run: str, mixed: Path) -> None:
    found = resfit.evaluate(artifact, str(mixed))
    assert found["confusion"] == resfit.evaluate(run, str(mixed))["confusion"]
    assert found["mistakes"][0]["path"].endswith(".png")


@pytest.mark.parametrize("change", [{"img_size": 8}, {"mean": (0.5,) * 3}, {"std": (0.5,) * 3}, {"fit": "squash"}])
def test_what_is_part_of_an_artifact_cannot_be_changed(artifact: str, mixed: Path, change: dict[str, Any]) -> None:
    flag = "--" + next(iter(change)).replace("_", "-")
    with pytest.raises(UsageError, match=f"is an artifact: what {flag} would change"):
        resfit.evaluate(artifact, str(mixed), **change)


def test_classes_are_matched_by_name(run: str, mixed: Path, tmp_path: Path) -> None:
    """A class of the model that the data lacks has no recall; one of the data that the model lacks is refused."""
    for label in ("red", "blue"):
        shutil.copytree(mixed / "test" / label, tmp_path / "few" / "test" / label)
    found = resfit.evaluate(run, str(tmp_path / "few"))
    assert found["labels"] == list(COLOURS)
    assert [row["recall"] for row in found["per_class"]] == [1, None, 1]
    assert found["accuracy"] == found["balanced_accuracy"] == 1
    assert "green" not in render(found)
    shutil.copytree(mixed / "test" / "red", tmp_path / "few" / "test" / "purple")
    with pytest.raises(LabelMismatch, match="does not know: purple"):
        resfit.evaluate(run, str(tmp_path / "few"))


def test_published_weights_give_every_score(shared: Path) -> None:
    found = resfit.evaluate(str(shared / "weights" / "resnet20-12fca82f.th"), str(shared / "cifar10"))
    assert found["accuracy"] == 0.9173
    assert found["top5_accuracy"] == pytest.approx(0.9966, abs=2e-4)
    assert found["ece"] == pytest.approx(0.0532, abs=5e-4)
    assert found["brier"] == pytest.approx(0.1344, abs=5e-4)
    assert min(found["per_class"], key=lambda row: row["recall"])["label"] == "cat"
    assert sum(row["count"] for row in found["reliability"]) == found["num_images"] == 10_000
    found = resfit.evaluate(str(shared / "weights" / "resnet32-d509ac18.th"), str(shared / "cifar10"))
    assert found["accuracy"] == 0.9263
