"""The ONNX graph against the module, feature by feature, in fp32 and int8."""

import dataclasses
import time
from collections import Counter
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from random_models import TINY, random_images, random_model

from resfit.compression.quantise import quantise
from resfit.engines.artifact import build, describe, open_session
from resfit.engines.compare import compare
from resfit.engines.torch import model_session
from resfit.errors import EngineError
from resfit.model.encoding import Grid
from resfit.nn.architectures import architecture
from resfit.nn.spec import ActivationKind

FEATURES = {
    "projection": {},
    "projection_always": {"shortcut": "projection_always"},
    "zero_pad": {"shortcut": "zero_pad"},
    "asymmetric_zero_pad": {"shortcut": "zero_pad", "shortcut_pads": ((0, 0), (3, 13))},
    "avgpool": {"shortcut": "avgpool"},
    "plain": {"shortcut": "none"},
    "pre": {"order": "pre"},
    "pre_zero_pad": {"order": "pre", "shortcut": "zero_pad"},
    "pre_avgpool": {"order": "pre", "shortcut": "avgpool"},
    "plain_pre": {"order": "pre", "shortcut": "none"},
    "no_activation_after_sum": {"order": "none"},
    "bottleneck": {"block": "bottleneck"},
    "bottleneck_stride_1x1": {"block": "bottleneck", "stride_in": "1x1"},
    "resnext": {"block": "bottleneck", "groups": 2, "mid_ratio": 2.0},
    "article": {"block": "article", "order": "none", "bias": True},
    "group_norm": {"norm": "group"},
    "group_norm_pre": {"norm": "group", "order": "pre"},
    "no_norm": {"norm": "none", "bias": True},
    "squeeze_excite": {"se_ratio": 0.25},
    "dropout_and_drop_path": {"order": "pre", "dropout": 0.3, "drop_path": 0.2},
    "stem_imagenet": {"stem": "imagenet"},
    "stem_deep": {"stem": "deep"},
    "stem_tiered": {"stem": "tiered"},
    "pruned": {"inner_widths": (((7,),), ((9,),))},
    "grey": {"in_channels": 1},
    **{f"activation_{kind}": {"activation": kind} for kind in get_args(ActivationKind)},
}


def spec_of(feature):
    return dataclasses.replace(TINY, **FEATURES[feature])


