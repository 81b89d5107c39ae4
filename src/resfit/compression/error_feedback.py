"""Rounding a layer's weights to symbols so that distortion and bits together are least.

Columns are rounded one after another, and what rounding a column did to the outputs is made good by the columns
still to come (Frantar et al. 2022, GPTQ; with the factor of the moments in place of their inverse's, as a search for
the nearest point of a lattice). Here each choice minimises sensitivity x squared error + tradeoff x bits, so that
weights whose exact value matters little go where they are cheap. Sweeps over the rounded symbols then take back single
choices that later ones made bad.

Loops are over columns, of all rows at once, so that inside this file matrices are (inputs, outputs).
"""

from dataclasses import dataclass

import numpy as np

from resfit.compression.covariance import Covariance, product
from resfit.compression.symbol_costs import SymbolCosts, bins

Array = np.ndarray

BLOCK = 64  # columns that are told together what those before them did
NEIGHBOUR_SHARE, ROW_SHARE, COLUMN_SHARE = 0.3, 0.4, 0.3  # of the expected magnitude


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One layer as a matrix.

    weights: float64 (outputs, inputs), the inputs of one kernel position next to each other by `kernel_area`.
    covariance: of the inputs.
    sensitivity: float64 (outputs,), what a squared error of an output costs; steps: float64 (outputs,).
    held: bool (outputs, inputs), where the symbol must be zero; None is nowhere.
    """

    weights: Array
    covariance: Covariance
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
    return np.ascontiguousarray(symbols.T)


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
    """Symbols (inputs, outputs)."""
    factor, steps, area = layer.covariance.factor, layer.steps, layer.kernel_area
    weights, means = np.ascontiguousarray(layer.weights.T), np.ascontiguousarray(_expected_means(layer).T)
    symbols, errors = np.zeros(weights.shape, np.int64), np.zeros_like(weights)
    for start in range(0, len(weights), BLOCK):
        stop = min(start + BLOCK, len(weights))
        owed = product(factor[:start, start:stop].T, errors[:start])
        for column in range(start, stop):
            pivot = factor[column, column]
            near = np.abs(symbols[column - 1]) if column else 0
            above = np.abs(symbols[column - area]) if column >= area else 0
            expected = NEIGHBOUR_SHARE * (near + above) / 2 + means[column]
            wanted = weights[column] + owed[column - start] / pivot
            chosen = _cheapest(wanted / steps, layer.sensitivity * (steps * pivot) ** 2, expected, costs, tradeoff)
            if layer.held is not None:
                chosen[layer.held[:, column]] = 0
            symbols[column] = chosen
            errors[column] = weights[column] - chosen * steps
            owed[column + 1 - start :] += factor[column, column + 1 : stop, None] * errors[column]
    return symbols


def _cheapest(values: Array, weight: Array, expected: Array, costs: SymbolCosts, tradeoff: float) -> Array:
    """The best symbol a row among the nearest, its neighbour towards zero, and zero."""
    nearest = np.rint(values)
    candidates = np.stack([nearest, nearest - np.sign(nearest), np.zeros_like(nearest)])
    price = weight * (values - candidates) ** 2 + tradeoff * costs.at(candidates, bins(expected))
    return candidates[price.argmin(axis=0), np.arange(len(values))].astype(np.int64)


def _sweep(layer: Layer, symbols: Array, costs: SymbolCosts, tradeoff: float) -> bool:
    """Try each symbol (inputs, outputs) one lower, one higher and zero, the others as they are; was any changed?"""
    steps, matrix = layer.steps, layer.covariance.matrix
    errors = symbols * steps - layer.weights.T
    places = np.ascontiguousarray(bins(expected_magnitudes(layer, symbols.T)).T)
    changed = False
    for start in range(0, len(symbols), BLOCK):
        stop = min(start + BLOCK, len(symbols))
        gradient = product(matrix[start:stop], errors)  # half of the squared error's
        for column in range(start, stop):
            now = symbols[column]
            candidates = np.stack([now, now - 1, now + 1, np.zeros_like(now)])
            moves = (candidates - now) * steps
            price = layer.sensitivity * (2 * gradient[column - start] * moves + matrix[column, column] * moves**2)
            price += tradeoff * costs.at(candidates, places[column])
            best = price.argmin(axis=0)
            if layer.held is not None:
                best[layer.held[:, column]] = 0
            moved = np.flatnonzero(best)
            if len(moved):
                changed = True
                move = moves[best[moved], moved]
                symbols[column, moved] = candidates[best[moved], moved]
                errors[column, moved] += move
                gradient[column + 1 - start :, moved] += matrix[column, column + 1 : stop, None] * move
    return changed
