"""Quantisation to 8 bits without training: what the int8 graph needs, from a model and some training images."""

import bisect
import dataclasses
from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from resfit.compression.side_by_side import normalised
from resfit.compression.weight_grids import dequantised, largest_grid
from resfit.data.images import Images
from resfit.engines.quantisation import activation_grid, quantised_layers, quantised_tensors
from resfit.errors import UsageError
from resfit.measure.macs import macs
from resfit.model.encoding import Encoding
from resfit.model.fold import fold
from resfit.model.model import Model, Range
from resfit.randomness import rng

CALIBRATION_IMAGES = 256
SENSITIVITY_IMAGES, LEAST_SENSITIVITY_IMAGES = 128, 8
SENSITIVITY_MACS = 64_000_000_000  # of a group's images together: a few seconds
BITS = 8
MIN_AGREEMENT = 0.95
MAX_GROUPS = 64  # parts whose sensitivity is measured one by one; larger networks take neighbours together


def quantise(model: Model, images: Images, *, seed: int = 0, min_agreement: float = MIN_AGREEMENT) -> Model:
    """A model with batch norms folded, 8-bit weights by output channel, and calibrated activation ranges.

    images: uint8 (N, height, width, channels) from training; up to 256 are drawn with the seed. If a trained
    model's answers on them stay the same on a smaller fraction than `min_agreement`, the parts that disturb the
    logits most stay float, one after another, until they do not; a note says which, and an artifact's float_layers
    which layers that leaves in float. The input is unchanged; same input, same result.
    """
    if not 0 <= min_agreement <= 1:
        raise UsageError(f"min_agreement is {min_agreement:g}, expected a fraction, 0 to 1")
    preprocessing = model.preprocessing
    expected = (preprocessing.height, preprocessing.width, preprocessing.channels)
    if images.dtype != np.uint8 or images.shape[1:] != expected or not len(images):
        raise UsageError(
            f"calibration images are {images.dtype} of shape {images.shape}, "
            f"expected uint8 of shape (at least 1, {', '.join(map(str, expected))})"
        )
    folded = fold(dataclasses.replace(model, encodings={}, activation_ranges={}))
    order = rng(seed, "calibration").permutation(len(images))[:CALIBRATION_IMAGES]
    chosen = images[np.sort(order)]
    ranges, reference = calibrate(folded, chosen)
    parts = _Parts(weights=weight_encodings(folded), ranges=ranges)
    trained = model.provenance.trained  # the answers of an untrained network agree with nothing
    float_parts = _float_parts(folded, parts, chosen, reference, min_agreement) if trained else ()
    return _encoded(folded, parts.without(float_parts), float_parts)


def weight_encodings(model: Model) -> dict[str, Encoding]:
    """A symmetric 8-bit grid by output channel for each convolution and the classifier, by weight name."""
    names = [f"{name}.weight" for name in quantised_layers(model.spec)]
    return {name: largest_grid(model.weights[name].detach().float().numpy(), BITS) for name in names}


def calibrate(model: Model, images: Images) -> tuple[dict[str, Range], Tensor]:
    """The least and greatest value, over the images, of each tensor the int8 graph rounds; and the logits."""
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}

    def observe(name: str, output: Tensor) -> None:
        low, high = (float(value) for value in torch.aminmax(output))
        lows[name] = min(low, lows.get(name, low))
        highs[name] = max(high, highs.get(name, high))

    logits = _logits(model, images, quantised_tensors(model.spec), observe)
    return {name: Range(low=lows[name], high=highs[name]) for name in lows}, logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Parts:
    """What is rounded: weights by name, activations by tensor name."""

    weights: Mapping[str, Encoding]
    ranges: Mapping[str, Range]

    def names(self) -> tuple[str, ...]:
        return (*self.weights, *self.ranges)

    def without(self, names: Collection[str]) -> "_Parts":
        return self.only([name for name in self.names() if name not in names])

    def only(self, names: Collection[str]) -> "_Parts":
        return _Parts(
            weights={name: encoding for name, encoding in self.weights.items() if name in names},
            ranges={name: values for name, values in self.ranges.items() if name in names},
        )


