"""Running a network and its compressed copy side by side, layer by layer, while the copy is being made."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from resfit.data.images import Images
from resfit.engines.quantisation import quantised_layers
from resfit.measure.macs import macs_by_operation, stages
from resfit.model.model import Model
from resfit.nn import plan as layout
from resfit.nn.resnet import build_module
from resfit.nn.spec import ResNetSpec
from resfit.randomness import rng

BATCH = 64
MOST_IMAGES, LEAST_IMAGES = 1024, 8
HELD_BYTES = 3e9  # of activations held in memory, roughly
MAPS_IN_A_BRANCH, MAPS_AT_ONCE = 8, 5  # of float32: both networks' shortcuts, and what a layer reads, gives and should

Batches = list[Tensor]
WeightLayer = layout.Convolution | layout.Linear


@dataclass(frozen=True, kw_only=True, eq=False)
class Meeting:
    """Where a layer of the copy is made: what it will read, and what should come out.

    inputs: batches of what the copy's layer reads, (N, C, H, W) or (N, C) of the classifier.
    targets: for each batch what the layer should give: the original's output, and at the end of a branch also what
        the copy's shortcut lacks of the original's, so that the branch makes it good.
    """

    name: str
    operation: WeightLayer
    inputs: Batches
    targets: Batches


Replace = Callable[[Meeting], tuple[Tensor, Tensor | None]]  # the copy's weight and bias


def carry(model: Model, changed: Mapping[str, Tensor], images: Images, replace: Replace) -> None:
    """Walk through a network in the order of computation and let `replace` make the copy's layers, one by one.

    changed: the copy's other weights, by name, where they differ from the model's. images: uint8 (N, H, W, C), of
    all of which memory holds both networks' activations at one point and, within a branch, at its shortcut. A layer's
    replacement decides what later layers of the copy read.
    """
    walk = _Walk(model, changed, replace)
    with torch.inference_mode():
        batches = list(normalised(model, images))
        walk.sequence(layout.plan(model.spec), "", _Pair(batches, list(batches)))


def few_images(model: Model, images: Images, *, seed: int) -> Images:
    """Images drawn with the seed: 8 to 1,024, of which `carry` holds about 3 x 10^9 bytes of activations at most."""
    size = model.preprocessing.height, model.preprocessing.width
    stage = max(int(np.prod(row["output_shape"])) for row in stages(model.spec, *size))
    largest = max(output_sizes(model.spec, *size).values())
    image_bytes = 4 * max(MAPS_IN_A_BRANCH * stage, MAPS_AT_ONCE * largest)
    count = int(min(MOST_IMAGES, max(LEAST_IMAGES, HELD_BYTES / image_bytes)))
    order = rng(seed, "calibration").permutation(len(images))[:count]
    return images[np.sort(order)]


def output_sizes(spec: ResNetSpec, height: int, width: int) -> dict[str, int]:
    """How many numbers each convolution and the classifier gives for an image, by name."""
    costs = macs_by_operation(spec, height, width)
    operations = dict(layout.walk(layout.plan(spec)))
    return {name: costs[name] // _products(operations[name]) for name in quantised_layers(spec)}


def _products(operation: layout.Operation) -> int:
    """How many an output is the sum of."""
    if isinstance(operation, layout.Linear):
        return operation.in_features
    assert isinstance(operation, layout.Convolution)
    return operation.in_channels // operation.groups * operation.kernel**2


def normalised(model: Model, images: Images, batch: int = BATCH) -> Iterator[Tensor]:
    """Batches of uint8 images as the network reads them, float32 (N, C, H, W)."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)
        for values in (model.preprocessing.mean, model.preprocessing.std)
    )
    for start in range(0, len(images), batch):
        pixels = torch.from_numpy(images[start : start + batch]).permute(0, 3, 1, 2).float()
        yield ((pixels / 255 - mean) / std).contiguous()


@dataclass(frozen=True, eq=False)
class _Pair:
    """The same point of both networks."""

    original: Batches
    copy: Batches

    def map(self, first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor]) -> "_Pair":
        return _Pair([first(batch) for batch in self.original], [second(batch) for batch in self.copy])

    def plus(self, other: "_Pair") -> "_Pair":
        return _Pair(
            [a + b for a, b in zip(self.original, other.original, strict=True)],
            [a + b for a, b in zip(self.copy, other.copy, strict=True)],
        )


class _Walk:
    def __init__(self, model: Model, changed: Mapping[str, Tensor], replace: Replace):
        self.original, self.copy, self.replace = model.weights, {**model.weights, **changed}, replace

    def sequence(
        self, operations: tuple[layout.Operation, ...], prefix: str, pair: _Pair, lacking: Batches | None = None
    ) -> _Pair:
        """The last operation is told what a shortcut beside it lacks."""
        for place, operation in enumerate(operations):
            at_end = place == len(operations) - 1
            pair = self.operation(operation, prefix + operation.name, pair, lacking if at_end else None)
        return pair

    def operation(self, operation: layout.Operation, name: str, pair: _Pair, lacking: Batches | None) -> _Pair:
        if isinstance(operation, layout.Convolution | layout.Linear):
            return self.layer(operation, name, pair, lacking)
        if isinstance(operation, layout.Sequence):
            return self.sequence(operation.operations, name + ".", pair)
        if isinstance(operation, layout.Residual):
            return self.residual(operation, name, pair)
        return pair.map(module_of(operation, name, self.original), module_of(operation, name, self.copy))

    def residual(self, operation: layout.Residual, name: str, pair: _Pair) -> _Pair:
        inner = name + "."
        before = self.sequence(operation.pre, inner, pair)
        if operation.plain:
            return self.sequence(operation.post, inner, self.sequence(operation.branch, inner, before))
        shortcut = before if operation.shortcut_reads_pre else pair
        if operation.shortcut is not None:
            shortcut = self.operation(operation.shortcut, inner + operation.shortcut.name, shortcut, None)
        lacking = [a - b for a, b in zip(shortcut.original, shortcut.copy, strict=True)]
        branch = self.sequence(operation.branch, inner, before, lacking)
        return self.sequence(operation.post, inner, shortcut.plus(branch))

    def layer(self, operation: WeightLayer, name: str, pair: _Pair, lacking: Batches | None) -> _Pair:
        module = module_of(operation, name, self.original)
        outputs = [module(batch) for batch in pair.original]
        targets = outputs if lacking is None else [a + b for a, b in zip(outputs, lacking, strict=True)]
        weight, bias = self.replace(Meeting(name=name, operation=operation, inputs=pair.copy, targets=targets))
        self.copy[f"{name}.weight"] = weight
        if bias is not None:
            self.copy[f"{name}.bias"] = bias
        module = module_of(operation, name, self.copy)
        return _Pair(outputs, [module(batch) for batch in pair.copy])


def module_of(operation: layout.Operation, name: str, weights: Mapping[str, Tensor]) -> nn.Module:
    """The module of one operation with its weights, which overwrites none of its inputs."""
    module = build_module(operation).eval()
    prefix = name + "."
    own = {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
    module.load_state_dict(own, assign=True)
    if isinstance(module, nn.ReLU):
        module.inplace = False
    return module
