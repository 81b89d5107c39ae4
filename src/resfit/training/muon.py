"""Muon: convolutions learn by the direction of their gradient alone, with all of its parts made equally strong."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

STEP_SHARE = 0.1  # of the rate: how long a convolution's step is, relative to its weights
# The quintic of Jordan et al. 2024
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
SMALLEST = 1e-20  # length: nothing is divided by less


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for convolutions with a norm behind them, SGD with momentum for all else.

    A group with "convolution_groups" holds weights of convolutions with so many groups, (out, in / groups, height,
    width). The momentum of each is a matrix of (out / groups) rows for every group; the step has its directions at
    equal strength, and STEP_SHARE of the rate times the length of the weights, which stays what it was: a norm takes
    it out again, and steps of a share of it would let it grow without end. So neither the size of the gradient nor
    decay matters there; without any gradient the weights rest. A step costs the same for every number of images.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float, nesterov: bool = True):
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        super().__init__(groups, {**defaults, "weight_decay": 0.0, "convolution_groups": None})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates all parameters that have a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        lr, momentum, parts = group["lr"], group["momentum"], group["convolution_groups"]
        if parts is None:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        mean = state["momentum_buffer"].mul_(momentum).add_(gradient)
        ahead = gradient.add(mean, alpha=momentum) if group["nesterov"] else mean
        if parts is None:
            parameter.sub_(ahead, alpha=lr)
        elif gradient.any():
            directions = orthogonal(ahead.reshape(parts, len(parameter) // parts, -1)).reshape(parameter.shape)
            turn(parameter, directions, STEP_SHARE * lr)


def turn(weights: Tensor, directions: Tensor, share: float) -> None:
    """Steps against the directions by that share of the weights' length, which stays.

    weights: (out, in / groups, height, width), in place; zeros step by the share of the length that He et al. begin at.
    """
    length = weights.norm()
    usual = math.sqrt(2 * len(weights))  # of weights with a variance of 2 / fan in
    weights.sub_(directions * (share * (length if length > 0 else usual) / directions.norm().clamp_min(SMALLEST)))
    if length > 0:
        weights.mul_(length / weights.norm().clamp_min(SMALLEST))


def orthogonal(matrices: Tensor) -> Tensor:
    """About the nearest matrices with orthogonal rows or columns, (N, rows, columns): U V' of each U S V'.

    By Newton and Schulz's iteration as Muon has it: multiplications alone. Singular values above 0.003 of a matrix's
    length come out within 0.68 and 1.2, smaller ones below.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    found = matrices.mT if tall else matrices
    found = found / found.norm(dim=(1, 2), keepdim=True).clamp_min(SMALLEST)
    for _ in range(ROUNDS):
        square = found @ found.mT
        found = a * found + (b * square + c * square @ square) @ found
    return found.mT if tall else found
