"""The openvino format: a pair of files that know each other, the same graph as the ONNX one."""

import subprocess
import sys

import numpy as np
import pytest
from random_models import random_images, random_model

from resfit.compression.quantise import quantise
from resfit.engines import openvino_file
from resfit.engines.artifact import artifact_bytes, build, describe, file_format, open_session
from resfit.errors import EngineError, UsageError
from resfit.measure.artifact import measure

pytest.importorskip("openvino", reason="the openvino format needs openvino")


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture
def artifact(model, tmp_path):
    return build(model, tmp_path / "m.xml", format="openvino")


def test_both_files_count_and_equal_models_give_equal_bytes(model, artifact, tmp_path):
    weights = tmp_path / "m.bin"
    assert artifact.file_bytes == artifact.path.stat().st_size + weights.stat().st_size == artifact_bytes(artifact.path)
    assert file_format(artifact.path) == "openvino"
    again = build(model, tmp_path / "again.xml", format="openvino")
    assert again.sha256 == artifact.sha256
    assert (tmp_path / "again.bin").read_bytes() == weights.read_bytes()
    assert build(random_model(seed=1), tmp_path / "other.xml", format="openvino").sha256 != artifact.sha256


def test_a_measurement_counts_both_files(artifact):
    measured = measure(artifact.path, engine="openvino", threads=1, quantities=("file_bytes",))
    assert measured.file_bytes == artifact.file_bytes


def test_weights_keep_their_precision(model, artifact, tmp_path):
    floats = sum(tensor.numel() for tensor in model.weights.values() if tensor.ndim > 1)
    assert artifact.path.with_suffix(".bin").stat().st_size > 4 * floats
    quantised = quantise(model, random_images(model, 8))
    small = build(quantised, tmp_path / "q.xml", format="openvino", precision="int8")
    assert small.converted_layers == len(quantised.encodings) == describe(small.path).converted_layers
    assert floats < (tmp_path / "q.bin").stat().st_size < 1.5 * floats


def test_int8_answers_as_the_onnx_file_does(model, tmp_path):
    images = random_images(model, 32)
    quantised = quantise(model, images)
    files = {"onnx": tmp_path / "m.onnx", "openvino": tmp_path / "m.xml"}
    logits = [
        open_session(build(quantised, path, format=format, precision="int8"), engine="openvino", threads=1).run(images)
        for format, path in files.items()
    ]
    np.testing.assert_allclose(*logits, atol=1e-5)


def test_metadata_is_read_without_openvino_and_torch(model, artifact):
    program = """if True:
        import sys
        from resfit.engines.artifact import describe
        print(*describe(sys.argv[1]).labels, sep=",")
        print([name for name in ("torch", "onnx", "openvino") if name in sys.modules])
    """
    output = subprocess.run([sys.executable, "-c", program, artifact.path], check=True, capture_output=True, text=True)
    assert output.stdout.splitlines() == [",".join(model.labels), "[]"]


def test_weights_that_are_missing_or_of_another_model_are_named(artifact, tmp_path):
    weights = tmp_path / "m.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(EngineError, match=r"m\.bin does not hold the weights that .*m\.xml was written with"):
        describe(artifact.path)
    with pytest.raises(EngineError, match=r"m\.bin"):
        open_session(artifact)
    weights.unlink()
    with pytest.raises(EngineError, match=r"there is no .*m\.bin"):
        describe(artifact.path)


@pytest.mark.parametrize("content", [b"<?xml version='1.0'?><net>", b"<?xml version='1.0'?><net></net>"])
def test_a_graph_that_is_none_is_named(content, artifact):
    artifact.path.write_bytes(content)
    with pytest.raises(EngineError, match=r"m\.xml"):
        describe(artifact.path)


def test_a_graph_that_unfolds_into_gigabytes_is_refused(artifact):
    entities = "".join(f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' for level in range(1, 11))
    bomb = f'<?xml version="1.0"?><!DOCTYPE net [<!ENTITY e0 "many">{entities}]><net>&e10;</net>'
    artifact.path.write_text(bomb)
    with pytest.raises(EngineError, match=r"m\.xml is not a readable OpenVINO graph"):
        describe(artifact.path)


def test_a_graph_without_bounds_is_not_read(artifact, monkeypatch):
    monkeypatch.setattr(openvino_file, "GRAPH_LIMIT_BYTES", 1000)
    with pytest.raises(EngineError, match="larger than any network's graph"):
        describe(artifact.path)


def test_another_suffix_is_refused(model, tmp_path):
    with pytest.raises(UsageError, match="cannot hold an openvino graph") as raised:
        build(model, tmp_path / "m.onnx", format="openvino")
    assert "m.xml" in (raised.value.hint or "")
    assert not list(tmp_path.iterdir())
