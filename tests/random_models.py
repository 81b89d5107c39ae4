"""Models with random weights and statistics, for tests of everything that takes a Model."""

import numpy as np
import torch
from torch import nn

from resfit.data.preprocessing import Preprocessing
from resfit.model.model import Model, Provenance
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec

TINY = ResNetSpec(depths=(1, 1), widths=(16, 32), strides=(1, 2), stem="cifar", stem_width=16, num_classes=5)


def random_model(spec: ResNetSpec = TINY, *, side: int = 16, seed: int = 0, trained: bool = False) -> Model:
    """A model whose norms have statistics and scales away from their defaults."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ResNet(spec)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    channels = spec.in_channels
    return Model.from_module(
        network.eval(),
        preprocessing=Preprocessing(
            height=side,
            width=side,
            channels=channels,
            mean=(0.485, 0.456, 0.406)[:channels],
            std=(0.229, 0.224, 0.225)[:channels],
        ),
        labels=tuple(f"class {index}" for index in range(spec.num_classes)),
        provenance=Provenance(trained=trained, source="random weights"),
    )


def random_images(model: Model, count: int, *, seed: int = 0) -> np.ndarray:
    """Blobs of colour rather than noise: noise has no large shapes, so all its logits are alike."""
    generator = np.random.default_rng(seed)
    preprocessing = model.preprocessing
    coarse = generator.integers(0, 256, (count, 4, 4, preprocessing.channels), dtype=np.uint8)
    rows = np.arange(preprocessing.height) * 4 // preprocessing.height
    columns = np.arange(preprocessing.width) * 4 // preprocessing.width
    return np.ascontiguousarray(coarse[:, rows][:, :, columns])
