"""Learning rate by step, and the optimiser's parameter groups."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from resfit.training.recipe import Recipe


def progress(step: float, steps: int, replans: Sequence[tuple[int, int]] = ()) -> float:
    """How far the schedule is before `step`, 0 to 1; each re-plan bends it so that it ends at its own steps."""
    start, done, end = 0, 0.0, steps
    for at, total in replans:
        if step < at:
            break
        done += (1 - done) * (at - start) / (end - start)
        start, end = at, total
    return done + (1 - done) * (step - start) / max(end - start, 1)


def learning_rate(recipe: Recipe, fraction: float) -> float:
    """The rate when `fraction` of the schedule is done: a linear rise, then a fall to zero."""
    assert recipe.lr is not None
    if fraction < recipe.warmup_fraction:
        return recipe.lr * fraction / recipe.warmup_fraction
    rest = (fraction - recipe.warmup_fraction) / max(1 - recipe.warmup_fraction, 1e-9)
    if recipe.schedule == "linear":
        return recipe.lr * max(1 - rest, 0.0)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; decay acts on weights of two and more dimensions (convolutions, classifier)."""
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    assert recipe.lr is not None
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, 0.99))
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