def _encoded(folded: Model, parts: _Parts, float_parts: Collection[str]) -> Model:
    weights = dict(folded.weights)
    for name, encoding in parts.weights.items():
        weights[name] = dequantised(weights[name], encoding)
    provenance = folded.provenance
    if float_parts:
        note = f"int8 kept these parts in float to hold the accuracy: {', '.join(float_parts)}"
        provenance = dataclasses.replace(provenance, notes=(*provenance.notes, note))
    return dataclasses.replace(
        folded,
        weights=weights,
        encodings=dict(parts.weights),
        activation_ranges=dict(parts.ranges),
        provenance=provenance,
    )


def _float_parts(
    folded: Model, parts: _Parts, images: Images, reference: Tensor, min_agreement: float
) -> tuple[str, ...]:
    """Names that must stay float for the rounded network to answer as the float one does."""
    if _agreement(_rounded_logits(folded, parts, images), reference) >= min_agreement:
        return ()
    few = images[: _sensitivity_images(folded)]
    groups = _most_disturbing_first(folded, parts, few, reference[: len(few)])

    def first(count: int) -> list[str]:
        return [name for group in groups[:count] for name in group]

    def enough(count: int) -> bool:
        return _agreement(_rounded_logits(folded, parts.without(first(count)), images), reference) >= min_agreement

    # With all of them in float the answers are the same, and with more they hardly get worse: halve the range
    return tuple(first(bisect.bisect_left(range(len(groups)), True, lo=1, key=enough)))


def _sensitivity_images(model: Model) -> int:
    """Fewer for a network that takes longer: the scan runs it once a group."""
    each = macs(model.spec, model.preprocessing.height, model.preprocessing.width)
    return max(LEAST_SENSITIVITY_IMAGES, min(SENSITIVITY_IMAGES, SENSITIVITY_MACS // each))


def _most_disturbing_first(folded: Model, parts: _Parts, images: Images, reference: Tensor) -> list[list[str]]:
    """The names in groups of neighbours, by the squared error of the logits when only that group is rounded."""
    names = parts.names()
    groups = [[str(name) for name in group] for group in np.array_split(names, min(MAX_GROUPS, len(names)))]
    errors = [
        float((_rounded_logits(folded, parts.only(group), images) - reference).square().mean()) for group in groups
    ]
    return [groups[index] for index in np.argsort(errors)[::-1]]


def _agreement(logits: Tensor, reference: Tensor) -> float:
    return float((logits.argmax(1) == reference.argmax(1)).float().mean())


def _rounded_logits(folded: Model, parts: _Parts, images: Images) -> Tensor:
    """Logits of the network with these parts rounded, as the int8 graph rounds them."""
    grids = {name: activation_grid(values.low, values.high) for name, values in parts.ranges.items()}

    def rounded(name: str, output: Tensor) -> Tensor:
        grid = grids[name]
        return torch.fake_quantize_per_tensor_affine(output, grid.scale, grid.zero_point, 0, 255)

    return _logits(_encoded(folded, parts, ()), images, tuple(grids), rounded)


def _logits(
    model: Model, images: Images, names: Collection[str], hook: Callable[[str, Tensor], Tensor | None]
) -> Tensor:
    """Logits of all images; the hook sees (and may replace) the output of each module named, and "input"."""
    module = model.module()
    for name in names:
        if name == "input":
            module.register_forward_pre_hook(lambda _module, inputs: hook("input", inputs[0]))
        else:
            part = module.get_submodule(name)
            part.register_forward_hook(lambda _module, _inputs, output, name=name: hook(name, output))
    with torch.inference_mode():
        return torch.cat([module(batch) for batch in normalised(model, images)])
