"""A model whose answers are known: it tells which of red, green and blue is strongest in an image."""

import dataclasses

import torch
from random_models import TINY, random_model

from resfit.model.model import Model

COLOURS = ("blue", "green", "red")


def colour_model(side: int = 12) -> Model:
    """Tells the strongest of three channels: the mean of a channel is its logit, and nothing is learned."""
    spec = dataclasses.replace(TINY, depths=(1,), widths=(16,), strides=(1,), num_classes=3)
    model = random_model(spec, side=side, trained=True)
    weights = {name: torch.zeros_like(tensor) for name, tensor in model.weights.items()}
    for name, tensor in model.weights.items():
        if name.endswith("running_var"):
            weights[name] = torch.ones_like(tensor)
    for channel in range(3):
        weights["conv1.weight"][channel, channel, 1, 1] = 1
        weights["fc.weight"][2 - channel, channel] = 4  # blue, green, red
    weights["bn1.weight"][:] = 1
    weights["bn1.bias"][:3] = 4  # so that the activation cuts nothing off
    preprocessing = dataclasses.replace(model.preprocessing, mean=(0.3,) * 3, std=(0.2,) * 3)
    return dataclasses.replace(model, weights=weights, labels=COLOURS, preprocessing=preprocessing)
