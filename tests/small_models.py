"""Small networks with weights and statistics of their own, as a training would leave them."""

import torch
from torch import Tensor, nn

from resfit.data.preprocessing import Preprocessing
from resfit.model.model import Model, Provenance
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec


def small_spec(**changes: object) -> ResNetSpec:
    """Two stages of one and two blocks for small images, with any field changed."""
    values = {
        "depths": (1, 2),
        "widths": (8, 16),
        "strides": (1, 2),
        "stem": "cifar",
        "stem_width": 8,
        "num_classes": 3,
    }
    return ResNetSpec(**{**values, **changes})  # type: ignore[arg-type]


def small_model(spec: ResNetSpec, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Model:
    """A model whose norms scale, shift and have seen data."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.data.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = ResNet(spec).to(dtype)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            uniform(part.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
            uniform(part.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            part.num_batches_tracked.fill_(9)  # type: ignore[union-attr]
        if isinstance(part, nn.BatchNorm2d | nn.GroupNorm):
            uniform(part.weight, -1.5, 1.5)
            uniform(part.bias, -0.5, 0.5)
        if isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None:
            uniform(part.bias, -0.5, 0.5)
    return Model.from_module(
        module,
        preprocessing=Preprocessing(
            height=16,
            width=16,
            channels=spec.in_channels,
            mean=(0.4,) * spec.in_channels,
            std=(0.2,) * spec.in_channels,
        ),
        labels=tuple(f"class {index}" for index in range(spec.num_classes)),
        provenance=Provenance(trained=True, source="test"),
    )


def images(spec: ResNetSpec, *, side: int = 16, dtype: torch.dtype = torch.float32) -> Tensor:
    """Four normalised images, each another."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, spec.in_channels, side, side, generator=generator, dtype=dtype)
