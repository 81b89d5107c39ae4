"""Second moments of what a layer reads and what it should give: all that least squares needs to know."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resfit.compression.side_by_side import Meeting, WeightLayer
from resfit.nn import plan as layout

PATCH_FLOATS = 16_000_000  # most that are unfolded at once
SAMPLES = 131_072  # pixels of a layer's output, over all images, that are looked at

Array = np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Means over pixels of one group of a layer; the last input is the constant 1, which the bias multiplies.

    inputs: float64 (inputs + 1, inputs + 1). targets: float64 (outputs, inputs + 1), targets times inputs.
    """

    inputs: Array
    targets: Array

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


def moments_of(meeting: Meeting, generator: np.random.Generator) -> list[Moments]:
    """The moments of each group of a layer (one without groups), of pixels drawn with the generator."""
    groups = meeting.operation.groups if isinstance(meeting.operation, layout.Convolution) else 1
    sums: list[tuple[Tensor, Tensor]] = []
    count = 0
    for patches, targets in _samples(meeting, generator):
        ones = torch.ones(len(patches), 1)
        parts = zip(patches.chunk(groups, 1), targets.chunk(groups, 1), strict=True)
        for group, (part, wanted) in enumerate(parts):
            inputs = torch.cat([part, ones], 1)
            squares, products = (inputs.T @ inputs).double(), (wanted.T @ inputs).double()
            if group == len(sums):
                sums.append((squares, products))
            else:
                sums[group] = (sums[group][0] + squares, sums[group][1] + products)
        count += len(patches)
    return [Moments(inputs=a.numpy() / count, targets=b.numpy() / count) for a, b in sums]


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
            patches = _patches(meeting.operation, batch[some])[:, :, chosen]
            yield _rows(patches), _rows(wanted[some].flatten(2)[:, :, chosen])


def _area(operation: WeightLayer) -> int:
    return operation.kernel**2 if isinstance(operation, layout.Convolution) else 1


def _patches(operation: WeightLayer, batch: Tensor) -> Tensor:
    """What the kernel reads at each output pixel: (N, inputs, pixels), in the order of the weights."""
    assert isinstance(operation, layout.Convolution)
    if operation.kernel == 1:
        return batch[:, :, :: operation.stride, :: operation.stride].flatten(2)
    return torch.nn.functional.unfold(batch, operation.kernel, padding=operation.kernel // 2, stride=operation.stride)


def _rows(values: Tensor) -> Tensor:
    return values.permute(0, 2, 1).flatten(0, 1)
