"""How a network is trained: a frozen description, without torch, that a resume or a replay follows exactly."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from resfit.errors import UsageError, nearest

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["cosine", "linear"]
Precision = Literal["auto", "fp32", "bf16"]
MemoryFormat = Literal["auto", "contiguous", "channels_last"]

DEFAULT_EPOCHS = 25
LARGEST_DEFAULT_BATCH = 128
LARGEST_DEFAULT_PIXELS = 1 << 21  # of a batch: 32 images of 224 x 224, for the sake of memory
LEAST_DEFAULT_STEPS = 32  # an epoch of a small data set has at least so many
DEFAULT_LR = {"sgd": 0.2, "adamw": 0.002}  # at a batch of 128
CROP_SHARE = 8  # a 32-pixel side is padded by 4, as in He et al. 2015


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything but network and data that the trained weights depend on.

    epochs or steps: how long to train, one of them; None of both is 25 epochs. An epoch holds the whole batches
        of the training images; the rest of the images waits for another epoch's order.
    replans: (step, steps) pairs: from that step on the schedule ends at that number of steps. Written by a
        training that was given a time and found itself faster or slower than planned.
    batch_size: images a step; None is 128, or less for few or large images.
    lr: peak learning rate; None is 0.2 (sgd) or 0.002 (adamw) at batch size 128, else by its square root.
    weight_decay: on weights of convolutions and the classifier, never on norms and biases.
    warmup_fraction: part of the schedule in which the rate rises linearly; after it, it falls to zero.
    uncropped_fraction: last part of the schedule, in whole epochs, that sees images at their place.
    ema_decay: the published weights are this running average over steps; None publishes the last weights.
    crop_padding: pixels a random crop may shift by; None is an eighth of the shorter side.
    flip: mirror images at random; None mirrors colour images and leaves grey ones, which are mostly writing.
    precision, memory_format: auto is replaced by what a short measurement finds fastest.
    threads: of the processor; None keeps the number torch has.
    """

    epochs: int | None = None
    steps: int | None = None
    replans: tuple[tuple[int, int], ...] = ()
    batch_size: int | None = None
    optimizer: Optimizer = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"
    warmup_fraction: float = 0.1
    label_smoothing: float = 0.0
    ema_decay: float | None = None
    crop_padding: int | None = None
    uncropped_fraction: float = 0.08
    flip: bool | None = None
    precision: Precision = "auto"
    memory_format: MemoryFormat = "auto"
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "replans", tuple((int(at), int(steps)) for at, steps in self.replans))
        for name, kind in _CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                value = str(getattr(self, name))
                raise UsageError(f"{name} is {value!r}", hint=nearest(value, get_args(kind)))
        if self.epochs is not None and self.steps is not None:
            raise UsageError(
                f"epochs is {self.epochs} and steps is {self.steps}: both say how long to train",
                hint="give one of them",
            )
        for name, least in (("epochs", 1), ("steps", 1), ("batch_size", 2), ("threads", 1), ("crop_padding", 0)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise UsageError(f"{name} is {value!r}, expected a whole number of at least {least}")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and low <= value <= high):
                raise UsageError(f"{name} is {value}, expected {low} to {high}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` reads it back."""
        return {**dataclasses.asdict(self), "replans": [list(pair) for pair in self.replans]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The recipe that `to_dict` wrote; fields may be missing, an unknown one is a UsageError."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise UsageError(f"unknown field {name!r} of a recipe", hint=nearest(name, known))
        return cls(**values)

    def resolved(self, *, num_images: int, height: int, width: int, channels: int) -> Self:
        """The recipe with all that depends on the data decided; precision and memory format stay as they are.

        UsageError when the training images are fewer than one batch.
        """
        batch_size = self.batch_size or _default_batch(num_images, height * width)
        if num_images < batch_size:
            raise UsageError(
                f"{num_images} training images are fewer than one batch of {batch_size}",
                hint="give a smaller batch size or more images",
            )
        lr = self.lr or DEFAULT_LR[self.optimizer] * math.sqrt(batch_size / LARGEST_DEFAULT_BATCH)
        padding = min(height, width) // CROP_SHARE if self.crop_padding is None else self.crop_padding
        return dataclasses.replace(
            self,
            batch_size=batch_size,
            lr=lr,
            crop_padding=padding,
            flip=channels == 3 if self.flip is None else self.flip,
        )

    def total_steps(self, steps_per_epoch: int) -> int:
        """Steps of the whole training, by the last plan."""
        if self.replans:
            return self.replans[-1][1]
        return self.steps if self.steps is not None else (self.epochs or DEFAULT_EPOCHS) * steps_per_epoch


_CHOICES = {
    "optimizer": Optimizer,
    "schedule": Schedule,
    "precision": Precision,
    "memory_format": MemoryFormat,
}
_RANGES = {
    "lr": (1e-9, 1e3),
    "momentum": (0.0, 0.9999),
    "weight_decay": (0.0, 1.0),
    "warmup_fraction": (0.0, 1.0),
    "label_smoothing": (0.0, 0.99),
    "ema_decay": (0.0, 0.99999),
    "uncropped_fraction": (0.0, 1.0),
}


def _default_batch(num_images: int, pixels: int) -> int:
    """The largest power of two that leaves a small data set enough steps an epoch, and memory free."""
    most = max(min(num_images // LEAST_DEFAULT_STEPS, LARGEST_DEFAULT_PIXELS // pixels, LARGEST_DEFAULT_BATCH), 2)
    return 1 << (most.bit_length() - 1)
