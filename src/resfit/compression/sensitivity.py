"""How much an error of each output of each layer changes a network's answers."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from resfit.compression.side_by_side import BATCH, normalised
from resfit.data.images import Images
from resfit.engines.quantisation import quantised_layers
from resfit.model.model import Model
from resfit.randomness import rng

BATCH_PIXELS = 400_000  # of images whose gradients are held at once
LEAST_SHARE = 1e-3  # of a layer's largest: an output that no calibration image needs may matter to another


def output_sensitivity(model: Model, images: Images, *, seed: int) -> dict[str, np.ndarray]:
    """For each convolution and the classifier, by name: float64 (outputs,), summed over the pixels of the map.

    Half of it times a squared error of every pixel is what the error adds to the divergence (nats) between the
    network's probabilities before and after: the diagonal of the Fisher information with respect to the layer's
    outputs, averaged over the images, answers being drawn from the network's own probabilities.
    """
    module = model.module()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    names = quantised_layers(model.spec)
    outputs: dict[str, Tensor] = {}
    for name in names:
        module.get_submodule(name).register_forward_hook(_keeping(outputs, name))
    totals = {name: np.zeros(0) for name in names}
    size = max(1, min(BATCH, BATCH_PIXELS // (images.shape[1] * images.shape[2])))
    for number, batch in enumerate(normalised(model, images, size)):
        outputs.clear()
        _gradients(module, batch, outputs, totals, rng(seed, "drawn answers", index=number))
    return {name: _floored(total / len(images)) for name, total in totals.items()}


def _gradients(
    module: nn.Module,
    batch: Tensor,
    outputs: Mapping[str, Tensor],
    totals: dict[str, np.ndarray],
    generator: np.random.Generator,
) -> None:
    """Add the squared gradients of one batch."""
    logits = module(batch)
    chances = logits.detach().double().softmax(1).numpy().cumsum(1)
    # one number from each equal part of 0 to 1: rare answers are drawn about as often as they should be
    numbers = (generator.permutation(len(chances)) + generator.random(len(chances))) / len(chances)
    drawn = (chances < numbers[:, None] * chances[:, -1:]).sum(1)
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(drawn), reduction="sum")
    gradients = torch.autograd.grad(loss, list(outputs.values()))
    for name, gradient in zip(outputs, gradients, strict=True):
        squares = gradient.double().square().flatten(2) if gradient.dim() > 2 else gradient.double().square()[..., None]
        total = squares.sum((0, 2)).numpy()
        totals[name] = total if not totals[name].size else totals[name] + total


Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]


def _keeping(outputs: dict[str, Tensor], name: str) -> Hook:
    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        kept = output if output.requires_grad else output.detach().requires_grad_(True)
        outputs[name] = kept
        return kept.clone()  # what follows may write in place

    return keep


def _floored(sensitivity: np.ndarray) -> np.ndarray:
    largest = sensitivity.max(initial=0.0)
    return np.maximum(sensitivity, LEAST_SHARE * largest if largest > 0 else 1.0)
