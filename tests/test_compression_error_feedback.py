"""Rounding a layer: distortion, bits, and what the one costs in the other."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.compression.covariance import Covariance
from resfit.compression.error_feedback import Layer, expected_magnitudes, round_layer
from resfit.compression.symbol_costs import LIMIT, bins, count, counted_costs, first_costs


def random_layer(seed: int, *, rows: int = 6, inputs: int = 4, area: int = 9, step: float = 0.3) -> Layer:
    generator = np.random.default_rng(seed)
    columns = inputs * area
    samples = generator.normal(size=(4 * columns, columns)) @ generator.normal(size=(columns, columns))
    return Layer(
        weights=generator.normal(size=(rows, columns)),
        covariance=Covariance(matrix=samples.T @ samples / len(samples) + 0.1 * np.eye(columns)),
        sensitivity=generator.uniform(0.5, 2, rows),
        steps=np.full(rows, step),
        kernel_area=area,
    )


def distortion(layer: Layer, symbols: np.ndarray) -> float:
    errors = symbols * layer.steps[:, None] - layer.weights
    return float((layer.sensitivity * ((errors @ layer.covariance.matrix) * errors).sum(1)).sum())


def price(layer: Layer, symbols: np.ndarray) -> float:
    return float(first_costs().at(symbols, bins(expected_magnitudes(layer, symbols))).sum())


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_without_a_price_it_distorts_less_than_rounding_each_weight_alone(seed: int) -> None:
    layer = random_layer(seed)
    symbols = round_layer(layer, first_costs(), tradeoff=0.0)
    alone = np.rint(layer.weights / layer.steps[:, None])
    assert distortion(layer, symbols) < distortion(layer, alone)


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_higher_price_buys_fewer_bits_for_more_distortion(seed: int) -> None:
    layer = random_layer(seed)
    cheap, dear = (round_layer(layer, first_costs(), tradeoff=tradeoff) for tradeoff in (0.01, 3.0))
    assert price(layer, dear) < price(layer, cheap)
    assert distortion(layer, dear) > distortion(layer, cheap)


@pytest.mark.parametrize("inputs", [4, 15])
def test_sweeps_take_back_choices_that_later_ones_made_bad(inputs: int) -> None:
    layers = [random_layer(seed, inputs=inputs) for seed in range(8)]
    without, swept = (
        [distortion(layer, round_layer(layer, first_costs(), tradeoff=0.0, sweeps=sweeps)) for layer in layers]
        for sweeps in (0, 1)
    )
    assert sum(swept) < sum(without)
    assert all(after <= before + 1e-9 for before, after in zip(without, swept, strict=True))


def test_inputs_that_vary_apart_are_rounded_each_alone() -> None:
    layer = dataclasses.replace(random_layer(1), covariance=Covariance(matrix=np.eye(36)))
    symbols = round_layer(layer, first_costs(), tradeoff=0.0)
    assert np.array_equal(symbols, np.rint(layer.weights / layer.steps[:, None]))


def test_an_output_that_matters_more_is_rounded_more_truly() -> None:
    layer = random_layer(2, rows=2)
    alike = dataclasses.replace(
        layer, weights=np.stack([layer.weights[0]] * 2), sensitivity=np.array([0.01, 100.0]), steps=np.full(2, 0.2)
    )
    symbols = round_layer(alike, first_costs(), tradeoff=1.0)
    each = [dataclasses.replace(alike, weights=alike.weights[:1], sensitivity=np.ones(1), steps=alike.steps[:1])] * 2
    least, most = (distortion(one, symbols[[row]]) for row, one in enumerate(each))
    assert most < least
    assert np.abs(symbols[0]).sum() < np.abs(symbols[1]).sum()


@given(st.integers(0, 10**6), st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_a_covariance_is_the_square_of_its_factor_and_divides(seed: int, columns: int) -> None:
    covariance = random_layer(seed, inputs=columns, area=1).covariance
    assert np.allclose(covariance.factor @ covariance.factor.T, covariance.matrix)
    assert np.array_equal(covariance.factor, np.triu(covariance.factor))
    rows = np.random.default_rng(seed).normal(size=(3, columns))
    assert np.allclose(covariance.divided(rows) @ covariance.matrix, rows)


def by_the_inverse(layer: Layer) -> np.ndarray:
    """The feedback as it was published: by the factor of the moments' inverse, a column at a time."""
    inverse = np.linalg.cholesky(np.linalg.inv(layer.covariance.matrix)).T
    left, symbols = layer.weights.copy(), np.zeros(layer.weights.shape)
    for column in range(left.shape[1]):
        symbols[:, column] = np.rint(left[:, column] / layer.steps)
        error = (left[:, column] - symbols[:, column] * layer.steps) / inverse[column, column]
        left[:, column:] -= error[:, None] * inverse[column, column:]
    return symbols


@pytest.mark.parametrize("inputs", [4, 15, 16])  # 36 columns, 135 and 144: in one block of 64, and in three
def test_errors_are_fed_back_as_by_the_factor_of_the_inverse(inputs: int) -> None:
    layer = random_layer(inputs, inputs=inputs)
    assert np.array_equal(round_layer(layer, first_costs(), tradeoff=0.0, sweeps=0), by_the_inverse(layer))


def test_after_enough_sweeps_no_symbol_alone_can_be_bettered() -> None:
    layer = random_layer(0, rows=2, inputs=15)
    symbols = round_layer(layer, first_costs(), tradeoff=0.0, sweeps=100)
    least = distortion(layer, symbols)
    for place in np.ndindex(symbols.shape):
        for move in (-1, 1):
            other = symbols.copy()
            other[place] += move
            assert distortion(layer, other) >= least - 1e-9


def test_prices_fall_for_what_was_counted_and_are_those_of_a_distribution() -> None:
    expected = np.full(1000, 0.5)
    counts = count(np.repeat([0, 1, 2], [500, 400, 100]), expected)
    learned, first = counted_costs(counts), first_costs()
    row = bins(np.array([0.5]))[0]
    assert np.allclose((2.0**-learned.bits).sum(axis=1), 1)
    assert np.allclose((2.0**-first.bits).sum(axis=1), 1)
    assert learned.bits[row, LIMIT + 1] < first.bits[row, LIMIT + 1]
    assert learned.bits[row, LIMIT + 1] == pytest.approx(learned.bits[row, LIMIT - 1])  # either sign
    assert learned.bits[row + 3, LIMIT + 1] == first.bits[row + 3, LIMIT + 1]  # another bin learned nothing


def test_symbols_beyond_the_table_have_a_finite_and_rising_price() -> None:
    prices = first_costs().at(np.array([LIMIT, 2 * LIMIT, -8 * LIMIT]), bins(np.full(3, 4.0)))
    assert np.isfinite(prices).all()
    assert prices[1] == prices[0] + 2
    assert prices[2] == prices[0] + 6


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_held_weights_are_zero_and_the_others_make_it_good(seed: int) -> None:
    layer = random_layer(seed)
    held = np.random.default_rng(seed).random(layer.weights.shape) < 0.3
    symbols = round_layer(dataclasses.replace(layer, held=held), first_costs(), tradeoff=0.0)
    assert not symbols[held].any()
    later = np.where(held, 0, round_layer(layer, first_costs(), tradeoff=0.0))
    assert distortion(layer, symbols) < distortion(layer, later)
