"""One training step, and the evaluation that measures the same network."""

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from resfit.data.batches import Batch
from resfit.data.dataset import ArrayDataset
from resfit.data.preprocessing import Preprocessing
from resfit.errors import UsageError
from resfit.nn.resnet import ResNet, Taps
from resfit.training.losses import distillation_loss, hint_loss, mean_loss
from resfit.training.optimizers import (
    add_l1,
    build_optimizer,
    decayed_weights,
    limit_gradients,
    limit_weights,
    set_rate,
)
from resfit.training.recipe import DEFAULT_TEMPERATURE, Recipe
from resfit.training.recomputing import recomputing
from resfit.training.weight_rules import FREE, Forward, WeightRules

EVALUATION_BATCH = 250
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
LEAST_SCALE = 2.0**-14  # of the loss in fp16: a gradient that is infinite even so is no matter of range


class InputLayer:
    """uint8 images (N, H, W, C) to normalised numbers (N, C, H, W) in the recipe's memory format."""

    def __init__(self, preprocessing: Preprocessing, memory_format: str):
        # (pixel / 255 - mean) / std as one multiplication and one addition
        std = torch.tensor(preprocessing.std, dtype=torch.float64)
        mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
        self.scale = 1 / (255 * std)
        self.shift = -mean / std
        self.memory_format = torch_format(memory_format)

    def __call__(self, images: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(dtype)
        pixels = pixels * self.scale.to(dtype) + self.shift.to(dtype)
        return pixels.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format)


def torch_format(memory_format: str) -> torch.memory_format:
    """The torch object of a recipe's memory format."""
    return torch.channels_last if memory_format == "channels_last" else torch.contiguous_format


class Instructor(Protocol):
    """A teacher: uint8 images (N, H, W, C) to logits (N, classes); `taps`, if given, receives its maps by name."""

    def __call__(self, images: np.ndarray, taps: Taps | None = None) -> Tensor: ...


class NotFinite(ArithmeticError):
    """A step met infinity or no number; the weights are those before it. Its text names what it was."""


