"""A training that leads nowhere: noticing a loss that has risen out of all bounds, and where numbers end."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from resfit.nn.resnet import ResNet
from resfit.training.step import AUTOCAST, first_not_finite

RECENT_STEPS = 50  # of the running mean of the loss
# A network as good as a coin has a loss of log(classes), and an unlucky start ten times that
RISE = 100.0
LEAST_FIRST_LOSS = 1.0  # a network that starts trained may rise from nothing


class LossWatch:
    """Follows the loss step by step; its state goes into checkpoints, so that a resume judges alike."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.recent = 0.0
        self.steps = 0

    def verdict(self, loss: float) -> str | None:
        """What is wrong once the running mean over some 50 steps is 100 times the first step's loss; else None."""
        if self.first is None:
            self.first = max(loss, LEAST_FIRST_LOSS)
        self.steps += 1
        self.recent += (loss - self.recent) / min(self.steps, RECENT_STEPS)
        if self.steps >= RECENT_STEPS and self.recent > RISE * self.first:
            return f"the loss has risen to {self.recent:.3g}, {self.recent / self.first:.0f} times that of the start,"
        return None

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"first": self.first, "recent": self.recent, "steps": self.steps}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Goes on from what `to_dict` wrote."""
        self.first, self.recent, self.steps = values["first"], values["recent"], values["steps"]


@torch.no_grad()
def where_numbers_end(network: ResNet, inputs: Tensor, precision: str = "fp32") -> str:
    """Which part of the network is the first to make no numbers of `inputs` (N, C, H, W), as a sentence.

    precision: the recipe's, in which the network computes.
    """
    broken = first_not_finite(network.state_dict().items())
    if broken is not None:
        return f"{broken} is not finite"
    taps: dict[str, Tensor] = {}
    low = AUTOCAST.get(precision)
    with torch.autocast("cpu", dtype=low or torch.bfloat16, enabled=low is not None):
        network(inputs, taps)
    broken = first_not_finite(taps.items())
    if broken is not None:
        return f"the output of {broken} is not finite, though all weights are"
    return "weights and answers are finite, and the loss itself is too large"
