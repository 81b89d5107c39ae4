"""`export`: the written file answers as the model does, and each flag changes something."""

from pathlib import Path
from typing import Any

import pytest

import resfit
from resfit.engines.artifact import describe
from resfit.errors import EngineError, UsageError
from resfit.storage import sha256_file


@pytest.fixture(scope="module")
def run(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("runs") / "r"
    settings: dict[str, Any] = {"model": "resnet8", "epochs": 4, "precision": "fp32", "threads": 1, "batch_size": 16}
    return resfit.train(str(shapes_folder), **settings, out=str(out))["out"]


def test_int8_converts_layers_and_agrees(run: str, shapes_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    result = resfit.export(run, precision="int8", data=str(shapes_folder), out=str(path), threads=1)
    assert result["converted_layers"] > 0
    assert result["artifact"]["sha256"] == sha256_file(path)
    assert result["artifact"]["file_bytes"] == path.stat().st_size
    assert result["top1_agreement"] >= 0.8
    assert result["max_abs_difference"] > 0
    accuracy = resfit.evaluate(str(path), str(shapes_folder))["accuracy"]
    assert accuracy == pytest.approx(resfit.evaluate(run, str(shapes_folder))["accuracy"], abs=0.12)


@pytest.mark.parametrize(("format", "suffix"), [("onnx", ".onnx"), ("torch", ".safetensors")])
def test_float32_agrees_on_noise_without_data(
    run: str, tmp_path: Path, format: Any, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = resfit.export(run, format=format)
    assert result["artifact"]["path"] == f"model{suffix}"
    assert result["top1_agreement"] == 1
    assert "noise" in result["compared_on"]
    assert describe(tmp_path / f"model{suffix}").labels == ("blue", "green", "red")


def test_size_and_normalisation_go_into_the_file(run: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    resfit.export(run, out=str(path), img_size=20, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    shape = describe(path).preprocessing
    assert (shape.height, shape.width) == (20, 20)
    assert shape.mean == (0.1, 0.2, 0.3)
    assert shape.std == (0.5, 0.6, 0.7)


def test_the_seed_chooses_the_calibration_images(run: str, tmp_path: Path) -> None:
    files = [
        resfit.export(run, precision="int8", data="digits", out=str(tmp_path / f"{seed}.onnx"), seed=seed)
        for seed in (0, 0, 1)
    ]
    hashes = [result["artifact"]["sha256"] for result in files]
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_earlier_file_is_kept(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"mine")
    resfit.export(run, out=str(path))
    assert (tmp_path / "m.onnx.1").read_bytes() == b"mine"
    assert "m.onnx.1" in capsys.readouterr().err


def test_a_file_that_disagrees_is_refused(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resfit.engines import compare as comparison

    monkeypatch.setattr(comparison, "compare", lambda *_: {"top1_agreement": 0.5, "max_abs_difference": 9.0})
    with pytest.raises(EngineError, match="disagrees"):
        resfit.export(run, out=str(tmp_path / "m.onnx"))
    assert not (tmp_path / "m.onnx").exists()


def test_int8_refuses_the_torch_format_and_missing_data(run: str, shapes_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="float32 only"):
        resfit.export(run, format="torch", precision="int8", data=str(shapes_folder), out=str(tmp_path / "m"))
    with pytest.raises(UsageError, match="calibrate"):
        resfit.export(run, precision="int8", out=str(tmp_path / "m"))
    with pytest.raises(UsageError, match="is a folder"):
        resfit.export(run, out=str(tmp_path))
