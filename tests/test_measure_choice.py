"""The engine that is fastest here: measured once, kept with the machine, asked for by name or by default."""

import json

import numpy as np
import pytest
from random_models import random_images, random_model

from resfit.compression.quantise import quantise
from resfit.engines.artifact import build, engines_for
from resfit.engines.torch import model_session
from resfit.errors import EngineError
from resfit.measure import choice as room
from resfit.measure.choice import choose_engine, kept_choice, open_chosen
from resfit.measure.request import Report


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "resfit" / "engines.json"


@pytest.fixture
def artifact(tmp_path):
    return build(random_model(), tmp_path / "m.onnx").path


def measuring(monkeypatch, latencies):
    """Replaces the measuring process by figures by engine (an error is raised); the list of what was measured."""
    asked = []

    def run_child(request):
        asked.append(request)
        found = latencies[request.engine]
        if isinstance(found, Exception):
            raise found
        milliseconds = found.pop(0) if isinstance(found, list) else found
        return Report(
            sha256_before="", sha256_after="", file_bytes=1, engine=request.engine, threads=1,
            latencies_ms=(milliseconds,),
        )  # fmt: skip

    monkeypatch.setattr(room, "run_child", run_child)
    return asked


def test_a_real_choice_is_the_fastest_and_is_kept(artifact, cache, capsys):
    model = random_model()
    images = random_images(model, 1)
    assert open_chosen(artifact, threads=1)[1] is None
    session, reason = open_chosen(artifact, engine="auto", threads=1)
    assert "measuring m.onnx in onnxruntime, openvino" in capsys.readouterr().err
    row = json.loads(cache.read_text())[0]
    assert set(row["latencies_ms"]) == set(engines_for(artifact))
    assert session.engine == min(row["latencies_ms"], key=row["latencies_ms"].get)
    assert reason.startswith(f"{session.engine}: ")
    assert " ms for an image with 1 thread against " in reason
    np.testing.assert_allclose(session.run(images), model_session(model).run(images), atol=1e-4)
    assert open_chosen(artifact, engine="auto", threads=1)[1] == reason
    assert open_chosen(artifact, threads=1)[1] == reason
    assert capsys.readouterr().err == ""


def test_the_lower_of_two_rounds_counts_and_they_are_turn_about(artifact, monkeypatch):
    asked = measuring(monkeypatch, {"onnxruntime": [9.0, 2.0], "openvino": [3.0, 5.0]})
    chosen = choose_engine(artifact, threads=1, batch_size=4)
    assert [request.engine for request in asked] == ["onnxruntime", "openvino"] * 2
    assert {request.batch_size for request in asked} == {4}
    assert chosen.engine == "onnxruntime"
    assert chosen.latencies_ms == {"onnxruntime": 2.0, "openvino": 3.0}
    assert "2 ms for 4 images with 1 thread against 3 ms (openvino)" in chosen.reason


@pytest.mark.parametrize("other", [{"threads": 2}, {"batch_size": 2}, {"precision": "fp32"}])
def test_other_settings_are_another_choice(artifact, monkeypatch, other):
    measuring(monkeypatch, {"onnxruntime": 2.0, "openvino": 1.0})
    asked = {"threads": 1, "batch_size": 1, "precision": None}
    chosen = choose_engine(artifact, **asked)
    assert kept_choice(artifact, **asked) == chosen
    assert kept_choice(artifact, **{**asked, **other}) is None


def test_another_file_and_another_machine_are_another_choice(artifact, monkeypatch, tmp_path):
    measuring(monkeypatch, {"onnxruntime": 2.0, "openvino": 1.0})
    chosen = choose_engine(artifact)
    changed = build(random_model(seed=1), tmp_path / "other.onnx").path
    assert kept_choice(changed) is None
    moved = artifact.rename(tmp_path / "moved.onnx")
    assert kept_choice(moved) == chosen
    monkeypatch.setattr(room, "machine", lambda: {"fingerprint": "another"})
    assert kept_choice(moved) is None


