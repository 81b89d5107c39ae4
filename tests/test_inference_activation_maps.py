"""Where a network looked: each place's evidence adds up to the logit, and lies where its pixels are."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from colour_model import COLOURS, colour_model
from random_models import TINY, random_images, random_model

from resfit.engines.torch import model_session
from resfit.errors import EngineError
from resfit.inference.activation_maps import BATCH_SIZE, activation_maps, class_evidence
from resfit.model.model import Model

SPECS: dict[str, dict[str, Any]] = {
    "post": {},
    "pre": {"order": "pre"},
    "pre, group norm": {"order": "pre", "norm": "group"},
    "pre, leading norms": {"order": "pre", "norm": "batch_leading", "bias": True},
    "bottleneck": {"block": "bottleneck", "mid_ratio": 2.0},
    "article": {"block": "article", "order": "none", "bias": True},
    "deep stem": {"stem": "deep", "shortcut": "avgpool"},
    "imagenet stem": {"stem": "imagenet"},
    "plain": {"shortcut": "none"},
    "zero pad": {"shortcut": "zero_pad"},
    "no norm": {"norm": "none", "bias": True},
    "squeeze": {"se_ratio": 0.25},
    "dropped": {"dropout": 0.5, "drop_path": 0.5},
    "tanh": {"activation": "tanh"},
    "grey": {"in_channels": 1},
    "two classes": {"num_classes": 2},
}


def model_of(**changes: Any) -> Model:
    return random_model(dataclasses.replace(TINY, **changes), side=32)


@pytest.mark.parametrize("changes", SPECS.values(), ids=list(SPECS))
def test_the_mean_of_the_evidence_and_the_bias_are_the_logit(changes: dict[str, Any]) -> None:
    model = model_of(**changes)
    images = random_images(model, 3)
    logits = model_session(model, threads=1).run(images)
    bias = model.weights["fc.bias"].numpy()
    for label in range(len(model.labels)):
        evidence = class_evidence(model, images, np.full(3, label))
        assert evidence.dtype == np.float32
        assert evidence.shape[1] > 1
        assert evidence.mean((1, 2)) + bias[label] == pytest.approx(logits[:, label], rel=1e-4, abs=1e-4)


def test_without_classes_the_answer_is_asked_about() -> None:
    model = model_of()
    images = random_images(model, 8, seed=3)
    usual = model_session(model, threads=1).run(images).mean(0)  # taken off, for answers that differ
    bias = model.weights["fc.bias"] - torch.from_numpy(usual)
    model = dataclasses.replace(model, weights={**model.weights, "fc.bias": bias})
    answers = model_session(model, threads=1).run(images).argmax(1)
    assert len(set(answers.tolist())) > 1
    assert np.array_equal(class_evidence(model, images), class_evidence(model, images, answers))
    assert not np.array_equal(class_evidence(model, images), class_evidence(model, images, (answers + 1) % 5))


def test_a_network_of_doubles_is_asked_in_doubles() -> None:
    model = model_of()
    weights = {
        name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in model.weights.items()
    }
    images = random_images(model, 2)
    doubles = class_evidence(dataclasses.replace(model, weights=weights), images)
    assert doubles == pytest.approx(class_evidence(model, images), abs=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(slice(0, 6), slice(58, 64)), (slice(26, 32), slice(0, 6))])
def test_evidence_lies_where_its_pixels_are(rows: slice, columns: slice) -> None:
    """A changed corner of a wide image changes the evidence there, and none beyond the receptive field."""
    model = random_model()
    wide = dataclasses.replace(model.preprocessing, height=32, width=64)
    model = dataclasses.replace(model, preprocessing=wide)
    images = random_images(model, 1)
    changed = images.copy()
    changed[:, rows, columns] = 255 - changed[:, rows, columns]
    classes = np.array([2])
    before, after = class_evidence(model, images, classes), class_evidence(model, changed, classes)
    assert before.shape == (1, 16, 32)
    moved_rows, moved_columns = np.nonzero(np.abs(after - before)[0] > 1e-4)
    reach = 8  # pixels: half of a receptive field of 15
    assert len(moved_rows) > 4
    assert 2 * moved_rows.min() >= rows.start - reach
    assert 2 * moved_rows.max() <= rows.stop + reach
    assert 2 * moved_columns.min() >= columns.start - reach
    assert 2 * moved_columns.max() <= columns.stop + reach


def test_evidence_for_a_colour_lies_on_it() -> None:
    model = colour_model()
    image = np.zeros((1, 12, 12, 3), np.uint8)
    image[:, :, :5, 0], image[:, :, 7:, 1] = 200, 200
    red, green = (class_evidence(model, image, np.array([COLOURS.index(name)]))[0] for name in ("red", "green"))
    assert red[:, :5].min() > red[:, 5:].max()
    assert green[:, 7:].min() > green[:, :7].max()


def test_maps_are_the_evidence_enlarged_from_0_to_1() -> None:
    model = model_of(strides=(1, 16))
    images = random_images(model, 4)
    evidence, maps = class_evidence(model, images), activation_maps(model, images)
    assert evidence.shape == (4, 2, 2)
    assert maps.shape == (4, 32, 32)
    assert maps.dtype == np.float32
    # Between the centres of the four places, 16 pixels apart, bilinear weights go from 0 to 1 in steps of 1/16
    share = np.clip((np.arange(32) + 0.5 - 8) / 16, 0, 1)
    weights = np.stack([1 - share, share])
    enlarged = np.einsum("nij,iy,jx->nyx", evidence.astype(np.float64), weights, weights)
    low, high = enlarged.min((1, 2), keepdims=True), enlarged.max((1, 2), keepdims=True)
    assert maps == pytest.approx((enlarged - low) / (high - low), abs=1e-4)
    assert maps.min((1, 2)).tolist() == [0] * 4
    assert maps.max((1, 2)).tolist() == [1] * 4


def test_a_single_place_tells_nothing() -> None:
    model = model_of(strides=(1, 32))
    images = random_images(model, 2)
    assert class_evidence(model, images).shape == (2, 1, 1)
    assert not activation_maps(model, images).any()


def test_batches_change_nothing() -> None:
    model = model_of()
    images = random_images(model, BATCH_SIZE + 3)
    classes = np.arange(len(images)) % 5
    whole = activation_maps(model, images, classes)
    single = [
        activation_maps(model, images[i : i + 1], classes[i : i + 1])[0] for i in (0, BATCH_SIZE, len(images) - 1)
    ]
    assert whole[[0, BATCH_SIZE, -1]] == pytest.approx(np.stack(single), abs=1e-4)
    assert activation_maps(model, images[:0]).shape == (0, 32, 32)


def test_what_cannot_be_asked_is_refused() -> None:
    model = model_of()
    images = random_images(model, 2)
    with pytest.raises(EngineError, match=r"uint8 of shape \(N, 32, 32, 3\)"):
        activation_maps(model, images[:, :16])
    for classes in ([0], [[0, 1]], [0, 5], [-1, 0]):
        with pytest.raises(ValueError, match="classes"):
            activation_maps(model, images, np.array(classes))


def test_the_model_is_left_as_it_was() -> None:
    model = model_of()
    before = {name: tensor.clone() for name, tensor in model.weights.items()}
    images = random_images(model, 2)
    kept = images.copy()
    activation_maps(model, images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.weights.items())
    assert np.array_equal(images, kept)