class TrainingStep:
    """One update of a network by a batch: forward, loss, backward and optimiser, all as the recipe has it.

    Puts the network into the recipe's layout and number type, and computes with its weights where they are, also
    when compiled. teacher: where the recipe distils. class_weights float32 (classes,): what an image of each class
    counts, where the recipe balances by weights. rules: what the weights are held to.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        teacher: Instructor | None = None,
        class_weights: np.ndarray | None = None,
        rules: WeightRules = FREE,
    ):
        if (teacher is None) != (not recipe.distill_weight):
            raise UsageError(
                f"distill_weight is {recipe.distill_weight} and there is {'no' if teacher is None else 'a'} teacher",
                hint="distillation needs both",
            )
        if (class_weights is None) != (recipe.balance != "weights"):
            raise UsageError(f"balance is {recipe.balance!r}, and class weights are given or missing")
        self.network, self.recipe, self.teacher, self.rules = network, recipe, teacher, rules
        self.class_weights = None if class_weights is None else torch.from_numpy(class_weights)
        self.dtype = torch.float64 if recipe.precision == "fp64" else torch.float32
        network.to(dtype=self.dtype, memory_format=torch_format(recipe.memory_format))  # type: ignore[call-overload]
        self.optimizer = build_optimizer(network, recipe)
        self.scaler = torch.amp.GradScaler("cpu", enabled=recipe.precision == "fp16")
        self._weights = decayed_weights(network)
        self.update_seconds = 0.0  # of the last step: what it takes whatever the number of images
        self.rules.keep(network)
        self._forward = rules.forward(network, training_forward(network, recipe))

    def __call__(self, batch: Batch, input_layer: InputLayer, lr: float) -> float:
        """Updates the weights at the rate `lr`; the mean loss of the batch before it, without L1 and decay.

        NotFinite, with nothing updated but running statistics, when the loss or a gradient is.
        """
        set_rate(self.optimizer, lr)
        loss = 0.0
        hint_weight = self.recipe.hint_weight * lr / (self.recipe.lr or lr)
        for part in micro_batches(batch, self.recipe.micro_batch):
            part_loss = self._loss(part, input_layer, hint_weight) * (len(part.targets) / len(batch.targets))
            self.scaler.scale(part_loss).backward()
            loss += part_loss.item()
        self._check_loss(loss)
        started = time.perf_counter()
        self._update()
        self.update_seconds = time.perf_counter() - started
        return loss

    def state_dict(self) -> dict[str, Any]:
        """What besides the weights the next step depends on."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` told."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def _loss(self, part: Batch, input_layer: InputLayer, hint_weight: float) -> Tensor:
        recipe = self.recipe
        inputs = input_layer(part.images, self.dtype)
        low = AUTOCAST.get(recipe.precision)
        maps: tuple[Taps, Taps] | tuple[None, None] = ({}, {}) if hint_weight else (None, None)
        with torch.autocast("cpu", dtype=low or torch.bfloat16, enabled=low is not None):
            logits = self._forward(inputs, maps[0])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low == torch.bfloat16):
            taught = self._taught(part.images, maps[1])
        logits = logits.to(self.dtype)
        loss = mean_loss(
            recipe.loss,
            logits,
            torch.from_numpy(part.targets),
            smoothing=recipe.label_smoothing,
            partners=None if part.partners is None else torch.from_numpy(part.partners),
            shares=None if part.shares is None else torch.from_numpy(part.shares),
            class_weights=self.class_weights,
        )
        if taught is None:
            return loss
        apart = distillation_loss(logits, taught, recipe.distill_temperature or DEFAULT_TEMPERATURE)
        loss = (1 - recipe.distill_weight) * loss + recipe.distill_weight * apart
        return loss if maps[0] is None else loss + hint_weight * hint_loss(*maps)

    def _taught(self, images: np.ndarray, maps: Taps | None) -> Tensor | None:
        """The teacher's answers; its maps are those of the images as they are."""
        if self.teacher is None:
            return None
        answers = self.teacher(images, maps)
        return (answers + self.teacher(images[:, :, ::-1])) / 2 if self.recipe.distill_mirrored else answers

    def _update(self) -> None:
        recipe = self.recipe
        self.scaler.unscale_(self.optimizer)
        if recipe.l1:
            add_l1(self._weights, recipe.l1)
        named = [(name, p.grad) for name, p in self.network.named_parameters() if p.grad is not None]
        gradients = [gradient for _, gradient in named]
        norm = nn.utils.get_total_norm(gradients)
        if torch.isfinite(norm):
            limit_gradients(gradients, norm, recipe)
            self.scaler.step(self.optimizer)
        else:  # not even to the scaler: torch's fused SGD, told to skip its first step, leaves its momentum unwritten
            self._check_gradients(named)
        self.scaler.update()
        self.optimizer.zero_grad()
        limit_weights(self._weights, recipe)
        self.rules.keep(self.network)

    def _check_loss(self, loss: float) -> None:
        if math.isfinite(loss):
            return
        self.optimizer.zero_grad()
        broken = first_not_finite(self.network.named_parameters())
        raise NotFinite(f"the loss became {loss}" if broken is None else f"{broken} is not finite")

    def _check_gradients(self, named: list[tuple[str, Tensor]]) -> None:
        """NotFinite, except where a smaller scale may help: then this step is left out."""
        broken = first_not_finite(named)
        if broken is not None and self.scaler.is_enabled() and self.scaler.get_scale() > LEAST_SCALE:
            return
        self.optimizer.zero_grad()
        if broken is None:  # each is finite, their norm is not
            largest, _ = max(named, key=lambda item: item[1].abs().max().item())
            raise NotFinite(f"the gradient, largest in {largest}, became too large for its number format")
        raise NotFinite(f"the gradient of {broken} is not finite")


def training_forward(network: nn.Module, recipe: Recipe) -> Forward:
    """The network's forward pass as the recipe runs it in training."""
    if recipe.compile == "compiled":
        return torch.compile(network, dynamic=False)
    return recomputing(network) if recipe.activation_checkpointing else network


def micro_batches(batch: Batch, size: int | None) -> Iterator[Batch]:
    """The batch in as few parts as hold at most `size` images each, all as equal as can be."""
    count = len(batch.targets)
    number = -(-count // (size or count))
    if number == 1:
        yield batch
        return
    for part in np.array_split(np.arange(count), number):
        cut = slice(part[0], part[-1] + 1)
        yield dataclasses.replace(
            batch,
            images=batch.images[cut],
            targets=batch.targets[cut],
            indices=batch.indices[cut],
            partners=None if batch.partners is None else batch.partners[cut],
            shares=None if batch.shares is None else batch.shares[cut],
        )


def first_not_finite(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor that holds infinity or no number."""
    return next((name for name, tensor in named if not torch.isfinite(tensor).all()), None)


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


def published_network(network: ResNet, average: Mapping[str, Tensor] | None, rules: WeightRules = FREE) -> ResNet:
    """The network whose weights are published, in float32: the averaged one where there is an average."""
    if average is None and next(network.parameters()).dtype == torch.float32 and rules.transform is None:
        return network
    published = ResNet(network.spec)
    published.load_state_dict(rules.published(network, average or network.state_dict()))
    return published


@torch.no_grad()
def network_logits(
    network: nn.Module, dataset: ArrayDataset, input_layer: InputLayer, *, batch_size: int = EVALUATION_BATCH
) -> np.ndarray:
    """Logits float32 (N, classes) of all images, in evaluation mode and full precision, so many at a time."""
    training = network.training
    network.eval()
    starts = range(0, len(dataset), batch_size)
    logits = [network(input_layer(dataset.images[start : start + batch_size])) for start in starts]
    network.train(training)
    return torch.cat(logits).numpy()
