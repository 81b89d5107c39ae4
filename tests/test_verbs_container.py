"""Every verb takes a `.resfit` file as it takes a run folder."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from container_files import encoded, grid
from PIL import Image
from small_models import small_model, small_spec

import resfit
from resfit.cli import main
from resfit.data.preprocessing import Preprocessing
from resfit.errors import ModelError
from resfit.model.container import container_sizes, load_container, save_container
from resfit.model.load import load
from resfit.model.model import Model, weights_sha256
from resfit.model.run_folder import save


@pytest.fixture(scope="module")
def model() -> Model:
    """A network for the digits whose convolutions are of 6 bits."""
    plain = small_model(small_spec(in_channels=1, num_classes=10))
    small = Preprocessing(height=8, width=8, channels=1, mean=(0.3,), std=(0.4,))
    labels = tuple(str(digit) for digit in range(10))
    named = dataclasses.replace(plain, preprocessing=small, labels=labels)
    chosen = {name: grid(tensor.numpy(), bits=6, axis=0) for name, tensor in named.weights.items() if tensor.ndim == 4}
    return encoded(named, chosen)


@pytest.fixture
def both(tmp_path: Path, model: Model) -> tuple[str, str]:
    """The same model as a run folder and as a file."""
    save(model, tmp_path / "run")
    save_container(model, tmp_path / "c.resfit", codec="huffman")
    return str(tmp_path / "run"), str(tmp_path / "c.resfit")


def test_evaluate(both: tuple[str, str]) -> None:
    run, file = (resfit.evaluate(source, "digits", threads=1) for source in both)
    for key in ("accuracy", "loss", "num_images", "preprocessing", "trained"):
        assert file[key] == run[key]
    assert file["preprocessing"]["mean"] == [0.3]  # its own, and its own size, though it is a file


def test_predict(both: tuple[str, str], tmp_path: Path) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).save(tmp_path / "digit.png")
    rows = [resfit.predict(source, str(tmp_path / "digit.png"), threads=1) for source in both]
    answers = [json.loads(json.dumps(row)) for row in rows]
    for answer in answers:
        answer.pop("model", None)
    assert without_times(answers[0]) == without_times(answers[1])


def without_times(value: Any) -> Any:
    """An answer without what differs from one call to the next."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if "second" not in key and "ms" not in key}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def test_inspect(both: tuple[str, str]) -> None:
    run, file = (resfit.inspect(source) for source in both)
    assert file["parameters"] == run["parameters"]
    assert file["macs"] == run["macs"]
    assert file["file_bytes"] == Path(both[1]).stat().st_size
    assert file["overhead_bytes"] + sum(layer["bytes"] for layer in file["layers"]) == file["file_bytes"]
    assert file["overhead_bytes"] + sum(kind["bytes"] for kind in file["kinds"].values()) == file["file_bytes"]
    assert file["ratio"] == pytest.approx(4 * file["parameters"] / file["file_bytes"])
    assert file["layers"] == container_sizes(both[1])["layers"]
    assert "layers" not in run


def test_inspect_shows_where_the_bytes_go(both: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", both[1]]) == 0
    lines = capsys.readouterr().out.splitlines()
    size = Path(both[1]).stat().st_size
    assert any(line.startswith(f"{size:,} bytes, ") and "huffman" in line for line in lines)
    kernel = next(layer for layer in container_sizes(both[1])["layers"] if layer["name"] == "layer1.0.conv1.weight")
    row = next(line.split() for line in lines if line.startswith("layer1.0.conv1.weight"))
    assert row[1:4] == ["int6", f"{kernel['symbols']:,}", f"{kernel['bytes']:,}"]
    assert next(line.split() for line in lines if line.startswith("overhead"))[1].isdigit()


def test_export(both: tuple[str, str], tmp_path: Path) -> None:
    shas = []
    for number, source in enumerate(both):
        resfit.export(source, out=str(tmp_path / f"{number}.onnx"), threads=1)
        shas.append((tmp_path / f"{number}.onnx").read_bytes())
    assert shas[0] == shas[1]


def test_benchmark_opens_it(both: tuple[str, str]) -> None:
    result = resfit.benchmark(both[1], engine=["onnxruntime"], precision=["fp32"], threads=1)
    assert result["results"]


def test_train_goes_on_from_it(both: tuple[str, str], tmp_path: Path, model: Model) -> None:
    out = tmp_path / "tuned"
    resfit.train("digits", pretrained=both[1], out=str(out), epochs=1, threads=1, img_size=8)
    tuned = load(out)
    assert tuned.spec.widths == model.spec.widths
    assert weights_sha256(tuned) != weights_sha256(model)


def test_a_damaged_file_is_named_by_every_verb(both: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(both[1])
    path.write_bytes(path.read_bytes()[:-20])
    for command in (["evaluate", both[1], "digits"], ["inspect", both[1]], ["export", both[1]]):
        assert main(command) == 1
        assert both[1] in capsys.readouterr().err
    with pytest.raises(ModelError, match=r"only partly copied|says that it has"):
        load_container(path)
