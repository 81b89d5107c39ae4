"""The proof: one file, reopened in new processes, everything measured."""

import numpy as np
import pytest
from small_models import small_model, small_spec

from resfit.engines.artifact import build, open_session
from resfit.errors import DataError, EngineError
from resfit.measure import proof as proving
from resfit.measure.proof import prove
from resfit.metrics.classification import accuracy
from resfit.storage import sha256_file


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    return build(small_model(small_spec()), tmp_path_factory.mktemp("proof") / "small.onnx").path


def labelled_images(count):
    generator = np.random.default_rng(3)
    return generator.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8), generator.integers(0, 3, count)


def test_a_proof_is_of_the_file_itself(onnx_file):
    images, labels = labelled_images(150)
    proof = prove(onnx_file, images, labels, threads=1)
    session = open_session(onnx_file, threads=1)
    np.testing.assert_allclose(proof.logits, session.run(images), atol=1e-5)
    assert proof.measurement.accuracy == accuracy(proof.logits, labels)
    assert proof.sha256 == sha256_file(onnx_file)
    assert proof.measurement.file_bytes == onnx_file.stat().st_size
    assert proof.measurement.latency_ms > 0
    assert "150 images" in proof.measurement.basis["accuracy"]


def test_the_images_are_not_in_the_memory_that_is_proven(onnx_file):
    images, labels = labelled_images(150)
    many = np.tile(images, (300, 1, 1, 1))
    proof = prove(onnx_file, many, np.tile(labels, 300), threads=1, quantities=("memory_bytes",))
    assert 0 < proof.measurement.memory_bytes < many.nbytes
    assert proof.measurement.latency_ms is None
    assert len(proof.logits) == 45_000


def test_a_file_that_changes_between_the_processes_proves_nothing(tmp_path, onnx_file, monkeypatch):
    path = tmp_path / "small.onnx"
    path.write_bytes(onnx_file.read_bytes())
    real = proving.run_child

    def replaced_afterwards(request):
        report = real(request)
        build(small_model(small_spec(), seed=1), path)
        return report

    monkeypatch.setattr(proving, "run_child", replaced_afterwards)
    with pytest.raises(EngineError, match="changed while it was measured"):
        prove(path, *labelled_images(5), threads=1)


@pytest.mark.parametrize(("images", "labels"), [(0, 0), (5, 4)])
def test_nothing_is_proven_without_a_label_for_each_image(onnx_file, images, labels):
    with pytest.raises(DataError, match="as many labels as images"):
        prove(onnx_file, labelled_images(images)[0], labelled_images(labels)[1])
