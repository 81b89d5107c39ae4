"""The recipe's optimiser, and the limits a recipe sets to gradients and weights."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from resfit.errors import UsageError
from resfit.nn.resnet import ResNet, SqueezeExcite
from resfit.training.freezing import layers, rate_factors
from resfit.training.muon import Muon
from resfit.training.recipe import DEFAULT_MOMENTUM, Recipe

SECOND_DECAY = 0.99  # of Adam's squared gradients: a hundred steps, as short trainings need
NORMS_BEHIND = ("batch", "group")  # every convolution of a branch, or the sum it ends in
DAMPING = 1e-8
DAMPING_RMSPROP = 1e-3  # Inception's (Szegedy et al. 2016): with the usual 1e-8 its first steps are wild


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser: Muon, or one of torch.optim.

    Decay acts on weights of two and more dimensions (convolutions, classifier), on norms and biases only where
    the recipe says so. In adamw it is apart from the gradient (Loshchilov and Hutter 2019), else part of it; muon's
    convolutions have none. A group has the entry "factor": what the recipe's rate is multiplied by. UsageError for
    muon and a network without norms.
    """
    assert recipe.lr is not None
    groups = _groups(network, recipe)
    momentum = DEFAULT_MOMENTUM.get(recipe.optimizer, 0.0) if recipe.momentum is None else recipe.momentum
    nesterov = momentum > 0 if recipe.nesterov is None else recipe.nesterov
    if recipe.optimizer == "sgd":
        # One pass over the weights in place of six, equal to rounding; weights that begin later have no momentum there
        fused = not recipe.freeze_epochs
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=momentum, nesterov=nesterov, fused=fused)
    if recipe.optimizer == "muon":
        return Muon(groups, lr=recipe.lr, momentum=momentum, nesterov=nesterov)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=recipe.lr, alpha=0.9, momentum=momentum, eps=DAMPING_RMSPROP)
    if recipe.optimizer == "adagrad":
        return torch.optim.Adagrad(groups, lr=recipe.lr)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=recipe.lr, betas=(momentum, SECOND_DECAY), eps=DAMPING)


def _groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters by decay; by layer too where the recipe gives layers rates of their own."""
    parts = [list(network.parameters())] if recipe.layer_decay == 1.0 else layers(network)
    factors = rate_factors(len(parts), recipe.layer_decay)
    groups = [
        {**group, "factor": factor}
        for part, factor in zip(parts, factors, strict=True)
        for group in _by_decay(part, recipe)
    ]
    return groups if recipe.optimizer != "muon" else [part for group in groups for part in _by_kind(group, network)]


def _by_decay(parameters: list[nn.Parameter], recipe: Recipe) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {
            "params": [p for p in parameters if p.ndim <= 1],
            "weight_decay": recipe.weight_decay if recipe.decay_norms else 0.0,
        },
    ]


def _by_kind(group: dict[str, Any], network: nn.Module) -> list[dict[str, Any]]:
    """A group for Muon in parts: weights of convolutions by their number of groups, and all else."""
    groups = _normed_convolutions(network)
    found: dict[int | None, list[nn.Parameter]] = {}
    for parameter in group["params"]:
        found.setdefault(groups.get(parameter), []).append(parameter)
    return [{**group, "params": part, "convolution_groups": number} for number, part in found.items()]


def _normed_convolutions(network: nn.Module) -> dict[nn.Parameter, int]:
    """Weights whose length the norms behind them take out, and their convolutions' groups.

    UsageError for a network without such norms.
    """
    if isinstance(network, ResNet) and network.spec.norm not in NORMS_BEHIND:
        raise UsageError(
            f"muon needs a norm behind the convolutions, and this network's norm is {network.spec.norm}",
            hint="choose sgd, or a network with norms",
        )
    gates = {id(part) for module in network.modules() if isinstance(module, SqueezeExcite) for part in module.modules()}
    return {
        cast(nn.Parameter, module.weight): module.groups
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and id(module) not in gates
    }


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every group of parameters its rate where that of the whole is `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("factor", 1.0)


def decayed_weights(network: nn.Module) -> list[nn.Parameter]:
    """Weights of convolutions and the classifier: all parameters of two and more dimensions."""
    return [p for p in network.parameters() if p.ndim > 1]


@torch.no_grad()
def add_l1(weights: list[nn.Parameter], l1: float) -> None:
    """Adds the gradient of l1 times the sum of absolute weights, of those that learn."""
    for weight in weights:
        if weight.grad is None:
            continue
        weight.grad.add_(weight.sign(), alpha=l1)


def limit_gradients(gradients: list[Tensor], norm: Tensor, recipe: Recipe) -> None:
    """Cuts each gradient at clip_value, then scales all of them down to clip_norm; `norm` is that of all before."""
    if recipe.clip_value is not None:
        for gradient in gradients:
            gradient.clamp_(-recipe.clip_value, recipe.clip_value)
        norm = nn.utils.get_total_norm(gradients)
    if recipe.clip_norm is not None and norm > recipe.clip_norm:
        for gradient in gradients:
            gradient.mul_(recipe.clip_norm / norm)


@torch.no_grad()
def limit_weights(weights: list[nn.Parameter], recipe: Recipe) -> None:
    """Keeps each weight within clip_weights, and the weights of each output within max_norm (Srivastava 2014)."""
    for weight in (weight for weight in weights if weight.requires_grad):
        if recipe.clip_weights is not None:
            weight.clamp_(-recipe.clip_weights, recipe.clip_weights)
        if recipe.max_norm is not None:
            norms = weight.flatten(1).norm(dim=1).clamp_min(recipe.max_norm)
            weight.mul_((recipe.max_norm / norms).reshape(-1, *[1] * (weight.ndim - 1)))
