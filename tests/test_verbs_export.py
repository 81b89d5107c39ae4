"""`export`: the written file answers as the model does, and each flag changes something."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_images import with_bad_images
from random_models import random_model
from small_compressions import digits_model

import resfit
from resfit.engines.artifact import describe
from resfit.errors import BudgetNotMet, DataError, EngineError, MissingExtra, ModelError, UsageError
from resfit.model.container import save_container
from resfit.model.run_folder import save
from resfit.nn.spec import ResNetSpec
from resfit.storage import sha256_file
from resfit.verbs.model_and_data import with_split_seed


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
    assert result["differing_answers"] == round((1 - result["top1_agreement"]) * 6)
    assert result["float_layers"] == []
    assert result["max_abs_difference"] > 0
    accuracy = resfit.evaluate(str(path), str(shapes_folder))["accuracy"]
    assert accuracy == pytest.approx(resfit.evaluate(run, str(shapes_folder))["accuracy"], abs=0.12)


FILES = {
    "onnx": "model.onnx",
    "openvino": "model.xml",
    "torch": "model.safetensors",
    "safetensors": "model.safetensors",
}


@pytest.mark.parametrize("format", FILES)
def test_float32_agrees_on_noise_without_data(
    run: str, tmp_path: Path, format: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if format == "openvino":
        pytest.importorskip("openvino", reason="the openvino format needs openvino")
    monkeypatch.chdir(tmp_path)
    result = resfit.export(run, format=format, threads=1)
    assert result["artifact"]["path"] == FILES[format]
    assert set(result["artifact"]["files"]) == {path.name for path in tmp_path.iterdir()}
    assert result["artifact"]["file_bytes"] == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert result["top1_agreement"] == 1
    assert result["differing_answers"] == 0
    assert "noise" in result["compared_on"]
    assert describe(tmp_path / FILES[format]).labels == ("blue", "green", "red")


def test_formats_for_other_programs_are_folders_they_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm", reason="the test extra brings timm")
    pytest.importorskip("transformers", reason="the test extra brings transformers")
    monkeypatch.chdir(tmp_path)
    spec = ResNetSpec(depths=(1, 1, 1, 1), widths=(8, 8, 16, 16), strides=(1, 2, 2, 2), num_classes=5)
    save(random_model(spec, side=32, trained=True), tmp_path / "r")
    for format, opener, files in (("timm", "timm", 2), ("huggingface", "transformers", 3)):
        result = resfit.export("r", format=format, threads=1)  # type: ignore[arg-type]
        folder = tmp_path / f"model-{format}"
        assert result["artifact"]["path"] == folder.name
        assert len(list(folder.iterdir())) == files == len(result["artifact"]["files"])
        assert result["artifact"]["sha256"] == sha256_file(folder / "model.safetensors")
        assert result["reopened_with"].startswith(opener)
        assert result["max_abs_difference"] < 1e-3
    resfit.export("r", format="timm", threads=1)
    assert (tmp_path / "model-timm.1" / "config.json").is_file()


def test_a_network_that_another_program_cannot_express_is_refused(run: str, tmp_path: Path) -> None:
    for format in ("timm", "huggingface"):
        with pytest.raises(ModelError, match=r"cannot express this network: stem is 'cifar'"):
            resfit.export(run, format=format, out=str(tmp_path / "m"))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_preprocessing_beside_the_graph_is_written_beside_the_file(run: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    result = resfit.export(run, out=str(path), preprocessing="beside", threads=1)
    assert result["artifact"]["input"] == describe(path).input == "normalised"
    beside = json.loads((tmp_path / "m.preprocessing.json").read_text())
    assert beside["preprocessing"] == describe(path).preprocessing.to_dict()
    assert beside["input"]["shape"] == ["N", 3, 12, 12]
    assert beside["labels"] == ["blue", "green", "red"]
    inside = resfit.export(run, out=str(tmp_path / "n.onnx"), threads=1)
    assert inside["artifact"]["input"] == "pixels"
    assert not (tmp_path / "n.preprocessing.json").exists()


@pytest.mark.parametrize("preprocessing", ["inside", "beside"])
def test_a_file_of_probabilities_is_evaluated_as_one_of_logits(
    run: str, shapes_folder: Path, tmp_path: Path, preprocessing: Any
) -> None:
    path = tmp_path / "m.onnx"
    result = resfit.export(run, out=str(path), output="probabilities", preprocessing=preprocessing, threads=1)
    assert result["artifact"]["output"] == describe(path).output == "probabilities"
    assert result["max_abs_difference"] < 1e-5
    found, expected = (resfit.evaluate(name, str(shapes_folder), threads=1) for name in (str(path), run))
    assert found["accuracy"] == expected["accuracy"]
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-4)


def test_max_drop_measures_the_file_on_validation_images(run: str, shapes_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    settings: dict[str, Any] = {"precision": "int8", "data": str(shapes_folder), "out": str(path), "threads": 1}
    result = resfit.export(run, **settings, max_drop=50)
    assert result["validation_images"] == 6
    assert result["drop"] == pytest.approx(100 * (result["accuracy_before"] - result["accuracy"]))
    assert "drop" not in resfit.export(run, **settings)


def test_a_file_that_loses_too_much_is_refused_and_leaves_nothing(
    run: str, shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resfit.engines.onnxruntime import OnnxRuntimeSession

    def always_the_last(_session: Any, images: Any) -> Any:
        return np.tile(np.array([0, 0, 1], np.float32), (len(images), 1))

    monkeypatch.setattr(OnnxRuntimeSession, "run", always_the_last)
    with pytest.raises(BudgetNotMet, match="nothing was written") as raised:
        resfit.export(
            run, precision="int8", data=str(shapes_folder), out=str(tmp_path / "m.onnx"), max_drop=1, threads=1
        )
    assert raised.value.exit_code == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_drop": 1.0}, "--max-drop measures accuracy"),
        ({"max_drop": -1.0, "data": "digits"}, "--max-drop is -1"),
        ({"format": "torch", "output": "probabilities"}, "--output probabilities is a choice of graphs"),
        ({"format": "timm", "preprocessing": "beside"}, "--preprocessing beside is a choice of graphs"),
        ({"format": "safetensors", "precision": "int8", "data": "digits"}, "safetensors format holds float32 only"),
        ({"format": "openvino", "out": "m.onnx"}, "cannot be an openvino graph"),
    ],
)
def test_flags_that_do_not_go_together(run: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resfit.export(run, **given)


def test_a_missing_openvino_names_the_extra(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra) as raised:
        resfit.export(run, format="openvino", out=str(tmp_path / "m.xml"), threads=1)
    assert "resfit[openvino]" in (raised.value.hint or "")
    assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize("threads", [1, 2])
def test_the_file_is_opened_with_as_many_threads_as_asked(run: str, tmp_path: Path, threads: int) -> None:
    assert resfit.export(run, out=str(tmp_path / "m.onnx"), threads=threads)["threads"] == threads


def test_an_earlier_file_is_kept(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"mine")
    resfit.export(run, out=str(path))
    assert (tmp_path / "m.onnx.1").read_bytes() == b"mine"
    assert "m.onnx.1" in capsys.readouterr().err


def test_a_file_that_disagrees_is_refused(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resfit.engines import compare as comparison

    monkeypatch.setattr(comparison, "compare", lambda *_: {"max_abs_difference": 9.0})
    with pytest.raises(EngineError, match="disagrees"):
        resfit.export(run, out=str(tmp_path / "m.onnx"))
    assert not list(tmp_path.iterdir())


def test_int8_refuses_the_torch_format_and_missing_data(run: str, shapes_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="float32 only"):
        resfit.export(run, format="torch", precision="int8", data=str(shapes_folder), out=str(tmp_path / "m"))
    with pytest.raises(UsageError, match="calibrate"):
        resfit.export(run, precision="int8", out=str(tmp_path / "m"))
    with pytest.raises(UsageError, match="is a folder"):
        resfit.export(run, out=str(tmp_path))


def test_images_are_cut_as_the_training_s_were(tmp_path: Path) -> None:
    model, settings = digits_model(), {"data": "digits", "max_drop": 100.0, "threads": 1}
    sources = [tmp_path / "run", tmp_path / "c.resfit"]
    save(model, sources[0])
    (sources[0] / "request.json").write_text(json.dumps({"opening": {"split_seed": 3}}))
    save_container(with_split_seed(model, 3), sources[1])
    own, zero = (resfit.evaluate(str(sources[0]), "digits", split="validation", split_seed=cut) for cut in (3, 0))
    assert own["accuracy"] != zero["accuracy"]
    for source in sources:
        result = resfit.export(str(source), out=str(tmp_path / "m.onnx"), **settings)
        assert result["accuracy_before"] == own["accuracy"]


def test_as_many_images_may_be_unreadable_as_in_the_training(
    run: str, shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, bad = with_bad_images(shapes_folder, tmp_path / "data", "validation", 1)
    flags: dict[str, Any] = {"data": data, "out": str(tmp_path / "m.onnx"), "threads": 1}
    with pytest.raises(DataError, match=bad[0]):
        resfit.export(run, **flags)
    share = 0.03  # of all 90 images, as in training; of the validation images alone it would be none
    shutil.copytree(run, tmp_path / "run")
    request = json.loads((tmp_path / "run" / "request.json").read_text())
    request["opening"]["max_unreadable"] = share
    (tmp_path / "run" / "request.json").write_text(json.dumps(request))
    result = resfit.export(str(tmp_path / "run"), **flags)
    assert result["compared_on"] == "5 validation images"
    assert bad[0] in capsys.readouterr().err
