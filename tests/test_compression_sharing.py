"""Shared weights: optimal centers, and models that hold them."""

import dataclasses

import kmeans1d
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.compression import sharing
from resfit.compression.sharing import best_centers, share
from resfit.errors import UsageError
from resfit.model.encoding import Codebook, Grid, holds
from resfit.model.load import load
from resfit.model.model import Range, weights_sha256


def squared_error(values: np.ndarray, centers: np.ndarray) -> float:
    return float(np.square(values[:, None] - centers[None].astype(np.float64)).min(axis=1).sum())


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=60), st.integers(1, 9))
@settings(max_examples=80, deadline=None)
def test_centers_are_as_good_as_another_exact_solver_finds(numbers: list[int], count: int) -> None:
    values = np.array(numbers, np.float64) / 8
    centers = best_centers(values, count)
    assert len(centers) <= count
    assert np.all(np.diff(centers) > 0)
    if len(set(numbers)) <= count:
        assert np.array_equal(centers, np.unique(values))
    else:
        _, theirs = kmeans1d.cluster(values, count)
        assert squared_error(values, centers) <= squared_error(values, np.array(theirs)) + 1e-6


def test_many_values_are_cut_between_cells_at_little_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=5000)
    exact = squared_error(values, best_centers(values, 8))
    monkeypatch.setattr(sharing, "CELLS", 256)
    coarse = squared_error(values, best_centers(values, 8))
    assert exact <= coarse <= 1.001 * exact


def test_a_shared_model_holds_few_weights_and_leaves_its_input_alone() -> None:
    model = load("resnet20", num_classes=3)
    before = weights_sha256(model)
    small = share(model, centers=4)
    assert weights_sha256(model) == before
    encoding = small.encodings["layer1.0.conv1.weight"]
    weights = small.weights["layer1.0.conv1.weight"].numpy()
    assert isinstance(encoding, Codebook)
    assert len(np.unique(weights)) <= 4
    assert holds(encoding, weights)
    assert set(small.encodings) == {name for name, tensor in small.weights.items() if tensor.dim() > 1}


def test_a_number_of_centers_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="1 shared weights"):
        share(load("resnet20"), centers=1)


@given(st.integers(0, 200), st.integers(2, 6), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_zeros_that_are_to_be_kept_stay_zero_however_few(zeros: int, count: int, seed: int) -> None:
    weight = torch.from_numpy(np.random.default_rng(seed).normal(1, 1, (200, 1)).astype(np.float32))
    weight[:zeros] = 0
    centers = sharing._centers(weight.numpy(), count, keep_zeros=True)
    held = Codebook(centers=centers)
    assert len(centers) <= count
    assert not held.values(held.symbols(weight.numpy()))[:zeros].any()


def test_what_spoke_of_the_weights_before_is_left_out() -> None:
    model = load("resnet20", num_classes=3)
    ranges = {"input": Range(low=-1.0, high=1.0)}
    once = share(dataclasses.replace(model, activation_ranges=ranges), centers=8)
    assert not once.activation_ranges
    biased = {**once.encodings, "fc.bias": Grid(bits=8, axis=None, scales=np.ones(1))}
    again = share(dataclasses.replace(once, encodings=biased), centers=4)
    assert set(again.encodings) == set(once.encodings)


def test_many_zeros_stay_zero() -> None:
    values = np.where(np.arange(400) % 3 == 0, np.linspace(-1, 2, 400), 0).astype(np.float32)
    model = load("resnet20", num_classes=3)
    name = "layer1.0.conv1.weight"
    weight = torch.from_numpy(np.resize(values, model.weights[name].shape))
    shared = share(dataclasses.replace(model, weights={**model.weights, name: weight}), centers=4)
    assert bool((shared.weights[name][weight == 0] == 0).all())
    assert len(shared.weights[name].unique()) == 4
