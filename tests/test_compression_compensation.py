"""Channels removed and made good: exact where the others know what is lost, nearer than mere removal everywhere."""

import dataclasses

import numpy as np
import pytest
import torch
from random_models import random_images, random_model
from test_compression_prune import KINDS, WIDE

from resfit.compression.compensation import remove_compensated, with_own_statistics
from resfit.compression.couplings import couplings
from resfit.compression.removal import remove
from resfit.compression.side_by_side import normalised
from resfit.errors import UsageError
from resfit.model.model import weights_sha256

IMAGES = random_images(random_model(WIDE), 64)


def _answers(model, images=IMAGES):
    with torch.inference_mode():
        return torch.cat([model.module()(batch) for batch in normalised(model, images)])


def _distance(model, original):
    return float((_answers(model) - _answers(original)).square().mean())


def _a_quarter_of_each_block(spec):
    removed = {}
    for coupling in couplings(spec):
        if coupling.block is not None:
            runs = np.array(coupling.channels).reshape(coupling.runs, -1)
            removed[coupling.name] = [int(number) for number in runs[:, : -(-runs.shape[1] // 4)].flatten()]
    return removed


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_nearer_than_after_mere_removal(kind):
    model = random_model(KINDS[kind], trained=True)
    removed = _a_quarter_of_each_block(model.spec)
    plain, fitted = remove(model, removed), remove_compensated(model, removed, IMAGES)
    assert fitted.spec == plain.spec
    assert {name: tensor.shape for name, tensor in fitted.weights.items()} == {
        name: tensor.shape for name, tensor in plain.weights.items()
    }
    assert _distance(fitted, model) < 0.7 * _distance(plain, model)


def test_what_another_channel_says_too_is_not_lost():
    model = random_model(WIDE, trained=True)
    weights = {name: tensor.clone() for name, tensor in model.weights.items()}
    inside = {coupling.name: coupling for coupling in couplings(WIDE) if coupling.block is not None}
    removed = {}
    for name, coupling in inside.items():
        norm = name.replace("conv", "bn")
        half = len(coupling.channels) // 2
        for key in (
            f"{name}.weight",
            *(f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")),
        ):
            weights[key][half:] = weights[key][:half]
        removed[name] = list(coupling.channels[half:])
    twice = dataclasses.replace(model, weights=weights)
    assert _distance(remove_compensated(twice, removed, IMAGES), twice) < 1e-3 * _distance(
        remove(twice, removed), twice
    )


def test_the_next_block_makes_good_what_a_removed_one_gave():
    model = random_model(dataclasses.replace(WIDE, depths=(3, 2)), trained=True)
    block = next(coupling for coupling in couplings(model.spec) if coupling.block == (0, 1))
    removed = {block.name: list(block.channels)}
    fitted = remove_compensated(model, removed, IMAGES)
    assert fitted.spec.depths == (2, 2)
    assert _distance(fitted, model) < 0.5 * _distance(remove(model, removed), model)


def test_with_nothing_removed_answers_stay():
    model = random_model(WIDE, trained=True)
    torch.testing.assert_close(_answers(remove_compensated(model, {}, IMAGES)), _answers(model), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("count", [4, 32])
@pytest.mark.parametrize("norm", ["layer1.0.bn1", "layer2.0.bn2", "layer2.0.downsample.1"])
def test_a_norm_that_hides_its_channels_stays_finite(norm, count):
    model = random_model(WIDE, trained=True)
    weights = {name: tensor.clone() for name, tensor in model.weights.items()}
    weights[f"{norm}.weight"][:count] = 0
    hidden = dataclasses.replace(model, weights=weights)
    fitted = remove_compensated(hidden, _a_quarter_of_each_block(WIDE), IMAGES)
    assert all(torch.isfinite(tensor).all() for tensor in fitted.weights.values())
    assert _distance(fitted, hidden) < _distance(remove(hidden, _a_quarter_of_each_block(WIDE)), hidden)


def test_pictures_that_were_not_looked_at_gain_too():
    """Also where there are hardly more images than the classifier has inputs."""
    model = random_model(WIDE, trained=True)
    removed = _a_quarter_of_each_block(WIDE)
    fresh = random_images(model, 64, seed=9)
    plain = remove(model, removed)
    apart = float((_answers(plain, fresh) - _answers(model, fresh)).square().mean())
    for count in (4, 64):
        fitted = remove_compensated(model, removed, IMAGES[:count])
        assert float((_answers(fitted, fresh) - _answers(model, fresh)).square().mean()) < 0.7 * apart


def test_what_cannot_be_is_refused_before_anything_is_measured(monkeypatch):
    model = random_model(WIDE)
    monkeypatch.setattr("resfit.compression.compensation.carry", None)
    [stem] = [coupling for coupling in couplings(WIDE) if coupling.name == "layer2.sum"]
    with pytest.raises(UsageError, match="would remain"):
        remove_compensated(model, {stem.name: list(stem.channels)}, IMAGES)


def test_the_seed_draws_the_images_and_the_input_stays():
    model = random_model(WIDE, trained=True)
    before = weights_sha256(model)
    many = random_images(model, 1100)
    removed = _a_quarter_of_each_block(WIDE)
    shas = [weights_sha256(remove_compensated(model, removed, many, seed=seed)) for seed in (0, 0, 1)]
    assert shas[0] == shas[1] != shas[2]
    assert weights_sha256(model) == before


@pytest.mark.parametrize("kind", ["projection", "pre", "deep", "group_norm"])
def test_own_statistics_leave_the_function_and_are_those_of_the_images(kind):
    model = random_model(KINDS[kind], trained=True)
    own = with_own_statistics(model, IMAGES)
    torch.testing.assert_close(_answers(own), _answers(model), rtol=1e-3, atol=1e-3)
    in_training = own.module().train()  # where norms take the statistics of their batch, which is all of the images
    [whole] = normalised(own, IMAGES, len(IMAGES))
    torch.testing.assert_close(in_training(whole).detach(), _answers(model), rtol=1e-2, atol=1e-2)
