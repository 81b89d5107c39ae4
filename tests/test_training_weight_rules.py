"""What a training is held to: weights projected after each update, and others computed with in their place."""

import dataclasses
import math

import pytest
import torch
from small_trainings import RECIPE, SPEC

from resfit.data.sources import open_data
from resfit.model.model import weights_sha256
from resfit.nn.resnet import ResNet
from resfit.training.loop import train
from resfit.training.surroundings import Interrupted
from resfit.training.weight_rules import FREE, WeightRules

NAME = "layer2.0.conv1.weight"
SHORT = dataclasses.replace(RECIPE, epochs=2)
STEP = 1 / 16


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


def _mask(weights):
    weights[NAME][:, ::2] = 0


def _rounded(weights):
    weight = weights[NAME]
    nearest = torch.round(weight / STEP) * STEP
    return {NAME: weight + (nearest - weight).detach()}


@pytest.fixture(scope="module")
def free(digits):
    return train(SPEC, digits, SHORT)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_projected_weights_stay_projected_to_the_end(digits, ema_decay):
    recipe = dataclasses.replace(SHORT, ema_decay=ema_decay)
    initial = {name: tensor.clone() for name, tensor in ResNet(SPEC).state_dict().items()}
    result = train(SPEC, digits, recipe, init_weights=initial, rules=WeightRules(project=_mask))
    weight = result.model.weights[NAME]
    assert (weight[:, ::2] == 0).all()
    assert (weight[:, 1::2] != 0).all()


def test_the_published_weights_are_those_that_it_computed_with(digits, free):
    result = train(SPEC, digits, SHORT, rules=WeightRules(transform=_rounded))
    weight = result.model.weights[NAME]
    assert torch.equal(torch.round(weight / STEP) * STEP, weight)
    assert not torch.equal(torch.round(free.model.weights[NAME] / STEP) * STEP, free.model.weights[NAME])
    initial = train(
        SPEC, digits, dataclasses.replace(SHORT, epochs=None, steps=1), rules=WeightRules(transform=_rounded)
    )
    assert not torch.equal(weight, initial.model.weights[NAME])  # it learned all the same


def test_each_epoch_measures_what_would_be_published(digits):
    def silenced(weights):
        return {"fc.weight": 0 * weights["fc.weight"], "fc.bias": 0 * weights["fc.bias"]}

    result = train(SPEC, digits, SHORT, rules=WeightRules(transform=silenced))
    assert [row["validation_loss"] for row in result.history] == pytest.approx([math.log(10)] * 2)
    assert not result.model.weights["fc.weight"].any()


def test_a_training_without_rules_is_as_before(digits, free):
    assert weights_sha256(train(SPEC, digits, SHORT, rules=FREE).model) == weights_sha256(free.model)
    same = WeightRules(project=lambda _weights: None, transform=lambda _weights: {})
    assert weights_sha256(train(SPEC, digits, SHORT, rules=same).model) == weights_sha256(free.model)


@pytest.mark.parametrize("rules", [WeightRules(project=_mask), WeightRules(transform=_rounded)], ids=["mask", "round"])
def test_a_resume_with_the_same_rules_ends_as_without_a_stop(digits, tmp_path, rules):
    expected = train(SPEC, digits, SHORT, rules=rules)
    with pytest.raises(Interrupted):
        train(SPEC, digits, SHORT, folder=tmp_path, rules=rules, stop_after_step=27)
    result = train(SPEC, digits, folder=tmp_path, resume=True, rules=rules)
    assert weights_sha256(result.model) == weights_sha256(expected.model)
