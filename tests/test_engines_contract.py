"""What every engine promises, run on every engine."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_models import TINY, random_images, random_model

from resfit.compression.quantise import quantise
from resfit.engines.artifact import ENGINES, PRECISIONS, build, describe, engines_for, open_session
from resfit.engines.compare import compare
from resfit.engines.torch import model_session
from resfit.errors import EngineError, MissingExtra, UsageError


def computes_bf16():
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags or " bf16" in flags


class SessionContract:
    engine: str
    format: str
    suffix = ""
    floats = ("fp32",)  # the precisions it computes a float32 artifact in, on a machine that has them all

    @pytest.fixture
    def model(self):
        return random_model()

    @pytest.fixture
    def artifact(self, model, tmp_path):
        return build(model, tmp_path / f"artifact{self.suffix}", format=self.format)

    @pytest.fixture
    def session(self, artifact):
        return open_session(artifact, engine=self.engine, threads=1)

    @pytest.mark.parametrize("count", [0, 1, 3, 70])
    def test_any_batch_size(self, session, model, count):
        images = random_images(model, count)
        logits = session.run(images)
        assert logits.dtype == np.float32
        assert logits.shape == (count, 5)
        if count:
            np.testing.assert_allclose(logits, model_session(model).run(images), atol=1e-4)

    def test_images_of_a_mapped_file(self, session, model, tmp_path):
        images = random_images(model, 3)
        np.save(tmp_path / "images.npy", images)
        mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
        np.testing.assert_array_equal(session.run(mapped), session.run(images))

    def test_an_image_has_the_same_logits_alone_and_in_a_batch(self, session, model):
        images = random_images(model, 4)
        alone = np.concatenate([session.run(images[i : i + 1]) for i in range(4)])
        np.testing.assert_allclose(session.run(images), alone, atol=1e-5)

    def test_images_need_not_be_contiguous(self, session, model):
        images = random_images(model, 4)
        np.testing.assert_allclose(session.run(images[::-2]), session.run(images)[::-2], atol=1e-5)

    @pytest.mark.parametrize(
        "images",
        [
            np.zeros((1, 16, 16, 3), np.float32),
            np.zeros((1, 3, 16, 16), np.uint8),
            np.zeros((16, 16, 3), np.uint8),
            np.zeros((1, 16, 17, 3), np.uint8),
        ],
    )
    def test_other_images_are_refused_with_the_expected_shape(self, session, images):
        with pytest.raises(EngineError, match=r"expected uint8 of shape \(N, 16, 16, 3\)"):
            session.run(images)

    @pytest.mark.parametrize("threads", [1, 2])
    def test_threads_are_as_asked(self, artifact, threads):
        assert open_session(artifact, engine=self.engine, threads=threads).threads == threads

    def test_no_threads_is_a_usage_error(self, artifact):
        with pytest.raises(UsageError, match="--threads is 0"):
            open_session(artifact, engine=self.engine, threads=0)

    def test_labels_and_preprocessing_travel(self, session, model):
        assert session.engine == self.engine
        assert session.labels == model.labels
        assert session.preprocessing == model.preprocessing

    def test_equal_models_give_equal_bytes(self, artifact, tmp_path):
        again = build(random_model(), tmp_path / f"again{self.suffix}", format=self.format)
        assert again.sha256 == artifact.sha256
        other = build(random_model(seed=1), tmp_path / f"other{self.suffix}", format=self.format)
        assert other.sha256 != artifact.sha256

    def test_description(self, artifact, model):
        found = describe(artifact.path)
        assert (found.labels, found.preprocessing) == (model.labels, model.preprocessing)
        assert (found.precision, found.converted_layers, found.trained) == ("fp32", 0, False)
        assert found.spec.widths == TINY.widths

    @pytest.mark.parametrize("keep", [0, 8, 9, 0.3, 0.9])
    def test_a_cut_file_is_named(self, artifact, keep):
        content = artifact.path.read_bytes()
        kept = keep if isinstance(keep, int) else int(len(content) * keep)
        artifact.path.write_bytes(content[:kept])
        for engine in (None, *engines_for(artifact.path)):
            with pytest.raises(EngineError, match=str(artifact.path)):
                open_session(artifact, engine=engine)
        with pytest.raises(EngineError, match=str(artifact.path)) as raised:
            describe(artifact.path)
        assert raised.value.hint

    def test_the_engine_opens_its_format(self, artifact):
        assert self.engine in engines_for(artifact.path)
        assert open_session(artifact.path).engine == engines_for(artifact.path)[0]

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_the_precision_is_as_asked_or_refused(self, artifact, model, precision):
        if precision not in self.floats or (precision == "bf16" and not computes_bf16()):
            with pytest.raises(EngineError, match=f"{self.engine} has no {precision} on this machine"):
                open_session(artifact, engine=self.engine, precision=precision)
            return
        opened = open_session(artifact, engine=self.engine, threads=1, precision=precision)
        assert opened.precision == precision
        images = random_images(model, 3)
        exact = model_session(model).run(images)
        error = np.abs(opened.run(images) - exact).max() / np.std(exact)
        assert error < (1e-3 if precision == "fp32" else 0.1)
        assert (error > 1e-3) == (precision == "bf16")

    def test_without_a_wish_it_is_that_of_the_file(self, session):
        assert session.precision == "fp32"

    def test_a_precision_that_the_file_does_not_hold_is_refused(self, artifact):
        with pytest.raises(EngineError, match="holds fp32 weights"):
            open_session(artifact, engine=self.engine, precision="int8")
        with pytest.raises(UsageError, match="no precision 'int-8'"):
            open_session(artifact, engine=self.engine, precision="int-8")


class TestOnnxRuntime(SessionContract):
    engine = "onnxruntime"
    format = "onnx"


class TestOpenVinoOnOnnx(SessionContract):
    engine = "openvino"
    format = "onnx"
    floats = ("fp32", "bf16")

    def test_more_threads_than_the_runtime_gives_are_refused(self, artifact):
        with pytest.raises(EngineError, match=r"openvino runs \d+ threads?, not the 999 asked for"):
            open_session(artifact, engine="openvino", threads=999)


class TestOpenVino(SessionContract):
    engine = "openvino"
    format = "openvino"
    suffix = ".xml"
    floats = ("fp32", "bf16")


class TestTorch(SessionContract):
    engine = "torch"
    format = "torch"
    floats = ("fp32", "bf16")

    def test_the_process_keeps_its_thread_count(self, session, model):
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            session.run(random_images(model, 1))
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)


def test_every_engine_is_under_contract():
    tested = {contract.engine for contract in SessionContract.__subclasses__()}
    assert tested | {"torch-compiled"} == set(ENGINES)  # which is tested below: compiling takes long
    paired = {(contract.engine, contract.format) for contract in SessionContract.__subclasses__()}
    assert {(name, format) for name, (_, formats) in ENGINES.items() for format in formats} == paired | {
        ("torch-compiled", "torch")
    }
    assert {format for _, formats in ENGINES.values() for format in formats} == set(PRECISIONS)


def test_the_compiled_network_answers_as_the_eager_one(tmp_path):
    model = random_model()
    artifact = build(model, tmp_path / "m.safetensors", format="torch")
    images = random_images(model, 5)
    session = open_session(artifact, engine="torch-compiled", threads=1)
    assert (session.engine, session.threads, session.precision) == ("torch-compiled", 1, "fp32")
    expected = model_session(model).run(images)
    np.testing.assert_allclose(session.run(images), expected, atol=1e-4)
    np.testing.assert_allclose(session.run(images[:1]), expected[:1], atol=1e-4)
    assert session.run(images[:0]).shape == (0, 5)


def test_without_a_compiler_the_compiled_engine_says_so(tmp_path):
    artifact = build(random_model(seed=7), tmp_path / "m.safetensors", format="torch")
    program = """if True:
        import sys
        from resfit.engines.artifact import open_session
        from resfit.errors import EngineError
        try:
            open_session(sys.argv[1], engine="torch-compiled", threads=1)
        except EngineError as error:
            print(error)
    """
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", program, artifact.path]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert "torch.compile cannot compile this network" in output
    assert "--engine torch" in output


def test_an_engine_that_cannot_open_the_format_says_which_can(tmp_path):
    artifact = build(random_model(), tmp_path / "m.safetensors", format="torch")
    with pytest.raises(EngineError, match="onnxruntime cannot open") as raised:
        open_session(artifact, engine="onnxruntime")
    assert raised.value.hint == "engines that open it: torch, torch-compiled"


def test_an_int8_file_runs_in_int8_alone(tmp_path):
    model = random_model()
    artifact = build(quantise(model, random_images(model, 8)), tmp_path / "m.onnx", precision="int8")
    for engine in engines_for(artifact.path):
        assert open_session(artifact, engine=engine, threads=1).precision == "int8"
        assert open_session(artifact, engine=engine, threads=1, precision="int8").precision == "int8"
        with pytest.raises(EngineError, match="it cannot run in bf16"):
            open_session(artifact, engine=engine, precision="bf16")


def test_an_engine_that_is_not_installed_names_its_extra(tmp_path, monkeypatch):
    artifact = build(random_model(), tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "resfit.engines.openvino", raising=False)
    with pytest.raises(MissingExtra, match="the engine openvino needs the package openvino") as raised:
        open_session(artifact, engine="openvino")
    assert "resfit[openvino]" in raised.value.hint


def test_unknown_names_get_the_nearest(tmp_path):
    artifact = build(random_model(), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="did you mean onnxruntime"):
        open_session(artifact, engine="onnx-runtime")
    with pytest.raises(UsageError, match="did you mean onnx"):
        build(random_model(), tmp_path / "m", format="onx")
    with pytest.raises(UsageError, match="did you mean int8"):
        build(random_model(), tmp_path / "m", precision="int-8")
    with pytest.raises(UsageError, match="torch format has no precision 'int8'"):
        build(random_model(), tmp_path / "m", format="torch", precision="int8")
    assert not (tmp_path / "m").exists()


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(EngineError, match="No such file"):
        open_session(tmp_path / "absent.onnx")
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [output])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opset), tmp_path / "foreign.onnx")
    with pytest.raises(EngineError, match=r"foreign.onnx carries no resfit metadata"):
        open_session(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_runtimes_need_neither_torch_nor_onnx(tmp_path, engine):
    model = random_model()
    artifact = build(model, tmp_path / "m.onnx")
    images = random_images(model, 2)
    np.save(tmp_path / "images.npy", images)
    program = """if True:
        import sys, numpy
        from resfit.engines.artifact import open_session
        logits = open_session(sys.argv[1], engine=sys.argv[4], threads=1).run(numpy.load(sys.argv[2]))
        numpy.save(sys.argv[3], logits)
        print([name for name in ("torch", "onnx", "safetensors") if name in sys.modules])
    """
    command = [sys.executable, "-c", program, artifact.path, tmp_path / "images.npy", tmp_path / "logits.npy", engine]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output.strip() == "[]"
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), model_session(model).run(images), atol=1e-4)


def test_compare_counts_answers_and_measures_logits():
    class Fixed:
        def __init__(self, logits):
            self.logits = np.array(logits, np.float32)

        def run(self, images):
            return self.logits[images]

    first, second = Fixed([[1, 0], [0, 1], [3, 1]]), Fixed([[1, 0], [2, 1], [3, 1.5]])
    found = compare(first, second, np.arange(3))
    assert found == {"top1_agreement": pytest.approx(2 / 3), "differing_answers": 1, "max_abs_difference": 2.0}