def test_an_engine_that_cannot_is_named_with_the_reason(artifact, monkeypatch):
    asked = measuring(monkeypatch, {"onnxruntime": 2.0, "openvino": EngineError("openvino is not installed")})
    chosen = choose_engine(artifact)
    assert [request.engine for request in asked] == ["onnxruntime", "openvino", "onnxruntime"]
    assert chosen.engine == "onnxruntime"
    assert "the only engine that ran it" in chosen.reason
    assert chosen.reason.endswith("openvino: openvino is not installed")


def test_where_none_can_the_error_names_all(artifact, monkeypatch, cache):
    measuring(monkeypatch, {"onnxruntime": EngineError("no bf16"), "openvino": EngineError("not here")})
    with pytest.raises(EngineError, match=r"no engine here runs .*m.onnx: onnxruntime: no bf16; openvino: not here"):
        choose_engine(artifact, precision="bf16")
    assert not cache.exists()


def test_bf16_is_chosen_among_the_engines_that_have_it(artifact):
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(EngineError, match="openvino has no bf16 on this machine"):
            choose_engine(artifact, threads=1, precision="bf16")
        return
    chosen = choose_engine(artifact, threads=1, precision="bf16")
    assert chosen.engine == "openvino"
    assert "onnxruntime has no bf16" in chosen.refused["onnxruntime"]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", "[1]", '[{"engine": "openvino"}]', "null", "\x00"],
)
def test_a_damaged_file_of_choices_counts_as_none(artifact, monkeypatch, cache, content):
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    assert kept_choice(artifact) is None
    measuring(monkeypatch, {"onnxruntime": 2.0, "openvino": 1.0})
    assert choose_engine(artifact).engine == "openvino"
    assert kept_choice(artifact).engine == "openvino"


@pytest.mark.parametrize(
    "spoiled",
    [
        {"engine": "gone"},
        {"latencies_ms": {}},
        {"latencies_ms": 3},
        {"refused": None},
        {"latencies_ms": {"openvino": "1"}},
    ],
)
def test_a_row_that_is_no_choice_is_passed_over(artifact, monkeypatch, cache, spoiled):
    measuring(monkeypatch, {"onnxruntime": 2.0, "openvino": 1.0})
    choose_engine(artifact)
    rows = json.loads(cache.read_text())
    cache.write_text(json.dumps([{**rows[0], **spoiled}]))
    assert kept_choice(artifact) is None


def test_the_file_of_choices_is_bounded(artifact, monkeypatch, cache):
    measuring(monkeypatch, {"onnxruntime": 2.0, "openvino": 1.0})
    monkeypatch.setattr(room, "KEPT_CHOICES", 3)
    for size in range(1, 6):
        choose_engine(artifact, batch_size=size)
    assert [row["batch_size"] for row in json.loads(cache.read_text())] == [3, 4, 5]


def test_a_cache_that_cannot_be_written_is_said_and_the_choice_stands(artifact, monkeypatch, cache, capsys):
    cache.parent.parent.write_text("a file in the folder's place")
    measuring(monkeypatch, {"onnxruntime": 2.0, "openvino": 1.0})
    assert choose_engine(artifact).engine == "openvino"
    assert f"the choice of an engine is not kept: {cache}" in capsys.readouterr().err


def test_an_engine_asked_for_by_name_is_used_whatever_is_kept(artifact, monkeypatch):
    measuring(monkeypatch, {"onnxruntime": 2.0, "openvino": 1.0})
    choose_engine(artifact, threads=1)
    session, reason = open_chosen(artifact, engine="onnxruntime", threads=1)
    assert (session.engine, reason) == ("onnxruntime", None)
    assert open_chosen(artifact, threads=1)[0].engine == "openvino"


def test_int8_artifacts_are_chosen_for_like_others(tmp_path, monkeypatch):
    model = random_model()
    artifact = build(quantise(model, random_images(model, 8)), tmp_path / "q.onnx", precision="int8").path
    measuring(monkeypatch, {"onnxruntime": 2.0, "openvino": 1.0})
    choose_engine(artifact, threads=1)
    session, _ = open_chosen(artifact, threads=1)
    assert (session.engine, session.precision) == ("openvino", "int8")
