"""Weights shared: each tensor keeps a few values, and every weight is the number of one (Han et al. 2016)."""

from collections.abc import Iterable

import numpy as np

from resfit.compression.weight_grids import encoded, plain
from resfit.engines.quantisation import quantised_layers
from resfit.errors import UsageError
from resfit.model.encoding import Codebook, Encoding
from resfit.model.fold import fold
from resfit.model.model import Model

CELLS = 65_536  # a tensor of more distinct weights is first cut into so many cells of equal width
MOST_CENTERS = 256

Array = np.ndarray


def share(model: Model, *, centers: int, keep_zeros: bool = False) -> Model:
    """The folded model with at most `centers` different weights in each convolution and the classifier.

    The centers of a tensor are those of least squared error: k-means in one dimension, solved exactly. Zero is one of
    them where many weights are zero (with `keep_zeros`, where any is), which then stay so. Biases are kept as floats.
    The input is unchanged; same input, same result.
    """
    if not 2 <= centers <= MOST_CENTERS:
        raise UsageError(f"{centers} shared weights a tensor", hint=f"choose 2 to {MOST_CENTERS}")
    folded = fold(plain(model))
    names = [f"{name}.weight" for name in quantised_layers(folded.spec)]

    def book(name: str) -> Encoding:
        return Codebook(centers=_centers(folded.weights[name].float().numpy(), centers, keep_zeros))

    return encoded(folded, {name: book(name) for name in names})


def _centers(values: Array, count: int, keep_zeros: bool) -> Array:
    others = values[values != 0]
    most = values.size - 1 if keep_zeros else (1 - 1 / count) * values.size
    if not len(others) or len(others) > most:
        return best_centers(values, count)
    return np.union1d(best_centers(others, count - 1), np.zeros(1, np.float32))


def best_centers(values: Array, count: int) -> Array:
    """At most `count` numbers, float32 and rising, that the values are nearest to in the sum of squares.

    Exact for up to CELLS different values, and otherwise among the cuts between cells. The optimal cuts of the
    first values into k groups move monotonically with how many values there are, so each k takes n log n steps
    (Grønlund et al. 2017).
    """
    cells = _Cells(np.asarray(values, np.float64).ravel())
    count = min(count, len(cells))
    costs = cells.cost(np.zeros(len(cells) + 1, np.int64), np.arange(len(cells) + 1))
    cuts = []
    for _ in range(count - 1):
        costs, cut = _one_group_more(costs, cells)
        cuts.append(cut)
    ends = [len(cells)]
    for cut in reversed(cuts):
        ends.append(int(cut[ends[-1]]))
    return cells.means([0, *reversed(ends)])


class _Cells:
    """Values in order, equal (or neighbouring) ones together; costs of runs of cells from running sums."""

    def __init__(self, values: Array):
        different, place = np.unique(values, return_inverse=True)
        if len(different) > CELLS:
            width = (different[-1] - different[0]) / CELLS
            cell = np.minimum(((values - different[0]) / width).astype(np.int64), CELLS - 1)
            place = np.unique(cell, return_inverse=True)[1]
        weight = np.bincount(place)
        total = np.bincount(place, values)
        squares = np.bincount(place, values * values)
        self._sums = [np.concatenate([[0.0], np.cumsum(each)]) for each in (weight, total, squares)]

    def __len__(self) -> int:
        return len(self._sums[0]) - 1

    def cost(self, start: Array, stop: Array) -> Array:
        """The sum of squares about the mean of the cells start..stop-1, 0 where there are none."""
        weight, total, squares = (sums[stop] - sums[start] for sums in self._sums)
        return np.maximum(squares - np.divide(total**2, weight, out=np.zeros_like(total), where=weight > 0), 0)

    def means(self, ends: Iterable[int]) -> Array:
        """The mean of each run between ends, float32, without those that rounding made equal."""
        places = np.array(list(ends))
        weight, total, _ = (np.diff(sums[places]) for sums in self._sums)
        return np.unique((total[weight > 0] / weight[weight > 0]).astype(np.float32))


def _one_group_more(costs: Array, cells: _Cells) -> tuple[Array, Array]:
    """The least cost of the first n cells with one group more, and where that group begins, for every n.

    All middles of one depth of the recursion are solved together.
    """
    size = len(cells)
    least, begins = np.zeros(size + 1), np.zeros(size + 1, np.int64)
    low, high = np.array([0]), np.array([size])  # which n are open
    first, last = np.array([0]), np.array([size])  # where their group may begin
    while len(low):
        middle = (low + high) // 2
        counts = np.minimum(last, middle) - first + 1
        offsets = np.cumsum(counts) - counts
        start = np.arange(counts.sum()) - np.repeat(offsets - first, counts)
        total = costs[start] + cells.cost(start, np.repeat(middle, counts))
        least[middle] = np.minimum.reduceat(total, offsets)
        hits = np.flatnonzero(total == np.repeat(least[middle], counts))
        chosen = start[hits[np.searchsorted(hits, offsets)]]
        begins[middle] = chosen
        low, high = np.concatenate([low, middle + 1]), np.concatenate([middle - 1, high])
        first, last = np.concatenate([first, chosen]), np.concatenate([chosen, last])
        open_ = low <= high
        low, high, first, last = low[open_], high[open_], first[open_], last[open_]
    return least, begins
