"""What an adaptive coder will pay for a symbol, in bits, before there is a coder to ask.

A symbol's price depends on how large the symbols around it are: an expected magnitude, cut into bins, chooses a row
of prices. The prices of one layer are counted on the layers before it, as an adaptive coder would.
"""

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

LIMIT = 40  # the greatest symbol that has a price of its own; beyond it each doubling costs two bits more
BINS = 20
LEAST_MEAN = 0.02  # expected magnitude of the first bin
RATIO = 1.45  # from one bin to the next
OWN_COUNTS = 6.0  # so many counts of a bin's first guess, before what was counted outweighs it


@dataclass(frozen=True, kw_only=True, eq=False)
class SymbolCosts:
    """Prices in bits, float64 (BINS, 2 LIMIT + 1): a row an expected magnitude, a column a symbol from -LIMIT."""

    bits: Array

    def at(self, symbols: Array, places: Array) -> Array:
        """The price of each symbol (whole numbers of any shape) in the bin of its place, see `bins`."""
        sizes = np.abs(symbols)
        if sizes.max(initial=0) <= LIMIT:  # nearly always
            return self.bits[places, symbols.astype(np.int64) + LIMIT]
        held = np.clip(symbols, -LIMIT, LIMIT).astype(np.int64)
        prices: Array = self.bits[places, held + LIMIT] + 2 * np.log2(np.maximum(sizes / LIMIT, 1.0))
        return prices


def bins(expected: Array) -> Array:
    """The bin of each expected magnitude."""
    steps = np.log(np.maximum(expected, LEAST_MEAN) / LEAST_MEAN) / np.log(RATIO)
    return np.minimum(np.rint(steps), BINS - 1).astype(np.int64)


def first_costs() -> SymbolCosts:
    """Prices where nothing was counted: geometric magnitudes of each bin's mean, either sign alike."""
    return SymbolCosts(bits=-np.log2(_guesses()))


def counted_costs(counts: Array) -> SymbolCosts:
    """Prices after symbols were counted, float64 (BINS, 2 LIMIT + 1); both signs are priced alike."""
    both = (counts + counts[:, ::-1]) / 2 + OWN_COUNTS * _guesses()
    return SymbolCosts(bits=-np.log2(both / both.sum(axis=1, keepdims=True)))


def count(symbols: Array, expected: Array) -> Array:
    """How often each bin met each symbol, float64 (BINS, 2 LIMIT + 1)."""
    counts = np.zeros((BINS, 2 * LIMIT + 1))
    np.add.at(counts, (bins(expected).ravel(), np.clip(symbols, -LIMIT, LIMIT).ravel().astype(np.int64) + LIMIT), 1)
    return counts


def _guesses() -> Array:
    """Probabilities, float64 (BINS, 2 LIMIT + 1)."""
    means = LEAST_MEAN * RATIO ** np.arange(BINS)
    ratio = (means / (1 + means))[:, None]
    magnitudes = np.abs(np.arange(-LIMIT, LIMIT + 1))
    chances = (1 - ratio) * ratio**magnitudes
    chances[:, magnitudes > 0] /= 2
    return chances / chances.sum(axis=1, keepdims=True)
