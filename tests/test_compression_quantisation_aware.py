"""Training with rounded weights: where it begins, what it keeps to, and that it wins back what rounding lost."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from small_compressions import digits_model
from test_compression_side_by_side import SPECS

from resfit.compression import quantisation_aware
from resfit.compression.agreement import Reference, Selection, logits_of
from resfit.compression.quantisation_aware import train_rounded
from resfit.compression.rate_distortion import rate_distortion
from resfit.data.dataset import ArrayDataset, Splits
from resfit.data.sources import open_data
from resfit.engines.quantisation import quantised_layers
from resfit.model.encoding import Grid, holds
from resfit.model.fold import fold
from resfit.model.load import untrained
from resfit.model.model import Model
from resfit.training.recipe import Recipe
from resfit.training.weight_rules import Transform


@pytest.fixture(scope="module")
def digits() -> Splits:
    return open_data("digits")


@pytest.fixture(scope="module")
def trained() -> Model:
    return digits_model(epochs=4, lr=0.1)


def recipe_of(epochs: int) -> Recipe:
    return Recipe(
        epochs=epochs, batch_size=32, lr=0.1, threads=1, precision="fp32", memory_format="contiguous",
        distill_weight=0.9, distill_temperature=4.0,
    )  # fmt: skip


def test_training_wins_back_what_rounding_lost(digits: Splits, trained: Model) -> None:
    images = digits.train.images[np.arange(256)]
    rounded = rate_distortion(trained, images, tradeoff=4e-5, seed=0)
    again = train_rounded(
        trained, rounded, digits, tradeoff=4e-5, epochs=8, teacher=trained, seed=0, threads=1, recipe=recipe_of(8)
    )
    reference = Reference(trained, Selection(pictures=digits.validation.images[:], targets=digits.validation.targets))
    before, after = (reference.agreement(each).divergence for each in (rounded, again))
    assert after < 0.75 * before
    for name in ("conv1.weight", "layer2.0.conv2.weight", "fc.weight"):
        encoding = again.encodings[name]
        assert isinstance(encoding, Grid)
        assert holds(encoding, again.weights[name].numpy())
    assert again.provenance.recipe == trained.provenance.recipe
    assert again.provenance.notes[-1].startswith("trained on for 8 epochs")
    stored = rate_distortion(again, images, tradeoff=0.0, seed=0, keep_steps=True)
    assert "conv1.bias" in stored.encodings
    assert reference.agreement(stored).divergence < 0.75 * before


def test_a_rate_of_nothing_leaves_the_rounded_weights(digits: Splits) -> None:
    """The network that training begins with is the rounded one, whatever the signs of its norms."""
    spec = dataclasses.replace(SPECS["projection"], num_classes=10, in_channels=1)
    model = untrained(spec, preprocessing=digits.preprocessing, labels=digits.labels, source="tiny")
    weights = {name: -tensor if name == "layer1.0.bn1.weight" else tensor for name, tensor in model.weights.items()}
    model = dataclasses.replace(model, weights=weights, provenance=dataclasses.replace(model.provenance, trained=True))
    rounded = rate_distortion(model, digits.train.images[np.arange(64)], tradeoff=1e-7, seed=0)
    still = dataclasses.replace(recipe_of(1), lr=1e-9, batch_size=600)
    again = train_rounded(
        model, rounded, digits, tradeoff=1e-7, epochs=1, teacher=model, seed=0, threads=1, recipe=still
    )
    for name in ("layer1.0.conv1.weight", "layer2.0.downsample.0.weight", "fc.weight"):
        first, second = (e.encodings[name].symbols(e.weights[name].numpy()) for e in (rounded, again))
        assert np.array_equal(first, second), name


@pytest.mark.parametrize("gain", [-1.5, 0.0, 1e-30])
def test_norms_may_turn_or_silence_their_channels(digits: Splits, monkeypatch: pytest.MonkeyPatch, gain: float) -> None:
    """Training may end with any scales: folding gives the network it ended with, on grids whose steps are positive."""
    spec = dataclasses.replace(SPECS["projection"], num_classes=10, in_channels=1)
    model = untrained(spec, preprocessing=digits.preprocessing, labels=digits.labels, source="tiny")
    images = digits.train.images[np.arange(64)]
    rounded = rate_distortion(model, images, tradeoff=1e-7, seed=0)
    ended = []

    def scales_only(model: Model, *_: object, transform: Transform, **__: object) -> Model:
        weights = {**model.weights, **transform(model.weights)}
        for norm in ("bn1", "layer2.0.bn1", "layer2.1.bn2"):
            weights[f"{norm}.weight"] = weights[f"{norm}.weight"].clone()
            weights[f"{norm}.weight"][:4] *= gain
        ended.append(dataclasses.replace(model, weights=weights))
        return ended[0]

    monkeypatch.setattr(quantisation_aware, "fine_tune", scales_only)
    again = train_rounded(model, rounded, digits, tradeoff=1e-7, epochs=1, teacher=model, seed=0)
    assert torch.allclose(logits_of(again, images), logits_of(fold(ended[0]), images), atol=1e-5)
    for name, grid in again.encodings.items():
        assert holds(grid, again.weights[name].numpy()), name
        assert grid.scales.min() > 1e-3 * grid.scales.max(), name  # what rounding anew may use again


def test_an_interrupted_training_is_found_again(digits: Splits, trained: Model, tmp_path: Path) -> None:
    images = digits.train.images[np.arange(64)]
    rounded = rate_distortion(trained, images, tradeoff=1e-5, seed=0)
    first, second = (
        train_rounded(
            trained, rounded, digits, tradeoff=1e-5, epochs=1, teacher=trained, seed=0, threads=1,
            folder=tmp_path / "run", recipe=recipe_of(1),
        )
        for _ in range(2)
    )  # fmt: skip
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)


@pytest.mark.parametrize("kind", ["pre-activation", "group norm", "groups", "squeeze-and-excite", "plain"])
def test_networks_of_other_kinds_end_on_grids_of_their_own(kind: str, digits: Splits) -> None:
    spec = dataclasses.replace(SPECS[kind], num_classes=10, in_channels=1)
    model = untrained(spec, preprocessing=digits.preprocessing, labels=digits.labels, source="tiny")
    model = dataclasses.replace(model, provenance=dataclasses.replace(model.provenance, trained=True))
    rounded = rate_distortion(model, digits.train.images[np.arange(64)], tradeoff=1e-6, seed=0)
    again = train_rounded(
        model, rounded, digits, tradeoff=1e-6, epochs=1, teacher=model, seed=0, threads=1, recipe=recipe_of(1)
    )
    assert again.spec == rounded.spec
    grids = {f"{name}.weight" for name in quantised_layers(rounded.spec)}
    assert set(again.encodings) == grids
    assert all(holds(again.encodings[name], again.weights[name].numpy()) for name in grids)
    assert any(not torch.equal(again.weights[name], rounded.weights[name]) for name in grids)


def test_norms_are_put_back_from_images_of_all_classes(
    digits: Splits, trained: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Class folders come class after class: of the first images alone, all statistics would be of one class."""
    order = np.argsort(digits.train.targets, kind="stable")
    by_class = ArrayDataset(
        images=digits.train.images[order], targets=digits.train.targets[order], labels=digits.labels
    )
    rounded = rate_distortion(trained, digits.train.images[np.arange(256)], tradeoff=1e-6, seed=0)
    monkeypatch.setattr(quantisation_aware, "STATISTICS_IMAGES", 128)
    begun = []
    monkeypatch.setattr(quantisation_aware, "fine_tune", lambda model, *_, **__: begun.append(model) or model)
    sorted_digits = Splits(
        train=by_class, validation=digits.validation, test=None,
        labels=digits.labels, sources=digits.sources, preprocessing=digits.preprocessing,
    )  # fmt: skip
    for splits in (sorted_digits, digits):
        train_rounded(trained, rounded, splits, tradeoff=1e-6, epochs=1, teacher=trained, seed=0)
    distances = []
    for name in begun[1].weights:
        if name.endswith("running_mean"):
            first, second = (model.weights[name] for model in begun)
            spread = begun[1].weights[name.replace("mean", "var")].sqrt()
            distances.append(float(((first - second) / spread).abs().max()))
    assert max(distances) < 0.5
