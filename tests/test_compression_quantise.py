"""Quantisation: what it promises as a compressor, and what it does to published networks."""

import dataclasses

import numpy as np
import pytest
import torch
from random_models import TINY, random_images, random_model

from resfit.compression.quantise import calibrate, quantise, weight_encodings
from resfit.compression.weight_grids import dequantised
from resfit.engines.artifact import build, open_session
from resfit.engines.quantisation import activation_grid, quantised_tensors
from resfit.engines.torch import model_session
from resfit.errors import UsageError
from resfit.model.fold import fold
from resfit.model.model import weights_sha256
from resfit.nn.plan import plan, walk


@pytest.fixture(scope="module")
def model():
    return random_model(trained=True)


@pytest.fixture(scope="module")
def images(model):
    return random_images(model, 64)


def test_the_input_is_unchanged_and_the_result_repeats(model, images):
    before, pixels = weights_sha256(model), images.copy()
    first, second = quantise(model, images, seed=3), quantise(model, images, seed=3)
    assert weights_sha256(model) == before
    assert np.array_equal(images, pixels)
    assert weights_sha256(first) == weights_sha256(second)
    assert first.activation_ranges == second.activation_ranges
    assert not model.encodings
    assert not model.activation_ranges


def test_quantising_twice_is_quantising_once(model, images):
    once = quantise(model, images)
    twice = quantise(once, images)
    assert weights_sha256(once) == weights_sha256(twice)


def test_every_layer_and_tensor_is_covered(model, images):
    quantised = quantise(model, images)
    names = [f"{name}.weight" for name, _ in walk(plan(quantised.spec))]
    expected = [name for name in names if name in quantised.weights]
    assert list(quantised.encodings) == expected
    assert set(quantised.activation_ranges) == set(quantised_tensors(quantised.spec))
    assert quantised.spec.norm == "none"


def test_weights_lie_on_their_grid_within_half_a_step(model):
    folded = fold(model)
    for name, encoding in weight_encodings(folded).items():
        weight = folded.weights[name]
        steps = encoding.scales.reshape(-1, *[1] * (weight.ndim - 1))
        rounded = dequantised(weight, encoding)
        integers = rounded.numpy() / steps
        np.testing.assert_allclose(integers, np.rint(integers), atol=1e-3)
        assert np.abs(integers).max() <= 127.001
        assert np.all(np.abs(rounded.numpy() - weight.numpy()) <= steps * 0.5001)


def test_an_empty_channel_and_an_empty_layer_stay_empty(model):
    folded = fold(model)
    weight = folded.weights["conv1.weight"].clone()
    weight[3] = 0
    zeros = torch.zeros_like(folded.weights["fc.weight"])
    emptied = dataclasses.replace(folded, weights={**folded.weights, "conv1.weight": weight, "fc.weight": zeros})
    encodings = weight_encodings(emptied)
    assert dequantised(weight, encodings["conv1.weight"])[3].abs().max() == 0
    assert dequantised(zeros, encodings["fc.weight"]).abs().max() == 0


def test_ranges_are_those_of_the_modules(model, images):
    folded = fold(model)
    ranges, logits = calibrate(folded, images)
    outputs = {}
    network = folded.module()
    for name in ("layer1.0.act1", "layer2.0", "layer2.0.conv2"):
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.update({name: output.clone()})
        )
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (model.preprocessing.mean, model.preprocessing.std))
    x = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        torch.testing.assert_close(network(x), logits, atol=1e-4, rtol=1e-4)
    for name, output in {**outputs, "input": x}.items():
        assert ranges[name].low == pytest.approx(float(output.min()), abs=1e-5)
        assert ranges[name].high == pytest.approx(float(output.max()), rel=1e-5)
    assert ranges["layer1.0.act1"].low == 0


@pytest.mark.parametrize(("low", "high", "zero_point"), [(0, 4, 0), (1, 4, 0), (-3, -1, 255), (-1, 1, 128), (0, 0, 0)])
def test_grids_cover_the_range_and_hold_zero(low, high, zero_point):
    grid = activation_grid(low, high)
    assert grid.zero_point == zero_point
    assert grid.scale > 0
    assert grid.scale * (255 - grid.zero_point) >= max(high, 0) - grid.scale
    assert -grid.scale * grid.zero_point <= min(low, 0) + grid.scale


def test_wrong_images_are_refused(model):
    for wrong in (
        np.zeros((2, 3, 16, 16), np.uint8),
        np.zeros((0, 16, 16, 3), np.uint8),
        np.zeros((2, 16, 16, 3)),
    ):
        with pytest.raises(UsageError, match=r"expected uint8 of shape \(at least 1, 16, 16, 3\)"):
            quantise(model, wrong)


def test_an_agreement_that_is_no_fraction_is_refused(model, images):
    with pytest.raises(UsageError, match="min_agreement is 95, expected a fraction"):
        quantise(model, images, min_agreement=95)


def spoiled(model):
    """The same function with one tensor whose range is a thousand times what most of its channels use."""
    folded = fold(model)
    weights = dict(folded.weights)
    name = "layer1.0"
    scale = torch.ones(16)
    scale[0] = 3000.0
    weights[f"{name}.conv1.weight"] = weights[f"{name}.conv1.weight"] * scale.reshape(-1, 1, 1, 1)
    weights[f"{name}.conv1.bias"] = weights[f"{name}.conv1.bias"] * scale
    weights[f"{name}.conv2.weight"] = weights[f"{name}.conv2.weight"] / scale.reshape(1, -1, 1, 1)
    return dataclasses.replace(folded, weights=weights)


def test_what_breaks_in_int8_stays_float(tmp_path):
    model = spoiled(random_model(dataclasses.replace(TINY, shortcut="none"), trained=True))
    images = random_images(model, 64)
    expected = model_session(model).run(images).argmax(1)
    untrained = dataclasses.replace(model.provenance, trained=False)
    everything = quantise(dataclasses.replace(model, provenance=untrained), images)
    guarded = quantise(model, images)

    def agreement(candidate, name):
        session = open_session(build(candidate, tmp_path / name, precision="int8"), threads=1)
        return float((session.run(images).argmax(1) == expected).mean())

    assert agreement(everything, "a.onnx") < 0.9
    assert agreement(guarded, "b.onnx") >= 0.95
    lenient = quantise(model, images, min_agreement=0)
    assert lenient.activation_ranges == everything.activation_ranges
    assert not lenient.provenance.notes
    artifact = build(guarded, tmp_path / "c.onnx", precision="int8")
    assert artifact.float_layers == ("layer1.0.conv2",)  # it reads what stays float
    assert "layer1.0.act1" not in guarded.activation_ranges
    assert "layer1.0.act1" in guarded.provenance.notes[-1]
    assert "layer2.0.conv1.weight" in guarded.encodings
