"""--engine and --precision of predict and evaluate: every runtime, the chosen one, and what each says of itself."""

import dataclasses
import json

import numpy as np
import pytest
from random_models import TINY, random_images, random_model

import resfit
from resfit.cli import main
from resfit.compression.quantise import quantise
from resfit.data.preprocessing import Preprocessing
from resfit.engines.artifact import build
from resfit.model.run_folder import save

ENGINES = {"onnx": ("onnxruntime", "openvino"), "torch": ("torch",)}  # torch-compiled: test_engines_contract


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "resfit" / "engines.json"


@pytest.fixture(scope="module")
def model():
    made = random_model(dataclasses.replace(TINY, num_classes=3), side=12)
    statistics = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    preprocessing = Preprocessing(height=12, width=12, channels=3, **statistics)
    return dataclasses.replace(made, preprocessing=preprocessing, labels=("blue", "green", "red"))


@pytest.fixture
def artifact(model, tmp_path):
    return str(build(model, tmp_path / "m.onnx").path)


def probabilities(result):
    return [row["probability"] for row in result["predictions"]]


def test_every_engine_of_the_format_is_asked_for_by_name(model, artifact, tmp_path, shapes_folder):
    pictures = [str(shapes_folder / "red" / f"{number}.png") for number in range(3)]
    build(model, tmp_path / "m.safetensors", format="torch")
    results = [
        resfit.predict(path, pictures, engine=engine, threads=1)
        for path, format in ((artifact, "onnx"), (str(tmp_path / "m.safetensors"), "torch"))
        for engine in ENGINES[format]
    ]
    assert [result["engine"] for result in results] == ["onnxruntime", "openvino", "torch"]
    assert {(result["engine_reason"], result["precision"]) for result in results} == {(None, "fp32")}
    for result in results[1:]:
        np.testing.assert_allclose(probabilities(result), probabilities(results[0]), atol=1e-4)


@pytest.mark.parametrize("as_run", [False, True])
def test_auto_measures_once_says_why_and_is_then_the_default_of_predict(
    model, artifact, cache, shapes_folder, tmp_path, capsys, as_run
):
    picture = [str(shapes_folder / "red" / "0.png")]
    source = artifact
    if as_run:
        source = str(tmp_path / "run")
        save(model, source)
    assert resfit.predict(source, picture, threads=1)["engine_reason"] is None
    assert not cache.exists()
    chosen = resfit.predict(source, picture, engine="auto", threads=1)
    error = capsys.readouterr().err
    assert "in onnxruntime, openvino" in error
    assert f"note: {chosen['engine_reason']}" in error
    assert chosen["engine"] == json.loads(cache.read_text())[0]["engine"]
    again = resfit.predict(source, picture, threads=1)
    assert (again["engine"], again["engine_reason"]) == (chosen["engine"], chosen["engine_reason"])
    assert len(json.loads(cache.read_text())) == 1


def test_evaluate_runs_in_the_engine_asked_for(artifact, shapes_folder, cache, capsys):
    flags = ["--split", "train", "--threads", "1", "--json"]
    found = {}
    for engine in ("onnxruntime", "openvino", "auto"):
        assert main(["evaluate", artifact, str(shapes_folder), "--engine", engine, *flags]) == 0
        found[engine] = json.loads(capsys.readouterr().out)
    assert found["openvino"]["engine"] == "openvino"
    assert found["auto"]["engine"] == json.loads(cache.read_text())[0]["engine"]
    assert found["auto"]["engine_reason"] in found["auto"]["notes"]
    assert " ms for 128 images with 1 thread" in found["auto"]["engine_reason"]
    assert found["openvino"]["engine_reason"] is None
    assert found["openvino"]["accuracy"] == pytest.approx(found["onnxruntime"]["accuracy"], abs=0.003)
    assert main(["evaluate", artifact, str(shapes_folder), *flags]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == "onnxruntime"  # whatever was measured: the same numbers


def test_a_precision_is_read_back_or_refused(model, artifact, tmp_path, shapes_folder, capsys):
    int8 = str(build(quantise(model, random_images(model, 8)), tmp_path / "q.onnx", precision="int8").path)
    data = [str(shapes_folder), "--split", "train", "--threads", "1", "--json"]
    assert main(["evaluate", int8, *data, "--precision", "int8"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "int8"
    assert main(["evaluate", artifact, *data, "--precision", "int8"]) == 1
    assert "m.onnx holds fp32 weights" in capsys.readouterr().err
    assert main(["evaluate", artifact, *data, "--precision", "bf16"]) == 1
    assert "onnxruntime has no bf16 on this machine" in capsys.readouterr().err
    picture = str(shapes_folder / "red" / "0.png")
    assert main(["predict", artifact, picture, "--precision", "bf16", "--engine", "onnxruntime"]) == 1
    assert "onnxruntime has no bf16 on this machine" in capsys.readouterr().err


def test_threads_that_an_engine_does_not_give_are_refused(artifact, shapes_folder, capsys):
    picture = str(shapes_folder / "red" / "0.png")
    assert main(["predict", artifact, picture, "--engine", "openvino", "--threads", "999"]) == 1
    assert "not the 999 asked for" in capsys.readouterr().err
