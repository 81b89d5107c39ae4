"""Muon: convolutions learn by the direction of their gradient alone, with all of its parts made equally strong."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

STEP_SHARE = 0.1  # of the rate: how long a convolution's step is, relative to its weights
# The quintic of Jordan et al. 2024: five rounds of it take singular values from 0.003 to 1 into 0.7 to 1.2
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
SMALLEST = 1e-20  # norm: nothing is divided by less


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for convolutions, SGD with Nesterov's momentum for all else.

    A group with "convolution_groups" holds weights of convolutions with so many groups, (out, in / groups, height,
    width). The momentum of each is a matrix of (out / groups) rows for every group; the step has its directions at
    equal strength, and STEP_SHARE of the rate times the length of the weights. So neither the size of the gradient
    nor that of the weights matters, and weights that are all zero stay so. Decay is apart from the gradient there.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float):
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "convolution_groups": None})

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
        decay = group["weight_decay"]
        if parts is None:
            gradient = gradient.add(parameter, alpha=decay)
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        ahead = gradient.add(state["momentum_buffer"].mul_(momentum).add_(gradient), alpha=momentum)
        if parts is None:
            parameter.sub_(ahead, alpha=lr)
            return
        step = orthogonal(ahead.reshape(parts, len(parameter) // parts, -1)).reshape(parameter.shape)
        length = STEP_SHARE * lr * parameter.norm() / step.norm().clamp_min(SMALLEST)
        parameter.mul_(1 - lr * decay).sub_(step * length)


def orthogonal(matrices: Tensor) -> Tensor:
    """About the nearest matrices with orthogonal rows or columns, (N, rows, columns): U V' of each U S V'.

    By Newton and Schulz's iteration as Muon has it: multiplications alone, singular values within 0.7 and 1.2.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    found = matrices.mT if tall else matrices
    found = found / found.norm(dim=(1, 2), keepdim=True).clamp_min(SMALLEST)
    for _ in range(ROUNDS):
        square = found @ found.mT
        found = a * found + (b * square + c * square @ square) @ found
    return found.mT if tall else found
