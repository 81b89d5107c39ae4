"""First and second moments of activations: all that least squares and batch norms need to know of them."""

import dataclasses
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from resfit.compression.side_by_side import Meeting, WeightLayer, normalised
from resfit.data.images import Images
from resfit.model.model import Model
from resfit.nn import plan as layout

PATCH_FLOATS = 16_000_000  # most that are unfolded at once
SAMPLES = 131_072  # pixels of a layer's output, over all images, that are looked at

Array = np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Means over pixels of one group of a layer; the last input is the constant 1, which the bias multiplies.

    inputs: float64 (inputs + 1, inputs + 1). targets: float64 (outputs, inputs + 1), targets times inputs. samples: how
    many pixels they are means of.
    """

    inputs: Array
    targets: Array
    samples: int

    @property
    def means(self) -> Array:
        """The inputs' means, float64 (inputs,)."""
        return self.inputs[-1, :-1]

    @property
    def covariance(self) -> Array:
        """Second moments about the means, float64 (inputs, inputs): errors that a bias makes good do not count."""
        return self.inputs[:-1, :-1] - np.outer(self.means, self.means)

    @property
    def target_covariance(self) -> Array:
        """float64 (outputs, inputs), about the inputs' means."""
        return self.targets[:, :-1] - np.outer(self.targets[:, -1], self.means)

    def part(self, outputs: Array, inputs: Array) -> "Moments":
        """Those of some outputs and some inputs, by their places, and of the constant."""
        places = np.append(inputs, len(self.inputs) - 1)
        parts = {"inputs": self.inputs[np.ix_(places, places)], "targets": self.targets[np.ix_(outputs, places)]}
        return dataclasses.replace(self, **parts)

    def without_constant(self) -> "Moments":
        """Those of a layer without a bias: nothing makes a mean error good."""
        inputs, targets = self.inputs.copy(), self.targets.copy()
        inputs[-1, :-1] = inputs[:-1, -1] = 0
        targets[:, -1] = 0
        return dataclasses.replace(self, inputs=inputs, targets=targets)


def moments_of(meeting: Meeting, generator: np.random.Generator) -> list[Moments]:
    """The moments of each group of a layer (one without groups), of pixels drawn with the generator."""
    groups = meeting.operation.groups if isinstance(meeting.operation, layout.Convolution) else 1
    sums: list[_Sums] = []
    for patches, targets in _samples(meeting, generator):
        parts = zip(patches.chunk(groups, 1), targets.chunk(groups, 1), strict=True)
        for group, (part, wanted) in enumerate(parts):
            if group == len(sums):
                sums.append(_Sums(part, wanted))
            sums[group].add(part, wanted)
    return [group.moments() for group in sums]


class _Sums:
    """Sums of products in float32, of what is left of numbers without about their means: few digits cancel later."""

    def __init__(self, inputs: Tensor, targets: Tensor):
        self.input_centre, self.target_centre = inputs.mean(0), targets.mean(0)
        size = len(self.input_centre) + 1
        self.squares = torch.zeros(size, size, dtype=torch.float64)
        self.products = torch.zeros(len(self.target_centre), size, dtype=torch.float64)

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        inputs = torch.cat([inputs - self.input_centre, torch.ones(len(inputs), 1)], 1)
        self.squares += (inputs.T @ inputs).double()
        self.products += ((targets - self.target_centre).T @ inputs).double()

    def moments(self) -> Moments:
        """With the centres put back, in float64."""
        count = float(self.squares[-1, -1])
        squares, products = (sums.div_(count).numpy() for sums in (self.squares, self.products))
        centre = np.append(self.input_centre.double().numpy(), 0.0)
        means = squares[-1].copy()  # of what is left of the inputs, and 1
        inputs = squares + np.outer(centre, means) + np.outer(means, centre) + np.outer(centre, centre)
        targets = products + np.outer(self.target_centre.double().numpy(), means)
        targets = targets + np.outer(targets[:, -1], centre)
        return Moments(inputs=inputs, targets=targets, samples=int(count))


@torch.inference_mode()
def channel_statistics(
    model: Model, images: Images, names: Collection[str], *, of: Literal["inputs", "outputs"]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Means and variances, float64 (channels,), of the maps that the modules of these names read or give.

    images: uint8 (N, height, width, channels), all of which are looked at, once.
    """
    if not names:
        return {}
    module = model.module()
    sums: dict[str, Tensor] = {}

    def add(name: str, values: Tensor) -> None:
        variance, mean = (part.double() for part in torch.var_mean(values, (0, 2, 3), correction=0))
        count = values.numel() / len(mean)
        parts = count * torch.stack([torch.ones_like(mean), mean, variance + mean**2])
        sums[name] = sums[name] + parts if name in sums else parts

    for name in names:
        module.get_submodule(name).register_forward_hook(
            lambda _module, inputs, output, name=name: add(name, inputs[0] if of == "inputs" else output)
        )
    for batch in normalised(model, images):
        module(batch)
    found = {}
    for name, (count, total, squares) in sums.items():
        mean = total / count
        found[name] = mean, (squares / count - mean**2).clamp_min(0)
    return found


def output_pixels(meeting: Meeting) -> int:
    """Pixels of the layer's output map; 1 of the classifier."""
    target = meeting.targets[0]
    return int(np.prod(target.shape[2:]))


def _samples(meeting: Meeting, generator: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of (samples, inputs of all groups) and (samples, outputs), a chunk of images at a time."""
    images = sum(map(len, meeting.inputs))
    pixels = output_pixels(meeting)
    kept = min(pixels, max(1, SAMPLES // images))
    for batch, wanted in zip(meeting.inputs, meeting.targets, strict=True):
        if batch.dim() == 2:
            yield batch, wanted
            continue
        size = max(1, PATCH_FLOATS // (batch.shape[1] * _area(meeting.operation) * pixels))
        for start in range(0, len(batch), size):
            some = slice(start, start + size)
            chosen = torch.from_numpy(np.sort(generator.choice(pixels, kept, replace=False)))
            outputs = wanted[some].flatten(2)[:, :, chosen]
            yield (
                _patches(meeting.operation, batch[some], chosen, wanted.shape[3]),
                outputs.permute(0, 2, 1).flatten(0, 1),
            )


def _area(operation: WeightLayer) -> int:
    return operation.kernel**2 if isinstance(operation, layout.Convolution) else 1


def _patches(operation: WeightLayer, batch: Tensor, chosen: Tensor, width: int) -> Tensor:
    """What the kernel reads at the chosen pixels of an output map of this width: (N pixels, inputs).

    Inputs are in the order of the weights. Gathered: to unfold whole maps, of which few pixels are chosen, takes long.
    """
    assert isinstance(operation, layout.Convolution)
    side = operation.kernel
    padded = torch.nn.functional.pad(batch, (side // 2,) * 4)
    images, channels, _, row = padded.shape
    corners = (chosen // width * row + chosen % width) * operation.stride
    window = (torch.arange(side)[:, None] * row + torch.arange(side)).flatten()
    read = padded.reshape(images * channels, -1).index_select(1, (corners[:, None] + window).flatten())
    return read.reshape(images, channels, len(chosen), -1).permute(0, 2, 1, 3).reshape(images * len(chosen), -1)
