"""The plain ways to fewer bits a weight, without training or images: integer grids and 16-bit floats."""

import dataclasses
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from resfit.engines.quantisation import quantised_layers
from resfit.errors import UsageError
from resfit.model.encoding import Encoding, Float, Grid, nearest_values
from resfit.model.fold import fold
from resfit.model.model import Model

LEAST_SCALE = 2.0**-16  # of the layer's largest: a dead output's bias must still fit 32 bits of its scale
CLIPS = np.linspace(1.0, 0.4, 25)  # shares of the largest weight that are tried as the grid's end

Array = np.ndarray


def on_grids(model: Model, *, bits: int) -> Model:
    """The folded model with the weights of convolutions and the classifier on grids of 2 to 8 bits an output.

    The end of each grid is where the squared error of its rounded weights is least. Biases are kept as floats.
    """
    if not 2 <= bits <= 8:
        raise UsageError(f"weights of {bits} bits", hint="choose 2 to 8 bits")
    folded = fold(plain(model))
    names = [f"{name}.weight" for name in quantised_layers(folded.spec)]
    return encoded(folded, {name: nearest_grid(_array(folded.weights[name]), bits) for name in names})


def as_halves(model: Model, *, kind: Literal["fp16", "bf16"]) -> Model:
    """The folded model with every float tensor in 16-bit floats; ModelError where half precision overflows."""
    folded = fold(plain(model))
    names = [name for name, tensor in folded.weights.items() if tensor.is_floating_point()]
    return encoded(folded, dict.fromkeys(names, Float(kind=kind)))


def encoded(model: Model, encodings: dict[str, Encoding]) -> Model:
    """The model with tensors brought to the nearest values of their encodings."""
    changed = {name: dequantised(model.weights[name], encoding) for name, encoding in encodings.items()}
    return dataclasses.replace(model, weights={**model.weights, **changed}, encodings={**model.encodings, **encodings})


def dequantised(tensor: Tensor, encoding: Encoding) -> Tensor:
    """The nearest values that the encoding has, in the tensor's type."""
    return torch.from_numpy(nearest_values(encoding, _array(tensor))).to(tensor.dtype)


def plain(model: Model) -> Model:
    """The model without what speaks of its present values, which are about to change."""
    return dataclasses.replace(model, encodings={}, activation_ranges={})


def largest_grid(values: Array, bits: int) -> Grid:
    """A grid an output (axis 0) that ends at the output's largest weight."""
    return _grid(_largest(values), bits)


def nearest_grid(values: Array, bits: int) -> Grid:
    """A grid an output (axis 0) that ends where the rounded weights' squared error is least."""
    largest = _largest(values)
    errors = np.stack([_errors(values, _grid(largest * clip, bits)) for clip in CLIPS])
    return _grid(largest * CLIPS[errors.argmin(axis=0)], bits)


def _largest(values: Array) -> Array:
    largest = np.abs(values.reshape(len(values), -1)).max(axis=1).astype(np.float64)
    return np.maximum(largest, largest.max() * LEAST_SCALE)


def _grid(ends: Array, bits: int) -> Grid:
    scales = ends / (2 ** (bits - 1) - 1)
    return Grid(bits=bits, axis=0, scales=np.where(scales > 0, scales, 1.0).astype(np.float32))


def _errors(values: Array, grid: Grid) -> Array:
    difference = nearest_values(grid, values) - values
    return np.square(difference.reshape(len(values), -1), dtype=np.float64).sum(axis=1)


def _array(tensor: Tensor) -> Array:
    return tensor.float().numpy()
