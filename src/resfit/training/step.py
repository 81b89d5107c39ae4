"""One training step, and the evaluation that measures the same network."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from resfit.data.dataset import ArrayDataset
from resfit.data.preprocessing import Preprocessing
from resfit.nn.resnet import ResNet
from resfit.training.recipe import Recipe

EVALUATION_BATCH = 250


class InputLayer:
    """uint8 images (N, H, W, C) to normalised floats (N, C, H, W) in the recipe's memory format."""

    def __init__(self, preprocessing: Preprocessing, memory_format: str):
        # (pixel / 255 - mean) / std as one multiplication and one addition
        std = torch.tensor(preprocessing.std, dtype=torch.float64)
        mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
        self.scale = (1 / (255 * std)).float()
        self.shift = (-mean / std).float()
        self.memory_format = torch_format(memory_format)

    def __call__(self, images: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).float() * self.scale + self.shift
        return pixels.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)


def torch_format(memory_format: str) -> torch.memory_format:
    """The torch object of a recipe's memory format."""
    return torch.channels_last if memory_format == "channels_last" else torch.contiguous_format


def training_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor, recipe: Recipe, lr: float
) -> float:
    """Forward, backward and update of one batch at the rate `lr`; its loss."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.precision == "bf16"):
        logits = network(inputs)
    loss = nn.functional.cross_entropy(logits.float(), targets, label_smoothing=recipe.label_smoothing)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


class WeightAverage:
    """Exponential moving average of a network's whole state, running statistics included."""

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def update(self, network: nn.Module, step: int) -> None:
        """Takes in the state after `step` steps; early on the average is shorter, as it has seen little."""
        weight = 1 - min(self.decay, step / (step + 10))
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.state[name].lerp_(tensor, weight)
            else:
                self.state[name].copy_(tensor)


def published_network(network: ResNet, average: Mapping[str, Tensor] | None) -> ResNet:
    """The network whose weights are published: the averaged one where there is an average."""
    if average is None:
        return network
    averaged = ResNet(network.spec)
    averaged.load_state_dict(dict(average))
    return averaged


@torch.no_grad()
def network_logits(network: nn.Module, dataset: ArrayDataset, input_layer: InputLayer) -> np.ndarray:
    """Logits float32 (N, classes) of all images, in evaluation mode and full precision."""
    training = network.training
    network.eval()
    starts = range(0, len(dataset), EVALUATION_BATCH)
    logits = [network(input_layer(dataset.images[start : start + EVALUATION_BATCH])) for start in starts]
    network.train(training)
    return torch.cat(logits).numpy()
