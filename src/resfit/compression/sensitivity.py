"""How much an error of each output of each layer changes a network's answers."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from resfit.compression.side_by_side import BATCH, normalised, output_sizes
from resfit.data.images import Images
from resfit.engines.quantisation import quantised_layers
from resfit.model.model import Model
from resfit.nn.spec import ResNetSpec
from resfit.randomness import rng

ACTIVATION_BYTES = 1e9  # of the images whose gradients are found together
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
    totals: dict[str, np.ndarray] = {}
    for name in quantised_layers(model.spec):
        module.get_submodule(name).register_forward_hook(_adding_squares(totals, name))
    size = min(BATCH, _images_at_once(model.spec, images.shape[1], images.shape[2]))
    for number, batch in enumerate(normalised(model, images, size)):
        logits = module(batch)
        answers = answers_at(logits, _even_numbers(len(batch), rng(seed, "drawn answers", index=number)))
        nn.functional.cross_entropy(logits, answers, reduction="sum").backward()
    return {name: _floored(totals[name] / len(images)) for name in quantised_layers(model.spec)}


def answers_at(logits: Tensor, numbers: np.ndarray) -> Tensor:
    """The class of each image where its probabilities, added up, reach its number of 0 to 1; int64 (N,)."""
    reached = logits.detach().double().softmax(1).numpy().cumsum(1)
    return torch.from_numpy((reached < numbers[:, None] * reached[:, -1:]).sum(1))


def _even_numbers(count: int, generator: np.random.Generator) -> np.ndarray:
    """One from each equal part of 0 to 1: rare answers are drawn about as often as they should be."""
    numbers: np.ndarray = (generator.permutation(count) + generator.random(count)) / count
    return numbers


Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]


def _adding_squares(totals: dict[str, np.ndarray], name: str) -> Hook:
    """Adds the squares of an output's gradient as soon as it is known: no two layers' gradients are held at once."""

    def add(gradient: Tensor) -> None:
        squares = gradient.double().square().sum(0)
        total = (squares.flatten(1).sum(1) if squares.dim() > 1 else squares).numpy()
        totals[name] = totals.get(name, 0.0) + total

    def follow(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not output.requires_grad:  # the stem's, as no weight is to be trained
            output = output.requires_grad_(True).clone()  # what follows may write in place
        output.register_hook(add)
        return output

    return follow


def _images_at_once(spec: ResNetSpec, height: int, width: int) -> int:
    """So few that the outputs of all layers, and as much again that is kept between them, fit into memory."""
    outputs = sum(output_sizes(spec, height, width).values())
    return max(1, int(ACTIVATION_BYTES / (2 * 4 * outputs)))


def _floored(sensitivity: np.ndarray) -> np.ndarray:
    largest = sensitivity.max(initial=0.0)
    return np.maximum(sensitivity, LEAST_SHARE * largest if largest > 0 else 1.0)
