"""How much a network's answers depend on each of its channels: what pruning takes away first."""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from resfit.compression.couplings import Wire, couplings, wires
from resfit.compression.sensitivity import answers_at
from resfit.data.images import Images
from resfit.errors import UsageError, nearest
from resfit.model.model import Model
from resfit.nn import plan as layout
from resfit.randomness import rng
from resfit.training.step import InputLayer

Importance = Literal["taylor", "magnitude", "norm_scale"]
IMAGES = 1024
BATCH = 16  # few enough that their derivatives hardly cancel before they are squared
BATCH_PIXELS = 1 << 18  # for the sake of memory
TEMPERATURE = 4.0  # of the answers: at 1 a well-trained network is so sure of them that nothing seems to matter


def importance(model: Model, images: Images, *, kind: Importance = "taylor", seed: int = 0) -> np.ndarray:
    """What the network loses with each channel, float64, by its number in couplings.wires.

    taylor: how far the answers would move from what they were, to second order (Molchanov et al. 2019, with labels
        drawn from the answers in place of the true ones): the expected square of the derivative by a factor before
        the channel wherever it is read. Over up to 1,024 images, uint8 (N, height, width, channels), drawn by `seed`.
    magnitude: the squares of all weights that write or read the channel, each layer's relative to its mean.
    norm_scale: the squared scales of the batch norms behind the convolutions that write it (Liu et al. 2017).
    UsageError for another kind, and for norm_scale where a channel has no batch norm.
    """
    if kind not in get_args(Importance):
        raise UsageError(f"there is no importance {kind!r}", hint=nearest(str(kind), get_args(Importance)))
    found = wires(model.spec)
    scores = np.zeros(1 + max(number for wire in found.values() for number in (*wire.reads, *wire.writes)))
    if kind == "taylor":
        return _taylor(model, images, found, scores, seed)
    for name, wire in found.items():
        if kind == "magnitude":
            _add_squares(scores, wire, model.weights.get(f"{name}.weight"))
        elif isinstance(wire.operation, layout.Norm) and wire.operation.kind == "batch":
            np.add.at(scores, list(wire.writes), model.weights[f"{name}.weight"].double().square().numpy())
    if kind == "norm_scale":
        for coupling in couplings(model.spec):
            if not scores[list(coupling.channels)].any():
                raise UsageError(
                    f"the channels of {coupling.name} have no batch norm", hint="choose taylor or magnitude"
                )
    return scores


def _add_squares(scores: np.ndarray, wire: Wire, weight: Tensor | None) -> None:
    if weight is None or not isinstance(wire.operation, layout.Convolution | layout.Linear):
        return
    squares = _by_pair(wire, weight.double().square())
    squares /= squares.mean() or 1.0
    np.add.at(scores, list(wire.writes), squares.mean(1))
    np.add.at(scores, list(wire.reads), squares.mean(0))


def _by_pair(wire: Wire, values: Tensor) -> np.ndarray:
    """Sums over the kernel of a tensor like the operation's weight, as (writes, reads); zero where none connects."""
    sums = values.reshape(*values.shape[:2], -1).sum(2)
    groups = wire.operation.groups if isinstance(wire.operation, layout.Convolution) else 1
    if groups > 1:
        sums = torch.block_diag(*sums.chunk(groups))
    return sums.double().numpy()


def _taylor(model: Model, images: Images, found: Mapping[str, Wire], scores: np.ndarray, seed: int) -> np.ndarray:
    order = rng(seed, "pruning").permutation(len(images))[:IMAGES]
    chosen = images[np.sort(order)]
    module = model.module().float()
    parameters = dict(module.named_parameters())
    input_layer = InputLayer(model.preprocessing, "contiguous")
    draws = rng(seed, "pruning answers")
    size = max(1, min(BATCH, BATCH_PIXELS // (images.shape[1] * images.shape[2])))
    for start in range(0, len(chosen), size):
        answers = module(input_layer(chosen[start : start + size])) / TEMPERATURE
        module.zero_grad()
        drawn = answers_at(answers, draws.random(len(answers)))
        functional.cross_entropy(answers, drawn, reduction="sum").backward()
        slopes = np.zeros_like(scores)
        for name, wire in found.items():
            if isinstance(wire.operation, layout.Convolution | layout.Linear):
                weight = parameters[f"{name}.weight"]
                assert weight.grad is not None
                np.add.at(slopes, list(wire.reads), _by_pair(wire, weight.detach() * weight.grad).sum(0))
        scores += np.square(slopes) / len(chosen)
    return scores
