"""One loader for whatever a user names."""

from pathlib import Path

import pytest
import torch
from small_models import small_model, small_spec

import resfit
from resfit.errors import ModelError, UsageError
from resfit.model.load import load
from resfit.model.model import weights_sha256
from resfit.model.run_folder import save
from resfit.nn.architectures import architecture


def test_the_package_has_it() -> None:
    assert resfit.load is load
    assert "load" in dir(resfit)


def test_run_and_fit_folders(tmp_path: Path) -> None:
    model = small_model(small_spec())
    save(model, tmp_path / "run")
    save(model, tmp_path / "fit" / "model")
    for folder in ("run", "fit", "fit/model"):
        assert weights_sha256(load(str(tmp_path / folder))) == weights_sha256(model)


def test_checkpoint_files(tmp_path: Path) -> None:
    torch.save(small_model(small_spec()).weights, tmp_path / "net.pth")
    model = load(tmp_path / "net.pth", mean=(0.1, 0.2, 0.3), img_size=20)
    assert model.preprocessing.mean == (0.1, 0.2, 0.3)
    assert model.preprocessing.height == 20


def test_a_size_is_asked_for_only_where_there_is_a_network_without_one(tmp_path: Path) -> None:
    def broken() -> tuple[int, int]:
        raise UsageError("no such data")

    torch.save(small_model(small_spec()).weights, tmp_path / "net.pth")
    (tmp_path / "text.pth").write_text("no network")
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    for name in ("text.pth", "other.pth"):
        with pytest.raises(ModelError, match=name):
            load(tmp_path / name, usual_size=broken)
    for source in (tmp_path / "net.pth", "resnet8"):
        with pytest.raises(UsageError, match="no such data"):
            load(source, usual_size=broken)
        assert load(source, usual_size=broken, img_size=9).preprocessing.height == 9
        preprocessing = load(source, usual_size=lambda: (7, 8)).preprocessing
        assert (preprocessing.height, preprocessing.width) == (7, 8)


def test_names_give_untrained_networks_of_a_seed() -> None:
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    model = load("resnet8")
    assert torch.equal(state, torch.random.get_rng_state()), "the user's own random numbers go on undisturbed"
    assert model.spec == architecture("resnet8")
    assert not model.provenance.trained
    assert any("untrained" in note for note in model.provenance.notes)
    assert weights_sha256(load("resnet8")) == weights_sha256(model)
    assert weights_sha256(load("resnet8", seed=1)) != weights_sha256(model)
    grey = load("resnet8", num_classes=4, in_channels=1, img_size=8, labels=("a", "b", "c", "d"))
    assert (grey.spec.num_classes, grey.spec.in_channels, grey.preprocessing.width) == (4, 1, 8)
    assert grey.labels == ("a", "b", "c", "d")


def test_a_path_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(small_model(small_spec()), "resnet8")
    assert load("resnet8").provenance.trained


def test_what_the_user_says_replaces_what_a_run_carries(tmp_path: Path) -> None:
    model = small_model(small_spec())
    save(model, tmp_path)
    assert load(tmp_path).preprocessing == model.preprocessing
    changed = load(tmp_path, std=(0.5, 0.5, 0.5), img_size=(10, 12), labels=("x", "y", "z"))
    assert changed.preprocessing.mean == model.preprocessing.mean
    assert changed.preprocessing.std == (0.5, 0.5, 0.5)
    assert (changed.preprocessing.height, changed.preprocessing.width) == (10, 12)
    assert changed.labels == ("x", "y", "z")


def test_other_counts_than_a_trained_model_has(tmp_path: Path) -> None:
    save(small_model(small_spec()), tmp_path)
    with pytest.raises(UsageError, match="num_classes 3, expected 10"):
        load(tmp_path, num_classes=10)
    with pytest.raises(UsageError, match="in_channels 3, expected 1"):
        load(tmp_path, in_channels=1)


def test_wrong_sources_name_the_nearest_right_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="resnet51 is no folder, no file and no network's name") as caught:
        load("resnet51")
    assert "resnet50" in str(caught.value.hint)
    with pytest.raises(UsageError, match="holds no model"):
        load(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(UsageError, match="an artifact"):
        load(tmp_path / "model.onnx")
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(ModelError, match=r"picture\.jpg cannot be read"):
        load(tmp_path / "picture.jpg")
