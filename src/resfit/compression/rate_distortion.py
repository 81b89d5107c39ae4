"""Weights rounded so that a file is small and the answers stay: no training, some images, one number to choose.

The tradeoff says how much more divergence from the original's answers (nats) a saved bit may cost. It sets every
layer's steps and every symbol at once: a step's square is proportional to tradeoff over sensitivity, as for a
uniform quantiser with entropy coding (Gish and Pierce 1968), and a symbol is chosen by its cost in both.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from resfit.compression.correction import best_bias, best_stretch, best_weights, damped_covariance
from resfit.compression.error_feedback import Layer, expected_magnitudes, round_layer
from resfit.compression.moments import Moments, moments_of
from resfit.compression.moved_images import blended
from resfit.compression.sensitivity import output_sensitivity
from resfit.compression.side_by_side import Meeting, carry
from resfit.compression.small_tensors import rounded_small_tensors
from resfit.compression.symbol_costs import count, counted_costs, first_costs
from resfit.data.images import Images
from resfit.model.encoding import Encoding, Grid
from resfit.model.fold import fold
from resfit.model.model import Model
from resfit.nn import plan as layout
from resfit.randomness import rng

Array = np.ndarray

STEP_FACTOR = 6 / math.log(2)  # squared step over (tradeoff / sensitivity), where distortion is step^2 / 12
MANTISSA_BITS = 3  # of a scale: eight to a power of two, so that a scale costs few bits in a file
COUNT_DECAY = 0.5  # of what earlier layers' symbols weigh in the prices of the next
MOST_BITS = 16
MOST_SYMBOL = 2 ** (MOST_BITS - 1) - 1
MOST_STEPS = 2.0**14  # in the largest weight: half of MOST_SYMBOL, for what making errors good adds to it


def rate_distortion(
    model: Model,
    images: Images,
    *,
    tradeoff: float,
    seed: int,
    sensitivity: Mapping[str, Array] | None = None,
    keep_steps: bool = False,
    keep_zeros: bool = False,
) -> Model:
    """The folded model with its weights on grids, least in distortion + tradeoff x bits.

    images: uint8 (N, H, W, C) of training images, all of which are used. sensitivity: what `output_sensitivity`
    gave for the folded model and blends of the images, if it is at hand. keep_steps: round to the grids that the
    folded model has. keep_zeros: weights that are zero stay so.
    Each layer is rounded for the inputs that the rounded layers before it give, and its scale and bias then bring
    its outputs back to the original's (at the end of a branch, the sum's).
    The input is unchanged; same input, same result.
    """
    steps = {name: grid.scales for name, grid in model.encodings.items() if isinstance(grid, Grid) and keep_steps}
    folded = fold(dataclasses.replace(model, encodings={}, activation_ranges={}))
    if sensitivity is None:
        sensitivity = output_sensitivity(folded, blended(images, seed=seed), seed=seed)
    small = rounded_small_tensors(folded)
    rounding = _Rounding(folded, sensitivity, tradeoff, seed, steps, keep_zeros)
    carry(folded, small.weights, images, rounding)
    return dataclasses.replace(
        folded,
        weights={**folded.weights, **small.weights, **rounding.weights},
        encodings={**small.encodings, **rounding.encodings},
    )


class _Rounding:
    """Makes the copy's layers; the prices of symbols are learned on the way."""

    def __init__(
        self,
        model: Model,
        sensitivity: Mapping[str, Array],
        tradeoff: float,
        seed: int,
        steps: Mapping[str, Array],
        keep_zeros: bool,
    ):
        self.steps, self.keep_zeros = steps, keep_zeros
        self.model, self.sensitivity, self.tradeoff, self.seed = model, sensitivity, tradeoff, seed
        self.counts: Array | float = 0.0
        self.weights: dict[str, Tensor] = {}
        self.encodings: dict[str, Encoding] = {}

    def __call__(self, meeting: Meeting) -> tuple[Tensor, Tensor | None]:
        name = f"{meeting.name}.weight"
        original = self.model.weights[name]
        bias = self.model.weights.get(f"{meeting.name}.bias")
        generator = rng(self.seed, f"pixels of {meeting.name}")
        groups = moments_of(meeting, generator)
        weights = np.split(original.flatten(1).double().numpy(), len(groups))
        sensitivity = np.split(self.sensitivity[meeting.name] / 2, len(groups))
        area = meeting.operation.kernel**2 if isinstance(meeting.operation, layout.Convolution) else 1
        steps = np.split(self.steps[name], len(groups)) if name in self.steps else [None] * len(groups)
        parts = [
            self._group(*items, area=area, bias=bias is not None)
            for items in zip(weights, groups, sensitivity, steps, strict=True)
        ]
        symbols = np.concatenate([part[0] for part in parts]).reshape(original.shape)
        scales = np.concatenate([part[1] for part in parts])
        self._keep(name, symbols, scales, axis=0)
        if bias is None:
            return self.weights[name], None
        step = math.sqrt(STEP_FACTOR * self.tradeoff / float(np.exp(np.log(np.concatenate(sensitivity)).mean())))
        wanted = np.concatenate([part[2] for part in parts])
        self._keep_bias(f"{meeting.name}.bias", wanted, step)
        return self.weights[name], self.weights[f"{meeting.name}.bias"]

    def _group(
        self, weights: Array, moments: Moments, sensitivity: Array, steps: Array | None, *, area: int, bias: bool
    ) -> tuple[Array, Array, Array]:
        """Symbols (outputs, inputs), scales and biases (outputs,) of one group."""
        if not bias:
            moments = moments.without_constant()
        covariance = damped_covariance(moments)
        wanted = best_weights(weights, moments, covariance)
        if steps is None:
            spread = float(np.exp(2 * np.log(np.diag(covariance.factor)).mean()))
            steps = few_mantissa_bits(np.sqrt(STEP_FACTOR * self.tradeoff / (sensitivity * spread)))
        steps = np.maximum(steps, _least_steps(wanted))
        layer = Layer(
            weights=wanted,
            covariance=covariance,
            sensitivity=sensitivity,
            steps=steps,
            kernel_area=area,
            held=weights == 0 if self.keep_zeros else None,
        )
        symbols = np.clip(self._symbols(layer), -MOST_SYMBOL, MOST_SYMBOL)  # a weight may take over what many gave
        stretch = best_stretch(symbols * steps[:, None], moments, covariance)
        scales = few_mantissa_bits(steps * stretch)
        return symbols, scales, best_bias(symbols * scales[:, None], moments)

    def _symbols(self, layer: Layer) -> Array:
        """Rounded twice: at the prices that earlier layers taught, then at those of the layer itself."""
        costs = first_costs() if isinstance(self.counts, float) else counted_costs(self.counts)
        for _ in range(2):
            symbols = round_layer(layer, costs, tradeoff=self.tradeoff)
            counts = COUNT_DECAY * self.counts + count(symbols, expected_magnitudes(layer, symbols))
            costs = counted_costs(counts)
        self.counts = counts
        return symbols

    def _keep(self, name: str, symbols: Array, scales: Array, *, axis: int | None) -> None:
        grid = Grid(bits=bits_for(symbols), axis=axis, scales=scales.astype(np.float32))
        self.encodings[name] = grid
        self.weights[name] = torch.from_numpy(grid.values(symbols)).to(self.model.weights[name].dtype)

    def _keep_bias(self, name: str, wanted: Array, step: float) -> None:
        steps = np.maximum(few_mantissa_bits(np.array([step])), _least_steps(wanted[None]))
        self._keep(name, np.rint(wanted / steps).astype(np.int64), steps, axis=None)


def _least_steps(weights: Array) -> Array:
    """The least step of each row, float64 (rows,), whose symbols of the row's weights the most bits of a grid hold."""
    return few_mantissa_bits(np.abs(weights).max(axis=1) / MOST_STEPS)


def few_mantissa_bits(values: Array, bits: int = MANTISSA_BITS) -> Array:
    """The nearest floats with so many bits after the leading one, float64; positive, never below float32's normal."""
    mantissas, exponents = np.frexp(np.maximum(values, 2.0**-100))
    return np.ldexp(np.rint(mantissas * 2.0 ** (bits + 1)), exponents - bits - 1)


def bits_for(symbols: Array) -> int:
    """The least bits of a grid that holds the symbols, at most 16."""
    largest = int(np.abs(symbols).max(initial=0))
    return min(MOST_BITS, max(2, largest.bit_length() + 1))
