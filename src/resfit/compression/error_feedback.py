"""Rounding a layer's weights to symbols so that distortion and bits together are least.

Columns are rounded one after another, and what rounding a column did to the outputs is made good by the columns
still to come (Frantar et al. 2022, GPTQ). Here each choice minimises sensitivity x squared error + tradeoff x bits,
so that weights whose exact value matters little go where they are cheap. Sweeps over the rounded symbols then take
back single choices that later ones made bad.
"""

from dataclasses import dataclass

import numpy as np

from resfit.compression.symbol_costs import SymbolCosts

Array = np.ndarray

BLOCK = 64  # columns whose feedback is carried on together
NEIGHBOUR_SHARE, ROW_SHARE, COLUMN_SHARE = 0.3, 0.4, 0.3  # of the expected magnitude


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One layer as a matrix.

    weights: float64 (outputs, inputs), the inputs of one kernel position next to each other by `kernel_area`.
    moments: float64 (inputs, inputs), the inputs' second moments, positive definite.
    sensitivity: float64 (outputs,), what a squared error of an output costs; steps: float64 (outputs,).
    held: bool (outputs, inputs), where the symbol must be zero; None is nowhere.
    """

    weights: Array
    moments: Array
    sensitivity: Array
    steps: Array
    kernel_area: int
    held: Array | None = None


def round_layer(layer: Layer, costs: SymbolCosts, *, tradeoff: float, sweeps: int = 2) -> Array:
    """Symbols, int64 (outputs, inputs). tradeoff: what a bit costs, in the unit of the sensitivity."""
    symbols = _fed_back(layer, costs, tradeoff)
    for _ in range(sweeps):
        if not _sweep(layer, symbols, costs, tradeoff):
            break
    return symbols


def feedback_factors(moments: Array) -> Array:
    """Upper triangular U with U^T U = moments^-1: row j says how the columns after j make good an error of j."""
    upper = np.linalg.cholesky(moments[::-1, ::-1])[::-1, ::-1]  # moments = upper upper^T
    return np.linalg.inv(upper)


def expected_magnitudes(layer: Layer, symbols: Array) -> Array:
    """The magnitude that a coder would expect of each symbol from those around it, float64 of the same shape."""
    sizes = np.abs(symbols).astype(np.float64)
    area = layer.kernel_area
    before = np.zeros_like(sizes)
    before[:, 1:] += sizes[:, :-1]
    above = np.zeros_like(sizes)
    above[:, area:] += sizes[:, :-area]
    means = _expected_means(layer)
    return NEIGHBOUR_SHARE * (before + above) / 2 + means


def _expected_means(layer: Layer) -> Array:
    """What the mean magnitudes of row and column say, known before any symbol is."""
    sizes = np.abs(layer.weights) / layer.steps[:, None]
    sizes = np.maximum(sizes - 0.3, 0)  # rounding with a price on bits shrinks
    return ROW_SHARE * sizes.mean(axis=1, keepdims=True) + COLUMN_SHARE * sizes.mean(axis=0, keepdims=True)


def _fed_back(layer: Layer, costs: SymbolCosts, tradeoff: float) -> Array:
    factors = feedback_factors(layer.moments)
    rows, columns = layer.weights.shape
    area, steps = layer.kernel_area, layer.steps
    left = layer.weights.copy()
    means = _expected_means(layer)
    symbols = np.zeros((rows, columns), np.int64)
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        errors = np.zeros((rows, stop - start))
        for column in range(start, stop):
            near = np.abs(symbols[:, column - 1]) if column else 0
            above = np.abs(symbols[:, column - area]) if column >= area else 0
            expected = NEIGHBOUR_SHARE * (near + above) / 2 + means[:, column]
            weight = layer.sensitivity * (steps / factors[column, column]) ** 2
            symbols[:, column] = _cheapest(left[:, column] / steps, weight, expected, costs, tradeoff)
            if layer.held is not None:
                symbols[layer.held[:, column], column] = 0
            error = (left[:, column] - symbols[:, column] * steps) / factors[column, column]
            errors[:, column - start] = error
            left[:, column + 1 : stop] -= error[:, None] * factors[column, column + 1 : stop]
        left[:, stop:] -= errors @ factors[start:stop, stop:]
    return symbols


def _cheapest(values: Array, weight: Array, expected: Array, costs: SymbolCosts, tradeoff: float) -> Array:
    """The best symbol a row among the nearest, its neighbour towards zero, and zero."""
    nearest = np.rint(values)
    candidates = np.stack([nearest, nearest - np.sign(nearest), np.zeros_like(nearest)], axis=1)
    price = weight[:, None] * (values[:, None] - candidates) ** 2
    price += tradeoff * costs.of(candidates, expected[:, None])
    return np.take_along_axis(candidates, price.argmin(axis=1)[:, None], axis=1)[:, 0].astype(np.int64)


def _sweep(layer: Layer, symbols: Array, costs: SymbolCosts, tradeoff: float) -> bool:
    """Try each symbol one lower, one higher and zero, the others as they are; says whether any changed."""
    steps, moments = layer.steps, layer.moments
    gradient = (symbols * steps[:, None] - layer.weights) @ moments  # half of the squared error's
    expected = expected_magnitudes(layer, symbols)
    changed = False
    for column in range(symbols.shape[1]):
        now = symbols[:, column]
        candidates = np.stack([now, now - 1, now + 1, np.zeros_like(now)], axis=1)
        moves = (candidates - now[:, None]) * steps[:, None]
        price = layer.sensitivity[:, None] * (
            2 * gradient[:, column, None] * moves + moments[column, column] * moves**2
        )
        price += tradeoff * costs.of(candidates, expected[:, column, None])
        best = price.argmin(axis=1)
        if layer.held is not None:
            best[layer.held[:, column]] = 0
        moved = np.flatnonzero(best)
        if len(moved):
            changed = True
            symbols[moved, column] = candidates[moved, best[moved]]
            gradient[moved] += moves[moved, best[moved], None] * moments[column]
    return changed
