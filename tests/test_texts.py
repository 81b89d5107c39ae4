"""What a file says of a model cannot steer the terminal that shows it; any name people give a class stays legal."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
from container_files import rewrite, varied_model
from foreign_folders import huggingface_files, timm_files, write
from PIL import Image
from small_models import small_model, small_spec

from resfit.data.sources import open_data
from resfit.engines.metadata import Metadata
from resfit.engines.weights import write_weights
from resfit.errors import DataError, EngineError, ModelError
from resfit.model.container import save_container
from resfit.model.load import load
from resfit.model.model import Model
from resfit.model.run_folder import save
from resfit.model.state import DESCRIPTION, shortened
from resfit.texts import MOST_LABEL, labels_of

LEGAL = (
    "n01440764 tench, Tinca tinca",
    "caf\u00e9 \u65e5\u672c \u0639\u0631\u0628\u064a \U0001f468\u200d\U0001f469",
    "x" * MOST_LABEL,
)
STEERING = ("\x1b]0;owned\x07", "\x9b2J", "a\rb", "a\nb", "\x7f", "x" * (MOST_LABEL + 1), "\ud800")


def container(folder: Path, labels: tuple[str, ...]) -> Path:
    path = folder / "c.resfit"
    save_container(varied_model(), path, codec="raw")

    def change(plain: bytes) -> bytes:
        start = plain.index(b'{"')
        description = json.loads(plain[start:])
        return plain[:start] + json.dumps({**description, "labels": labels}).encode()

    rewrite(path, plain=change)
    return path


def run_folder(folder: Path, labels: tuple[str, ...]) -> Path:
    save(varied_model(), folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "labels": labels}), encoding="utf-8")
    return folder


def weight_file(folder: Path, labels: tuple[str, ...]) -> Path:
    path = folder / "m.safetensors"
    write_weights(varied_model(), path, format="safetensors")
    with safetensors.safe_open(path, framework="pt") as file:
        strings = json.loads(file.metadata()[DESCRIPTION]) | {"labels": json.dumps(labels)}
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, {DESCRIPTION: json.dumps(strings)})
    return path


def model_for_others() -> Model:
    return small_model(small_spec(stem="imagenet", stem_width=8, widths=(16, 24), strides=(2, 2)))


def huggingface_folder(folder: Path, labels: tuple[str, ...]) -> Path:
    names = {str(index): label for index, label in enumerate(labels)}
    return write(folder, huggingface_files(model_for_others(), id2label=names))


def timm_folder(folder: Path, labels: tuple[str, ...]) -> Path:
    return write(folder, timm_files(model_for_others(), label_names=list(labels)))


SOURCES: list[Any] = [container, run_folder, weight_file, huggingface_folder, timm_folder]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_labels_of_any_language_are_read(tmp_path: Path, source: Any) -> None:
    assert load(source(tmp_path, LEGAL)).labels == LEGAL


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
@pytest.mark.parametrize("label", STEERING, ids=ascii)
def test_labels_that_steer_a_terminal_or_fill_it_are_refused(tmp_path: Path, source: Any, label: str) -> None:
    path = source(tmp_path, ("one", label, "three"))
    with pytest.raises(ModelError) as caught:
        load(path)
    assert str(path) in caught.value.message
    assert "[1]" in caught.value.message
    assert str(caught.value).replace("\n", "").isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("label", ["\x1b]0;owned\x07", "a\nb"], ids=ascii)
def test_data_with_class_names_that_no_model_could_keep_is_refused_before_the_work(tmp_path: Path, label: str) -> None:
    for name in ("one", label):
        folder = tmp_path / name
        folder.mkdir()
        for index in range(10):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(folder / f"{index}.png")
    with pytest.raises(
        DataError, match=r"class names\[\d\] is .*, expected a text without control characters"
    ) as caught:
        open_data(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert str(caught.value).replace("\n", "").isprintable()


def test_labels_of_an_artifact_cannot_steer_a_terminal() -> None:
    strings = Metadata(
        spec=small_spec(), preprocessing=varied_model().preprocessing, labels=("one", "two"), precision="fp32",
        converted_layers=0, trained=True, resfit_version="1",
    ).to_strings()  # fmt: skip
    assert Metadata.from_strings(strings, source="m.onnx").labels == ("one", "two")
    with pytest.raises(EngineError, match=r"m.onnx carries no resfit metadata \(labels\[1\] is '\\x1b\[2J'"):
        Metadata.from_strings({**strings, "labels": json.dumps(["one", "\x1b[2J"])}, source="m.onnx")


def test_a_folder_may_have_any_name_that_fits_a_file_system() -> None:
    assert labels_of(["\u65e5" * 85, "a" * 255]) == ("\u65e5" * 85, "a" * 255)


def test_notes_do_not_repeat_what_a_configuration_says_unseen(tmp_path: Path) -> None:
    for changed in ({"interpolation": "\x1b[2J"}, {"interpolation": [1]}, {"crop_mode": "\x1b[2J"}):
        files = timm_files(model_for_others())
        config = json.loads(files["config.json"])
        config["pretrained_cfg"] |= changed
        files["config.json"] = json.dumps(config).encode()
        folder = write(tmp_path / next(iter(changed)), files)
        try:
            found = " ".join(load(folder).provenance.notes)
        except ModelError as error:
            found = error.message
        assert found.isprintable()


def test_names_of_tensors_are_shown_without_control_characters() -> None:
    assert shortened(["conv1.weight", "\x1b[2J"]) == "conv1.weight, '\\x1b[2J'"
    assert len(shortened(["x" * 10**6])) < 1000
