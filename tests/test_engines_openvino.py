"""OpenVINO on resfit's graphs: the module's logits in fp32, the QDQ graph run in int8 from end to end."""

import dataclasses
from collections import Counter

import numpy as np
import openvino
import pytest
from random_models import TINY, random_images, random_model

from resfit.compression.quantise import quantise
from resfit.engines.artifact import build, describe, open_session
from resfit.engines.torch import model_session
from resfit.errors import EngineError

FEATURES = {
    "projection": {},
    "zero_pad": {"shortcut": "zero_pad"},
    "avgpool": {"shortcut": "avgpool"},
    "pre": {"order": "pre"},
    "resnext": {"block": "bottleneck", "groups": 2, "mid_ratio": 2.0},
    "article": {"block": "article", "order": "none", "bias": True},
    "group_norm": {"norm": "group"},
    "squeeze_excite": {"se_ratio": 0.25},
    "stem_imagenet": {"stem": "imagenet"},
    "grey": {"in_channels": 1},
    "silu": {"activation": "silu"},
    "prelu": {"activation": "prelu"},
}


def feature_model(feature, *, side=17):
    return random_model(dataclasses.replace(TINY, **FEATURES[feature]), side=side)


def executed(session):
    """Counts of (layer type, precision) of the network that the session really runs on single images."""
    graph = session._single.get_compiled_model().get_runtime_model()
    told = [node.get_rt_info() for node in graph.get_ops()]
    return Counter((info["layerType"].value, info["runtimePrecision"].value) for info in told)


def relative_error(logits, expected):
    return np.sqrt(np.mean((logits - expected) ** 2)) / np.std(expected)


@pytest.mark.parametrize("feature", FEATURES)
def test_it_gives_the_modules_logits_and_onnx_runtimes_in_int8(feature, tmp_path):
    model = feature_model(feature)
    images = random_images(model, 16)
    expected = model_session(model).run(images)
    fp32 = open_session(build(model, tmp_path / "m.onnx"), engine="openvino", threads=1)
    np.testing.assert_allclose(fp32.run(images), expected, atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(fp32.run(images[:1]), expected[:1], atol=1e-3, rtol=1e-3)
    artifact = build(quantise(model, images), tmp_path / "q.onnx", precision="int8")
    int8 = open_session(artifact, engine="openvino", threads=1)
    logits = int8.run(images)
    assert relative_error(logits, expected) < 0.15
    assert relative_error(logits, open_session(artifact, engine="onnxruntime", threads=1).run(images)) < 0.1
    np.testing.assert_allclose(int8.run(images[:1]), logits[:1], atol=1e-3 * np.abs(logits).max())


@pytest.mark.parametrize("feature", ["projection", "zero_pad", "avgpool", "stem_imagenet"])
def test_relu_networks_run_in_int8_from_input_to_logits(feature, tmp_path):
    model = feature_model(feature, side=16)
    artifact = build(quantise(model, random_images(model, 8)), tmp_path / "q.onnx", precision="int8")
    run = executed(open_session(artifact, engine="openvino", threads=1))
    floats = {kind for kind, precision in run if precision == "f32" and kind not in ("Const", "Reshape", "Output")}
    assert floats == ({"Pooling", "Subgraph"} if feature == "avgpool" else set())  # it averages in float
    pads = 1 if feature == "zero_pad" else 0
    assert run["Convolution", "u8"] == artifact.converted_layers - 1 + pads
    assert run["FullyConnected", "u8"] == 1


def test_fp32_is_not_bf16_on_a_machine_that_has_it(tmp_path):
    artifact = build(feature_model("projection"), tmp_path / "m.onnx")
    run = executed(open_session(artifact, engine="openvino", threads=1))
    assert {precision for kind, precision in run if kind == "Convolution"} == {"f32"}
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(EngineError, match="openvino has no bf16 on this machine"):
            open_session(artifact, engine="openvino", threads=1, precision="bf16")
        return
    run = executed(open_session(artifact, engine="openvino", threads=1, precision="bf16"))
    assert {precision for kind, precision in run if kind == "Convolution"} == {"bf16"}


def test_graphs_that_take_normalised_input_and_give_probabilities_answer_the_same(tmp_path):
    model = feature_model("projection")
    images = random_images(model, 4)
    expected = model_session(model).run(images)
    beside = build(model, tmp_path / "m.xml", format="openvino", input="normalised", output="probabilities")
    session = open_session(beside)
    assert session.engine == "openvino"
    logits = session.run(images)
    np.testing.assert_allclose(logits - logits[:, :1], expected - expected[:, :1], atol=1e-3)


def test_a_damaged_weights_file_is_named(tmp_path):
    build(feature_model("projection"), tmp_path / "m.xml", format="openvino")
    weights = tmp_path / "m.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(EngineError, match=r"m\.bin"):
        open_session(tmp_path / "m.xml")
    weights.unlink()
    with pytest.raises(EngineError, match=r"m\.(bin|xml)"):
        open_session(tmp_path / "m.xml")


def test_metadata_is_the_files_own(tmp_path):
    artifact = build(feature_model("grey"), tmp_path / "m.onnx")
    assert open_session(artifact, engine="openvino", threads=1).metadata == describe(artifact.path)


def test_two_runtimes_answer_alike_on_published_weights_in_int8(shared, tmp_path):
    pytest.importorskip("pyarrow", reason="reading parquet needs pyarrow")
    from resfit.data.sources import open_data
    from resfit.engines.compare import compare
    from resfit.model.foreign import load_checkpoint

    model = load_checkpoint(shared / "weights" / "resnet20-12fca82f.th")
    splits = open_data(shared / "cifar10", roles=("validation", "test"))
    artifact = build(quantise(model, splits.validation.images), tmp_path / "q.onnx", precision="int8")
    images, targets = splits.test.images[:1000], splits.test.targets[:1000]
    sessions = [open_session(artifact, engine=name, threads=1) for name in ("onnxruntime", "openvino")]
    found = compare(*sessions, images)
    assert found["differing_answers"] <= 15
    right = [float((session.run(images).argmax(1) == targets).mean()) for session in sessions]
    assert abs(right[0] - right[1]) <= 0.005
