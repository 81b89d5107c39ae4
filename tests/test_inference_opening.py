"""Whatever names a model, opened as a session."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from small_models import small_model, small_spec

from resfit.engines.artifact import build
from resfit.errors import ModelError, UsageError
from resfit.inference.opening import artifact_of, session_for, session_of
from resfit.model.run_folder import save

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return small_model(small_spec())


@pytest.fixture
def fit_folder(tmp_path, model):
    folder = tmp_path / "fit"
    build(model, folder / "model.onnx")
    (folder / "fit.json").write_text(json.dumps({"artifact": {"path": "elsewhere/model.onnx"}}))
    return folder


def test_a_run_folder_an_artifact_and_a_fit_folder_give_one_answer(tmp_path, model, fit_folder):
    save(model, tmp_path / "run")
    torch_file = build(model, tmp_path / "small.safetensors", format="torch").path
    answers = []
    for source in (tmp_path / "run", fit_folder / "model.onnx", fit_folder, torch_file):
        with session_for(source, threads=1) as opened:
            answers.append(opened.session.run(IMAGES))
            assert opened.trained
            assert opened.session.threads == 1
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-4)


def test_the_engine_is_the_one_asked_for(model):
    for engine in ("onnxruntime", "torch"):
        with session_of(model, engine=engine) as session:
            assert session.engine == engine
    with pytest.raises(UsageError, match="there is no engine 'onyx'"), session_of(model, engine="onyx"):
        pass


def test_a_networks_name_is_untrained():
    with session_for("resnet8") as opened:
        assert not opened.trained
        assert "untrained" in opened.notes[0]
        assert opened.session.engine == "onnxruntime"


def test_what_is_given_replaces_what_a_model_carries(tmp_path, model):
    save(model, tmp_path / "run")
    with session_for(tmp_path / "run", img_size=24, labels=("a", "b", "c")) as opened:
        assert (opened.session.preprocessing.height, opened.session.labels) == (24, ("a", "b", "c"))


def test_an_artifact_cannot_be_changed(fit_folder):
    changed = session_for(fit_folder, img_size=24, labels=("a", "b", "c"))
    with pytest.raises(UsageError, match="what --img-size, --labels would change"), changed:
        pass


def test_weights_that_only_end_like_an_artifact_are_not_taken_for_one(tmp_path, model):
    save(model, tmp_path / "run")
    assert artifact_of(tmp_path / "run" / "model.safetensors") is None
    assert artifact_of(tmp_path / "run") is None
    assert artifact_of("resnet8") is None


@pytest.mark.parametrize("content", ["{}", "not json", '{"artifact": {"path": "gone.onnx"}}'])
def test_a_fit_folder_without_its_artifact_is_a_model_error_that_names_it(tmp_path, content):
    (tmp_path / "fit.json").write_text(content)
    with pytest.raises(ModelError, match=r"fit\.json|gone\.onnx"):
        artifact_of(tmp_path)


def test_an_untrained_artifact_says_so(tmp_path, model):
    untrained = dataclasses.replace(model, provenance=dataclasses.replace(model.provenance, trained=False))
    path = build(untrained, tmp_path / "untrained.onnx").path
    with session_for(path) as opened:
        assert not opened.trained
        assert "untrained" in opened.notes[0]


def test_an_onnx_artifact_is_opened_without_torch(fit_folder):
    program = (
        "import sys; from resfit.inference.opening import session_for\n"
        "with session_for(sys.argv[1]) as opened: print(opened.session.engine)\n"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(fit_folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["onnxruntime", "False"]
