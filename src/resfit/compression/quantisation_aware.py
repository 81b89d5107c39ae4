"""Training on with rounded weights, so that the others make good what rounding did."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resfit.compression.fine_tune import FINE_TUNING, fine_tune
from resfit.compression.rate_distortion import bits_for, few_mantissa_bits
from resfit.data.dataset import Splits
from resfit.model.encoding import Grid
from resfit.model.fold import fold, folding_scales
from resfit.model.model import Model
from resfit.training.events import Subscriber
from resfit.training.recipe import Recipe

ROOM = 0.45  # of a step: how far from its symbol's middle a weight begins at most
SHRINK = 4e-5  # of a step, towards zero after each update: small symbols are cheap ones
LEAST_STEP = 2.0**-60
LEAST_FOLD = 1e-6  # of the largest: an output whose norm multiplies it by less is no output
WITH_NORMS = dataclasses.replace(FINE_TUNING, lr=0.02, weight_decay=0.0)
WITHOUT_NORMS = dataclasses.replace(WITH_NORMS, lr=0.002, clip_norm=1.0)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Lattice:
    """The grid of one tensor in the network that is trained: weight = symbol x step of its output.

    signs: of the factor by which a norm's folding multiplies each output, with which symbols change their sign.
    """

    steps: Tensor
    signs: Tensor
    limit: int

    def rounded(self, weight: Tensor) -> Tensor:
        """The nearest grid values; gradients pass as if nothing had happened (Bengio et al. 2013)."""
        nearest = torch.clamp(torch.round(weight / self.steps), -self.limit, self.limit) * self.steps
        return weight + (nearest - weight).detach()

    def shrink(self, weight: Tensor) -> None:
        """One proximal step of an L1 penalty that counts in symbols."""
        weight.copy_(weight.sign() * torch.relu(weight.abs() - SHRINK * self.steps))


def train_rounded(
    model: Model,
    rounded: Model,
    splits: Splits,
    *,
    epochs: int,
    teacher: Model,
    seed: int,
    threads: int | None = None,
    folder: Path | None = None,
    recipe: Recipe | None = None,
    on_event: Subscriber | None = None,
) -> Model:
    """The model trained on for so many epochs with weights on the grids of `rounded`; the result is on such grids.

    rounded: what `rate_distortion` made of the model. Norms, if the model has any, are trained along and folded at
    the end, which multiplies the steps. The result has its encodings but for the biases, which are floats:
    `rate_distortion` with its steps makes it fit to be stored. Other arguments as of `fine_tune`.
    """
    lattices = _lattices(model, rounded)
    scales = folding_scales(model)
    start = {name: _start(model.weights[name], rounded, name, lattice) for name, lattice in lattices.items()}

    def transform(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: lattice.rounded(parameters[name]) for name, lattice in lattices.items()}

    def project(parameters: Mapping[str, Tensor]) -> None:
        for name, lattice in lattices.items():
            lattice.shrink(parameters[name])

    trained = fine_tune(
        dataclasses.replace(model, weights={**model.weights, **start}, encodings={}, activation_ranges={}),
        splits,
        epochs=epochs,
        teacher=teacher,
        seed=seed,
        threads=threads,
        folder=folder,
        project=project,
        transform=transform,
        recipe=recipe or (WITH_NORMS if scales else WITHOUT_NORMS),
        on_event=on_event,
    )
    return _on_folded_grids(trained, lattices)


def _lattices(model: Model, rounded: Model) -> dict[str, _Lattice]:
    """The grids of `rounded`, as they are before the norms are folded in."""
    scales = folding_scales(model)
    lattices = {}
    for name, encoding in rounded.encodings.items():
        if not isinstance(encoding, Grid) or name not in model.weights or encoding.axis != 0:
            continue
        weight = model.weights[name]
        steps = torch.from_numpy(encoding.scales).double()
        signs = torch.ones_like(steps)
        if (scale := scales.get(name.removesuffix(".weight"))) is not None:
            signs = torch.where(scale < 0, -1.0, 1.0).double()
            sizes = scale.abs()
            dead = sizes <= LEAST_FOLD * sizes.max()
            largest = weight.double().flatten(1).abs().amax(1)
            steps = torch.where(dead, 4 * largest + LEAST_FOLD, steps / torch.where(dead, 1.0, sizes))
        steps, signs = (_spread(each, weight.dim()).to(weight.dtype) for each in (steps, signs))
        lattices[name] = _Lattice(steps=steps, signs=signs, limit=encoding.limit)
    return lattices


def _start(weight: Tensor, rounded: Model, name: str, lattice: _Lattice) -> Tensor:
    """Weights whose symbols are those of `rounded`, each as near to its old value as that allows."""
    encoding = rounded.encodings[name]
    symbols = torch.from_numpy(encoding.symbols(rounded.weights[name].float().numpy())).to(weight.dtype)
    middle = symbols * lattice.signs * lattice.steps
    room = ROOM * lattice.steps
    return middle + torch.clamp(weight - middle, -room, room)


def _on_folded_grids(trained: Model, lattices: Mapping[str, _Lattice]) -> Model:
    folded, scales = fold(trained), folding_scales(trained)
    weights, encodings = dict(folded.weights), {}
    for name, lattice in lattices.items():
        steps = lattice.steps.double().flatten()
        scale = scales.get(name.removesuffix(".weight"), torch.ones_like(steps))
        symbols = torch.round(trained.weights[name] / lattice.steps) * _spread(scale.sign(), lattice.steps.dim())
        steps = np.maximum((steps * scale.abs()).numpy(), LEAST_STEP)
        grid = Grid(bits=bits_for(symbols.numpy()), axis=0, scales=few_mantissa_bits(steps).astype(np.float32))
        encodings[name] = grid
        weights[name] = torch.from_numpy(grid.values(symbols.numpy())).to(trained.weights[name].dtype)
    return dataclasses.replace(folded, weights=weights, encodings=encodings)


def _spread(values: Tensor, dimensions: int) -> Tensor:
    return values.reshape(-1, *[1] * (dimensions - 1))
