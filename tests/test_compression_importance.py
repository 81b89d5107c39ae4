"""Importance: what each kind measures, and that pruning by it beats pruning by chance."""

import dataclasses

import numpy as np
import pytest
import torch
from small_models import small_model, small_spec

from resfit.compression.couplings import couplings
from resfit.compression.importance import importance
from resfit.errors import UsageError

SPEC = small_spec(activation="leaky_relu")  # no channel is without a slope
PICTURES = np.random.default_rng(0).integers(0, 256, (48, 16, 16, 3), dtype=np.uint8)


def _model(**weights):
    model = small_model(SPEC)
    return dataclasses.replace(model, weights={**model.weights, **weights})


def _channels(name, spec=SPEC):
    return list(next(coupling for coupling in couplings(spec) if coupling.name == name).channels)


@pytest.mark.parametrize("kind", ["taylor", "magnitude", "norm_scale"])
def test_what_does_nothing_is_worth_least(kind):
    model = small_model(SPEC)
    weights = {name: tensor.clone() for name, tensor in model.weights.items()}
    weights["layer2.1.conv2.weight"][:, 3] = 0
    weights["layer2.1.conv1.weight"][3] = 0
    weights["layer2.1.bn1.weight"][3] = 0
    scores = importance(_model(**weights), PICTURES, kind=kind)[_channels("layer2.1.conv1")]
    assert scores.argmin() == 3
    assert scores[3] == pytest.approx(0, abs=1e-12)
    assert (np.delete(scores, 3) > 0).all()


def test_the_estimate_follows_the_divergence_it_estimates():
    """Scaling a channel by a little less moves the answers by the score, to second order."""
    model = small_model(SPEC)
    scores = importance(model, PICTURES, kind="taylor", seed=0)
    numbers = _channels("layer2.1.conv1")
    step, measured = 0.05, []
    for place in range(len(numbers)):
        weight = model.weights["layer2.1.conv2.weight"].clone()
        weight[:, place] *= 1 - step
        measured.append(_divergence(model, _model(**{"layer2.1.conv2.weight": weight})) / step**2)
    assert np.corrcoef(np.log(measured), np.log(scores[numbers]))[0, 1] > 0.9
    assert 0.4 < np.sum(measured) / (0.5 * scores[numbers].sum()) < 2.5


@torch.no_grad()
def _divergence(model, changed):
    from resfit.training.step import InputLayer

    inputs = InputLayer(model.preprocessing, "contiguous")(PICTURES)
    before, after = (torch.log_softmax(item.module()(inputs).double() / 4, 1) for item in (model, changed))
    return float((before.exp() * (before - after)).sum(1).mean())


def test_magnitude_looks_at_writers_and_readers():
    plain = importance(small_model(SPEC), PICTURES, kind="magnitude")
    for name, place in (("layer2.1.conv1.weight", (5,)), ("layer2.1.conv2.weight", (slice(None), 5))):
        weight = small_model(SPEC).weights[name].clone()
        weight[place] *= 10
        scores = importance(_model(**{name: weight}), PICTURES, kind="magnitude")
        number = _channels("layer2.1.conv1")[5]
        assert scores[number] > 1.2 * plain[number], name


def test_a_grouped_convolution_s_inputs_are_scored_each_by_its_own_weights():
    spec = small_spec(block="bottleneck", widths=(16, 32), groups=2, mid_ratio=2.0)
    model = small_model(spec)
    weight = model.weights["layer1.0.conv2.weight"].clone()
    weight[4:, 1] = 0  # the second group's second input
    weights = {**model.weights, "layer1.0.conv2.weight": weight}
    first = weights["layer1.0.conv1.weight"].clone()
    first[5] = 0
    weights["layer1.0.conv1.weight"] = first
    scores = importance(dataclasses.replace(model, weights=weights), PICTURES, kind="magnitude")
    assert scores[_channels("layer1.0.conv1", spec)].argmin() == 5


def test_same_seed_same_scores_and_another_seed_others():
    model = small_model(SPEC)
    first = importance(model, PICTURES, seed=1)
    assert np.array_equal(first, importance(model, PICTURES, seed=1))
    assert not np.array_equal(first, importance(model, PICTURES, seed=2))


def test_what_cannot_be_scored_is_said():
    with pytest.raises(UsageError, match="no importance 'random'"):
        importance(small_model(SPEC), PICTURES, kind="random")
    with pytest.raises(UsageError, match=r"layer1.sum have no batch norm"):
        importance(small_model(small_spec(norm="none", bias=True)), PICTURES, kind="norm_scale")
