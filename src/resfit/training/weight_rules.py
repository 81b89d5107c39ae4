"""What a caller holds the weights to while they are trained: a training obeys, and does not ask what it is for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from resfit.nn.resnet import Taps

Weights = Mapping[str, Tensor]
Project = Callable[[Weights], None]
Transform = Callable[[Weights], Weights]


class Forward(Protocol):
    """A network's forward pass, as ResNet.forward."""

    def __call__(self, x: Tensor, taps: Taps | None = None) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class WeightRules:
    """Two functions of a network's parameters by name; either may be missing.

    project: changes them in place, before the first step and after each update, as to keep pruned weights at zero.
    transform: gives those that the network computes with in their place, in training and in every measurement: all
        that differ from them, by name and of the same shapes. Gradients flow through it to the parameters, which the
        optimiser updates; what is published are the transformed ones.
    """

    project: Project | None = None
    transform: Transform | None = None

    @torch.no_grad()
    def keep(self, network: nn.Module) -> None:
        """Projects the network's parameters."""
        if self.project is not None:
            self.project(dict(network.named_parameters()))

    def forward(self, network: nn.Module, otherwise: Forward) -> Forward:
        """The network computing with transformed parameters; `otherwise` where there is no transform."""
        transform = self.transform
        if transform is None:
            return otherwise

        def transformed(x: Tensor, taps: Taps | None = None) -> Tensor:
            parameters = dict(network.named_parameters())
            return torch.func.functional_call(network, {**parameters, **transform(parameters)}, (x, taps))

        return transformed

    @torch.no_grad()
    def published(self, network: nn.Module, state: Weights) -> dict[str, Tensor]:
        """A state of the network (its own or an average) with the parameters that it computes with."""
        if self.transform is None:
            return dict(state)
        changed = self.transform({name: state[name] for name, _ in network.named_parameters()})
        return {**state, **{name: tensor.detach() for name, tensor in changed.items()}}


FREE = WeightRules()
