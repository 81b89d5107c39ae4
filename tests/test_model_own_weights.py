"""Safetensors files of ours are read back as they were written, with the network and labels they name."""

import json

import pytest
import safetensors.torch
import torch
from random_models import TINY, random_images, random_model

from resfit.engines.artifact import build
from resfit.engines.compare import compare
from resfit.engines.torch import model_session
from resfit.engines.weights import write_weights
from resfit.errors import ModelError
from resfit.model.load import load
from resfit.model.model import weights_sha256
from resfit.model.own_weights import load_own_weights
from resfit.model.state import DESCRIPTION


@pytest.fixture
def model():
    return random_model(trained=True)


@pytest.fixture
def path(model, tmp_path):
    path = tmp_path / "m.safetensors"
    write_weights(model, path, format="safetensors")
    return path


def rewrite(path, **changes):
    """The file anew, with entries of its description changed."""
    with safetensors.safe_open(path, framework="pt") as file:
        strings = json.loads(file.metadata()[DESCRIPTION]) | changes
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, {DESCRIPTION: json.dumps(strings)})


def test_nothing_is_guessed(model, path):
    found = load(path)
    assert (found.spec, found.labels, found.preprocessing) == (model.spec, model.labels, model.preprocessing)
    assert weights_sha256(found) == weights_sha256(model)
    assert found.provenance.trained
    assert found.provenance.notes == ()
    assert load(path, labels=tuple("abcde"), img_size=20).preprocessing.height == 20


def test_a_torch_artifact_is_a_model_too(model, tmp_path):
    built = build(model, tmp_path / "a.safetensors", format="torch")
    found = load(built.path)
    assert found.spec.norm == "none"
    images = random_images(model, 3)
    sessions = [model_session(item, threads=1) for item in (found, model)]
    assert compare(*sessions, images)["max_abs_difference"] < 1e-4


def test_files_of_others_are_left_to_others(model, tmp_path):
    safetensors.torch.save_file(dict(model.weights), tmp_path / "m.safetensors")
    torch.save(dict(model.weights), tmp_path / "m.pth")
    (tmp_path / "n.safetensors").write_bytes(b"none")
    for name in ("m.safetensors", "m.pth", "n.safetensors"):
        assert load_own_weights(tmp_path / name) is None
    assert load(tmp_path / "m.safetensors").labels == tuple("01234")


@pytest.mark.parametrize(
    "damage",
    [
        {"spec": "{}"},
        {"spec": json.dumps(TINY.to_dict() | {"widths": [8, 8]})},
        {"labels": "3"},
        {"labels": '["one"]'},
        {"preprocessing": '{"height": 4}'},
        {"trained": "["},
    ],
)
def test_a_damaged_description_is_named(damage, path):
    rewrite(path, **damage)
    with pytest.raises(ModelError, match=r"m\.safetensors"):
        load(path)


def test_numbers_that_are_not_finite_are_named(path):
    tensors = safetensors.torch.load_file(path)
    tensors["fc.bias"][0] = float("nan")
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(ModelError, match=r"m\.safetensors holds values that are not finite in fc\.bias"):
        load(path)
