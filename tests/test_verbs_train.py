"""`train` and `evaluate` from end to end, each flag with something it changes."""

import json
from pathlib import Path
from typing import Any

import pytest

import resfit
from resfit.errors import ResfitError, UsageError

FAST: dict[str, Any] = {"model": "resnet8", "epochs": 1, "precision": "fp32", "threads": 1, "batch_size": 16}


@pytest.fixture(scope="module")
def trained(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("runs") / "r"
    return resfit.train(str(shapes_folder), **{**FAST, "epochs": 6, "out": str(out)})


def again(shapes_folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    # The layout is pinned: a busy machine may choose another the second time
    pinned = {"memory_format": "channels_last"}
    return resfit.train(str(shapes_folder), **{**FAST, **pinned, "out": str(out), **changes})


def test_a_run_holds_model_card_and_recipe(trained: dict[str, Any]) -> None:
    folder = Path(trained["out"])
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "README.md", "recipe.json", "metrics.csv", "checkpoints"} <= names
    assert trained["num_images"] == 18
    assert [trained["roles"][role]["num_images"] for role in ("train", "validation", "test")] == [66, 6, 18]
    assert trained["accuracy"] > 0.6
    assert "66" in (folder / "README.md").read_text()


def test_same_seed_same_weights_and_another_seed_others(shapes_folder: Path, tmp_path: Path) -> None:
    first = again(shapes_folder, tmp_path / "a")
    second = again(shapes_folder, tmp_path / "b")
    other = again(shapes_folder, tmp_path / "c", seed=1)
    assert first["weights_sha256"] == second["weights_sha256"] != other["weights_sha256"]


def test_precision_threads_and_time_are_followed(shapes_folder: Path, tmp_path: Path) -> None:
    result = again(shapes_folder, tmp_path / "a", precision="bf16", threads=2, epochs=None, time_minutes=0.05)
    assert result["recipe"]["precision"] == "bf16"
    assert result["recipe"]["threads"] == 2
    assert result["recipe"]["steps"] is not None
    assert again(shapes_folder, tmp_path / "b", precision="auto")["recipe"]["precision"] in ("fp32", "bf16")


def test_a_recipe_is_replayed_bit_for_bit(trained: dict[str, Any], shapes_folder: Path, tmp_path: Path) -> None:
    result = resfit.train(str(shapes_folder), model="resnet8", recipe=trained["out"], out=str(tmp_path / "r"))
    assert result["weights_sha256"] == trained["weights_sha256"]


def test_pretrained_weights_are_the_start(trained: dict[str, Any], shapes_folder: Path, tmp_path: Path) -> None:
    cold = again(shapes_folder, tmp_path / "a", lr=1e-6)
    warm = again(shapes_folder, tmp_path / "b", lr=1e-6, pretrained=trained["out"])
    assert warm["validation_accuracy"] >= cold["validation_accuracy"]
    assert warm["weights_sha256"] != cold["weights_sha256"]
    with pytest.raises(UsageError, match="not weights"):
        again(shapes_folder, tmp_path / "c", pretrained="resnet20")


def test_resume_ends_with_the_uninterrupted_weights(
    shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resfit.training import loop

    whole = again(shapes_folder, tmp_path / "whole", epochs=3)
    train = loop.train
    monkeypatch.setattr(loop, "train", lambda *inputs, **options: train(*inputs, **options, stop_after_step=4))
    with pytest.raises(ResfitError) as stopped:
        again(shapes_folder, tmp_path / "part", epochs=3)
    assert stopped.value.exit_code == 130
    monkeypatch.setattr(loop, "train", train)
    resumed = resfit.train(resume=str(tmp_path / "part"))
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert resumed["accuracy"] == whole["accuracy"]


def test_an_earlier_run_is_kept(shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = again(shapes_folder, tmp_path / "r")
    again(shapes_folder, tmp_path / "r", seed=1)
    assert (tmp_path / "r.1" / "model.safetensors").exists()
    assert "r.1" in capsys.readouterr().err
    assert resfit.evaluate(str(tmp_path / "r.1"), str(shapes_folder))["accuracy"] == first["accuracy"]


def test_runs_without_out_are_numbered(shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [resfit.train(str(shapes_folder), **FAST)["out"] for _ in range(2)]
    assert names == ["runs/colours-1", "runs/colours-2"]


def test_evaluate_agrees_with_training_in_both_engines(trained: dict[str, Any], shapes_folder: Path) -> None:
    results = [
        resfit.evaluate(trained["out"], str(shapes_folder), engine=engine, batch_size=size, threads=1)
        for engine, size in (("onnxruntime", 4), ("torch", 128))
    ]
    assert [result["accuracy"] for result in results] == [trained["accuracy"]] * 2
    assert [result["engine"] for result in results] == ["onnxruntime", "torch"]
    low, high = results[0]["accuracy_interval"]
    assert low < trained["accuracy"] < high or trained["accuracy"] == high


def test_evaluate_reads_the_split_it_is_told(trained: dict[str, Any], shapes_folder: Path) -> None:
    counts = [
        resfit.evaluate(trained["out"], str(shapes_folder), split=split)["num_images"]
        for split in ("train", "validation", "test")
    ]
    assert counts == [66, 6, 18]


def test_evaluate_normalises_a_checkpoint_as_told(trained: dict[str, Any], shapes_folder: Path) -> None:
    weights = str(Path(trained["out"]) / "model.safetensors")
    config = json.loads((Path(trained["out"]) / "config.json").read_text())["preprocessing"]
    assumed = resfit.evaluate(weights, str(shapes_folder))
    told = resfit.evaluate(weights, str(shapes_folder), mean=tuple(config["mean"]), std=tuple(config["std"]))
    larger = resfit.evaluate(weights, str(shapes_folder), img_size=24)
    assert any("assumed" in note for note in assumed["notes"])
    assert told["loss"] != assumed["loss"]
    assert told["accuracy"] == trained["accuracy"]
    assert larger["preprocessing"]["height"] == 24
    assert assumed["preprocessing"]["height"] == 12
