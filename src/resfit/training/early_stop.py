"""When to stop early, and which epoch's weights are then the best."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class BestEpoch:
    """The epoch with the smallest validation loss, its weights, and how many epochs have been no better since."""

    def __init__(self, patience: int):
        self.patience = patience
        self.loss = math.inf
        self.epoch = 0
        self.weights: dict[str, Tensor] | None = None
        self.waited = 0

    def epoch_done(self, epoch: int, loss: float, network: nn.Module) -> None:
        """Takes in an epoch, counted from 1, by its validation loss and the network that was measured."""
        if self.weights is not None and not loss < self.loss:
            self.waited += 1
            return
        self.loss, self.epoch, self.waited = loss, epoch, 0
        self.weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.waited >= self.patience

    def wait_anew(self) -> None:
        """Patience begins again, as when more epochs are asked for."""
        self.waited = 0

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"loss": self.loss, "epoch": self.epoch, "weights": self.weights, "waited": self.waited}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Goes on from what `to_dict` wrote."""
        self.loss, self.epoch = values["loss"], values["epoch"]
        self.weights, self.waited = values["weights"], values["waited"]