def optimised(path, tmp_path):
    """Operator counts of the graph that ONNX Runtime really runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)


@pytest.mark.parametrize("feature", FEATURES)
def test_fp32_gives_the_modules_logits(feature, tmp_path):
    model = random_model(spec_of(feature), side=17)  # an odd side, so that strides leave partial windows
    images = random_images(model, 3)
    artifact = build(model, tmp_path / "m.onnx")
    onnx.checker.check_model(onnx.load(artifact.path), full_check=True)
    logits = open_session(artifact, threads=1).run(images)
    np.testing.assert_allclose(logits, model_session(model).run(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("feature", FEATURES)
def test_int8_stays_close_and_is_really_int8(feature, tmp_path):
    model = random_model(spec_of(feature), side=17)
    images = random_images(model, 32)
    quantised = quantise(model, images)
    artifact = build(quantised, tmp_path / "m.onnx", precision="int8")
    onnx.checker.check_model(onnx.load(artifact.path), full_check=True)
    expected = model_session(model).run(images)
    logits = open_session(artifact, threads=1).run(images)
    error = np.sqrt(np.mean((logits - expected) ** 2)) / np.std(expected)
    assert error < 0.15
    layers = sum(name.endswith("conv1.weight") or ".weight" in name for name in quantised.encodings)
    assert artifact.converted_layers == layers == describe(artifact.path).converted_layers
    run = optimised(artifact.path, tmp_path)
    pads = 1 if "zero_pad" in feature else 0
    assert run["QLinearConv"] == layers - 1 + pads
    assert run["QGemm"] == 1


@pytest.mark.parametrize("feature", ["projection", "zero_pad", "avgpool", "bottleneck", "stem_imagenet"])
def test_relu_networks_run_in_int8_from_input_to_logits(feature, tmp_path):
    model = random_model(spec_of(feature))
    artifact = build(quantise(model, random_images(model, 8)), tmp_path / "m.onnx", precision="int8")
    run = optimised(artifact.path, tmp_path)
    assert run["QLinearAdd"] == 2
    assert run["QLinearGlobalAveragePool"] == 1
    assert run["QuantizeLinear"] == 1
    assert run["DequantizeLinear"] == 0
    assert not {"Conv", "Gemm", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool"} & set(run)


def test_sums_are_fused_into_convolutions_in_fp32(tmp_path):
    run = optimised(build(random_model(spec_of("zero_pad")), tmp_path / "m.onnx").path, tmp_path)
    assert run["Add"] == 1  # the normalisation's
    assert not {"Relu", "Pad", "Slice", "BatchNormalization"} & set(run)


def test_int8_without_calibration_is_refused(tmp_path):
    with pytest.raises(EngineError, match="int8 needs calibration images: pass --data"):
        build(random_model(), tmp_path / "m.onnx", precision="int8")
    assert not (tmp_path / "m.onnx").exists()


def test_int8_that_converts_nothing_is_refused(tmp_path):
    model = random_model()
    quantised = dataclasses.replace(quantise(model, random_images(model, 4)), encodings={})
    with pytest.raises(EngineError, match="no convolution and no classifier could be stored in int8"):
        build(quantised, tmp_path / "m.onnx", precision="int8")


def test_layers_without_encoding_stay_float(tmp_path):
    model = random_model()
    images = random_images(model, 16)
    quantised = quantise(model, images)
    encodings = {name: value for name, value in quantised.encodings.items() if name != "conv1.weight"}
    mixed = dataclasses.replace(quantised, encodings=encodings)
    artifact = build(mixed, tmp_path / "m.onnx", precision="int8")
    assert artifact.converted_layers == len(encodings)
    assert optimised(artifact.path, tmp_path)["Conv"] == 1
    ranges = {k: v for k, v in quantised.activation_ranges.items() if k not in ("layer1.0", "avgpool")}
    mixed = dataclasses.replace(quantised, activation_ranges=ranges)
    artifact = build(mixed, tmp_path / "n.onnx", precision="int8")
    assert artifact.converted_layers == len(quantised.encodings) - 3  # two readers of layer1.0, and fc
    found = compare(open_session(artifact, threads=1), model_session(model), images)
    assert found["max_abs_difference"] < 0.2 * np.std(model_session(model).run(images))


def test_a_quantised_model_still_exports_in_fp32_with_its_rounded_weights(tmp_path):
    model = random_model()
    images = random_images(model, 8)
    quantised = quantise(model, images)
    session = open_session(build(quantised, tmp_path / "m.onnx"), threads=1)
    assert compare(session, model_session(quantised), images)["max_abs_difference"] < 1e-4


def test_encodings_that_int8_cannot_hold_are_refused(tmp_path):
    model = random_model()
    quantised = quantise(model, random_images(model, 4))
    wide = Grid(bits=12, axis=0, scales=quantised.encodings["fc.weight"].scales)
    model = dataclasses.replace(quantised, encodings={**quantised.encodings, "fc.weight": wide})
    with pytest.raises(EngineError, match=r"fc.weight is encoded in 12 bits"):
        build(model, tmp_path / "m.onnx", precision="int8")


def test_a_bias_beyond_32_bits_keeps_its_layer_float(tmp_path):
    model = random_model()
    images = random_images(model, 8)
    quantised = quantise(model, images)
    name = "layer1.0.conv1"
    fine = Grid(bits=8, axis=0, scales=np.full(16, 1e-12))
    weights = {**quantised.weights, f"{name}.weight": quantised.weights[f"{name}.weight"] * 0}
    model = dataclasses.replace(quantised, weights=weights, encodings={**quantised.encodings, f"{name}.weight": fine})
    artifact = build(model, tmp_path / "m.onnx", precision="int8")
    assert artifact.converted_layers == len(quantised.encodings) - 1
    found = compare(open_session(artifact, threads=1), model_session(model), images)
    assert found["max_abs_difference"] < 0.2 * np.std(model_session(model).run(images))


def test_bytes_are_close_to_the_parameters(tmp_path):
    model = random_model(dataclasses.replace(architecture("resnet20"), num_classes=10), side=32)
    parameters = sum(weight.numel() for name, weight in model.weights.items() if not name.endswith(("var", "mean")))
    fp32 = build(model, tmp_path / "fp32.onnx")
    int8 = build(quantise(model, random_images(model, 4)), tmp_path / "int8.onnx", precision="int8")
    assert fp32.file_bytes == fp32.path.stat().st_size
    assert fp32.file_bytes < 4 * parameters + 20_000
    assert int8.file_bytes < parameters + 20_000


def test_a_very_deep_network_is_written_in_seconds(tmp_path):
    model = random_model(architecture("resnet1202"), side=32)
    start = time.process_time()
    artifact = build(model, tmp_path / "m.onnx")
    assert time.process_time() - start < 20
    assert sum(node.op_type == "Conv" for node in onnx.load(artifact.path).graph.node) == 1201 + 2


def test_a_deep_network_keeps_its_logits(tmp_path):
    model = random_model(architecture("resnet110"), side=32)
    images = random_images(model, 2)
    expected = model_session(model).run(images)
    logits = open_session(build(model, tmp_path / "m.onnx"), threads=1).run(images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("file", "accuracy"), [("resnet20-12fca82f.th", 0.9173)])
def test_published_weights_keep_their_answers_in_int8(shared, tmp_path, file, accuracy):
    pytest.importorskip("pyarrow", reason="reading parquet needs pyarrow")
    from resfit.data.sources import open_data
    from resfit.model.foreign import load_checkpoint

    model = load_checkpoint(shared / "weights" / file)
    splits = open_data(shared / "cifar10", roles=("validation", "test"))
    quantised = quantise(model, splits.validation.images)
    artifact = build(quantised, tmp_path / "m.onnx", precision="int8")
    assert artifact.converted_layers == 20
    images, targets = splits.test.images[:1000], splits.test.targets[:1000]
    session = open_session(artifact, threads=2)
    assert compare(session, model_session(model, threads=2), images)["top1_agreement"] >= 0.97
    assert abs(np.mean(session.run(images).argmax(1) == targets) - accuracy) < 0.02
