"""Everything that is no convolution's or classifier's: norms, squeeze-and-excite gates, learned slopes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from resfit.compression.weight_grids import dequantised, largest_grid
from resfit.engines.quantisation import quantised_layers
from resfit.model.encoding import Encoding, Float
from resfit.model.model import Model

GATE_BITS = 8
HALF_LIMIT = 65504.0
HALF_LEAST = 2.0**-14  # below, half precision loses digits


@dataclass(frozen=True, kw_only=True, eq=False)
class SmallTensors:
    """Weights by name, as their encodings hold them."""

    weights: Mapping[str, Tensor]
    encodings: Mapping[str, Encoding]


def rounded_small_tensors(model: Model) -> SmallTensors:
    """Matrices on 8-bit grids an output, vectors in 16-bit floats; counters and single numbers are left as they are."""
    layers = set(quantised_layers(model.spec))
    weights: dict[str, Tensor] = {}
    encodings: dict[str, Encoding] = {}
    for name, tensor in model.weights.items():
        if name.rpartition(".")[0] in layers or not tensor.is_floating_point() or tensor.numel() < 2:
            continue
        values = tensor.float().numpy()
        encoding = largest_grid(values, GATE_BITS) if values.ndim > 1 else _sixteen_bits(values)
        encodings[name] = encoding
        weights[name] = dequantised(tensor, encoding)
    return SmallTensors(weights=weights, encodings=encodings)


def _sixteen_bits(values: np.ndarray) -> Float:
    sizes = np.abs(values[values != 0])
    fits = not sizes.size or (sizes.max() <= HALF_LIMIT and sizes.min() >= HALF_LEAST)
    return Float(kind="fp16" if fits else "bf16")
