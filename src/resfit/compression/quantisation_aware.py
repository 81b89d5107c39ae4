"""Training on with rounded weights, so that the others make good what rounding did.

A weight is trained as a multiple of its grid's step. The steps that `rate_distortion` chose make a symbol cost about
the same wherever it is, so that one rate suits all layers. Batch norms, which were folded, are put back for the
training: without them a shift of all of a layer's inputs would weigh more than anything else.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resfit.compression.fine_tune import BY_GRADIENT, fine_tune
from resfit.compression.moments import channel_statistics
from resfit.compression.rate_distortion import bits_for
from resfit.data.dataset import Splits
from resfit.engines.quantisation import quantised_layers
from resfit.model.encoding import Grid
from resfit.model.fold import can_be_unfolded, fold, folding_scales, normed_convolutions, unfold
from resfit.model.model import Model
from resfit.randomness import rng
from resfit.training.events import Subscriber
from resfit.training.recipe import Recipe

ROOM = 0.45  # of a step: how far from its symbol's middle a weight begins at most
BITS_A_SYMBOL = 2.0  # saved by a symbol that is nearer to zero by one
LOSS_A_NAT = 8.0  # of the training's loss, whose answers are softened, by a nat of divergence on blends of images
LEAST_STEP = 2.0**-60  # below, a folded weight is nothing
STATISTICS_IMAGES = 1024
IN_SYMBOLS = dataclasses.replace(BY_GRADIENT, lr=0.2, weight_decay=0.0)
OTHER_NORMS = dataclasses.replace(IN_SYMBOLS, lr=0.02)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Lattice:
    """The grid of one tensor: weight = symbol x step. price: what a symbol away from zero costs in the loss."""

    steps: Tensor
    limit: int
    price: float

    def rounded(self, weight: Tensor) -> Tensor:
        """The nearest grid values, with the gradient that trains symbols in place of weights."""
        nearest: Tensor = _Nearest.apply(weight, self)
        return nearest


class _Nearest(torch.autograd.Function):
    """Gradients pass as if nothing had happened (Bengio et al. 2013), in symbols and with the price of each."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, lattice: _Lattice) -> Tensor:
        nearest = torch.clamp(torch.round(weight / lattice.steps), -lattice.limit, lattice.limit)
        ctx.lattice, ctx.signs = lattice, nearest.sign()
        return nearest * lattice.steps

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        lattice = ctx.lattice
        by_symbol = gradients[0] * lattice.steps + lattice.price * ctx.signs
        return by_symbol * lattice.steps, None


def train_rounded(
    model: Model,
    rounded: Model,
    splits: Splits,
    *,
    tradeoff: float,
    epochs: int,
    teacher: Model,
    seed: int,
    threads: int | None = None,
    folder: Path | None = None,
    recipe: Recipe | None = None,
    on_event: Subscriber | None = None,
) -> Model:
    """`rounded` after so many epochs in which its weights moved from symbol to symbol.

    rounded: what `rate_distortion` made of the model with this tradeoff, which prices symbols here too. Weights of
    convolutions and the classifier are trained; norms keep their statistics up to date, and folding multiplies the
    steps by what changed. The result has its encodings but for the biases, which are floats: `rate_distortion` with
    its steps makes it fit to be stored. recipe: its rate is in symbols. Other arguments as of `fine_tune`.
    """
    folded = fold(dataclasses.replace(model, encodings={}, activation_ranges={}))
    lattices = _lattices(rounded, BITS_A_SYMBOL * LOSS_A_NAT * tradeoff)
    begun = dataclasses.replace(rounded, encodings={}, activation_ranges={})
    if can_be_unfolded(rounded.spec):
        drawn = np.sort(rng(seed, "statistics").permutation(len(splits.train))[:STATISTICS_IMAGES])
        images = splits.train.images[drawn]
        begun = unfold(begun, channel_statistics(begun, images, normed_convolutions(begun.spec), of="outputs"))
    start = {name: _start(folded.weights[name], rounded.weights[name], lattices[name]) for name in lattices}

    def transform(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: lattices[name].rounded(tensor) if name in lattices else tensor.detach()
            for name, tensor in parameters.items()
        }

    trained = fine_tune(
        dataclasses.replace(begun, weights={**begun.weights, **start}),
        splits,
        epochs=epochs,
        teacher=teacher,
        seed=seed,
        threads=threads,
        folder=folder,
        transform=transform,
        recipe=recipe or (IN_SYMBOLS if begun.spec.norm == "batch" else OTHER_NORMS),
        on_event=on_event,
    )
    origin = rounded.provenance  # a small file has no room for a second recipe: a note tells of this training
    provenance = dataclasses.replace(trained.provenance, recipe=origin.recipe, data=origin.data)
    return _on_folded_grids(dataclasses.replace(trained, provenance=provenance), lattices)


def _lattices(rounded: Model, price: float) -> dict[str, _Lattice]:
    """The grids of the convolutions and the classifier of `rounded`; biases and gates are not trained by symbols."""
    lattices = {}
    for name in (f"{layer}.weight" for layer in quantised_layers(rounded.spec)):
        encoding = rounded.encodings.get(name)
        if isinstance(encoding, Grid):
            weight = rounded.weights[name]
            steps = _spread(torch.from_numpy(encoding.scales).to(weight.dtype), weight.dim())
            lattices[name] = _Lattice(steps=steps, limit=encoding.limit, price=price)
    return lattices


def _start(weight: Tensor, rounded: Tensor, lattice: _Lattice) -> Tensor:
    """A weight whose symbol is that of `rounded`, as near to its old value as that allows."""
    room = ROOM * lattice.steps
    return rounded + torch.clamp(weight - rounded, -room, room)


def _on_folded_grids(trained: Model, lattices: Mapping[str, _Lattice]) -> Model:
    """`fold` of what was trained, on grids: the size of a norm's scale goes into the steps, its sign to the symbols."""
    folded, scales = fold(trained), folding_scales(trained)
    weights, encodings = dict(folded.weights), {}
    for name, lattice in lattices.items():
        steps = lattice.steps.double().flatten()
        scale = scales.get(name.removesuffix(".weight"), torch.ones_like(steps))
        silent = steps * scale.abs() < LEAST_STEP
        scale = torch.where(silent, 1.0, scale)  # of zeros alone: a later rounding has use for the step that there was
        signs = torch.where(silent, 0.0, scale.sign())
        symbols = torch.round(trained.weights[name] / lattice.steps) * _spread(signs, lattice.steps.dim())
        grid = Grid(bits=bits_for(symbols.numpy()), axis=0, scales=(steps * scale.abs()).float().numpy())
        encodings[name] = grid
        weights[name] = torch.from_numpy(grid.values(symbols.numpy())).to(trained.weights[name].dtype)
    return dataclasses.replace(folded, weights=weights, encodings=encodings)


def _spread(values: Tensor, dimensions: int) -> Tensor:
    return values.reshape(-1, *[1] * (dimensions - 1))
