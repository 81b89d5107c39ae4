"""How a network is trained: a frozen description, without torch, that a resume or a replay follows exactly."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from resfit.data.augment import Augment
from resfit.data.balance import Balance
from resfit.errors import UsageError, nearest
from resfit.training.recipe_values import (
    Compile,
    Loss,
    MemoryFormat,
    Optimizer,
    Precision,
    Schedule,
    check_values,
)

DEFAULT_EPOCHS = 50
LARGEST_DEFAULT_BATCH = 128
LARGEST_DEFAULT_PIXELS = 1 << 21  # of a batch: 32 images of 224 x 224, for the sake of memory
LEAST_DEFAULT_STEPS = 32  # an epoch of a small data set has at least so many
# At a batch of 128
DEFAULT_LR = {"sgd": 0.2, "adam": 0.002, "adamw": 0.002, "rmsprop": 0.0015, "adagrad": 0.05, "muon": 0.1}
DEFAULT_MOMENTUM = {"sgd": 0.9, "adam": 0.9, "adamw": 0.9, "rmsprop": 0.9, "muon": 0.9}
DEFAULT_TEMPERATURE = 4.0
DEFAULT_MILESTONE_DECAY = 0.1
DEFAULT_MILESTONES = (0.5, 0.75)  # He et al. 2015, 4.2: 32k and 48k of 64k
# Up to so many channels the rate of SGD holds; a wider network takes one lower in proportion. Measured on photographs
# of five classes at 64 pixels with resnet18 (512 channels), validation accuracy after five epochs at a batch of 64:
# 53 % at the unscaled rate, 60 % at a third of it, 74 % at a seventh
FULL_RATE_WIDTH = 64
CROP_SHARE = 8  # a 32-pixel side is padded by 4, as in He et al. 2015


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything but network and data that the trained weights depend on.

    epochs or steps: how long to train, one of them; None of both is 50 epochs. An epoch holds the whole batches
        of the training images; the rest of the images waits for another epoch's order.
    replans: (step, steps) pairs: from that step on the schedule ends at that number of steps. Written by a
        training that was given a time and found itself faster or slower than planned.
    extensions: (step, steps) pairs: from that step on the schedule is that of a training of so many steps. Written
        by a resume to more epochs.
    patience: stop after so many epochs without a smaller validation loss, and publish the best epoch's weights;
        None publishes the last epoch's.
    batch_size: images an update; None is 128, or less for few or large images.
    accumulate: equal parts a batch is split into, one after the other in memory; resolved to micro_batch.
    micro_batch: most images in memory at once; gradients add up to those of the whole batch, batch norm sees
        each part alone. None is the whole batch.
    optimizer, momentum: momentum is Adam's first decay rate; Adagrad has none; None is 0.9. See training.muon.
    nesterov: of SGD and Muon; None is yes where there is momentum.
    lr: peak learning rate; None is the optimiser's own at batch size 128, else by its square root, and lower for a
        network wider than 64 channels trained by SGD.
    weight_decay: L2 on weights of convolutions and the classifier (AdamW: decoupled; Muon: of the classifier), never
        on norms and biases unless decay_norms; l1: times the sum of absolute weights, on the same ones.
    loss: of softmax (cross_entropy), or summed over classes of sigmoids (bce) and of logits (mse, halved).
    schedule: after a linear rise in warmup_fraction of it, the rate falls to zero as a cosine or a line, or by
        milestone_decay at each of milestones (fractions of the schedule; 1 and more are steps); one_cycle rises
        and falls as cosines (Smith and Topin 2018).
    uncropped_fraction: last part of the schedule, in whole epochs, that sees images at their place.
    ema_decay: the published weights are this running average over steps; None publishes the last weights.
    clip_norm, clip_value: largest norm of the whole gradient, largest absolute value in it.
    clip_weights, max_norm: largest absolute weight, largest norm of an output's weights, kept after each update.
    balance: class imbalance: weights in the loss, or sampling of classes evenly.
    crop_padding: pixels a random crop may shift by; None is an eighth of the shorter side.
    flip: mirror images at random; None mirrors colour images and leaves grey ones, which are mostly writing.
    rotate_degrees, color, cutout, mixup, cutmix, trivial: further augmentation, see data.augment.Augment.
    teacher: sha256 of the weights of the model that teaches; distill_weight: its share of the loss, at
        distill_temperature (Hinton et al. 2015; None is 4); distill_mirrored: its answers are the mean of those to an
        image and to its mirror image, where images are mirrored at random; hint_weight: what each stage's distance
        from the teacher's adds to the loss (losses.hint_loss) at the peak rate; it falls with the rate, and answers
        decide at last.
    precision, memory_format, compile: auto is replaced by what a short measurement finds fastest.
    activation_checkpointing: computes activations again in the backward pass instead of keeping them.
    freeze_epochs: in so many first epochs only the classifier learns; the rest keeps its weights and statistics.
    layer_decay: each residual block learns at the next one's rate times this, the classifier at the whole rate.
    train_memory_mb: limit of the whole process's memory, in 10^6 bytes.
    threads: of the processor; None keeps the number torch has.
    """

    epochs: int | None = None
    steps: int | None = None
    replans: tuple[tuple[int, int], ...] = ()
    extensions: tuple[tuple[int, int], ...] = ()
    patience: int | None = None
    batch_size: int | None = None
    accumulate: int = 1
    micro_batch: int | None = None
    optimizer: Optimizer = "sgd"
    lr: float | None = None
    momentum: float | None = None
    nesterov: bool | None = None
    weight_decay: float = 5e-4
    decay_norms: bool = False
    l1: float = 0.0
    loss: Loss = "cross_entropy"
    label_smoothing: float = 0.0
    schedule: Schedule = "cosine"
    warmup_fraction: float = 0.1
    milestones: tuple[float, ...] = ()
    milestone_decay: float | None = None
    uncropped_fraction: float = 0.08
    ema_decay: float | None = None
    clip_norm: float | None = None
    clip_value: float | None = None
    clip_weights: float | None = None
    max_norm: float | None = None
    freeze_epochs: int = 0
    layer_decay: float = 1.0
    balance: Balance = "none"
    crop_padding: int | None = None
    flip: bool | None = None
    rotate_degrees: float = 0.0
    color: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    trivial: bool = False
    teacher: str | None = None
    distill_weight: float = 0.0
    distill_temperature: float | None = None
    distill_mirrored: bool = False
    hint_weight: float = 0.0
    precision: Precision = "auto"
    memory_format: MemoryFormat = "auto"
    compile: Compile = "auto"
    activation_checkpointing: bool = False
    train_memory_mb: float | None = None
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("replans", "extensions"):
            object.__setattr__(self, name, tuple((int(at), int(steps)) for at, steps in getattr(self, name)))
        object.__setattr__(self, "milestones", tuple(self.milestones))
        check_values(self)
        self.augmentation()  # checks its own fields

    def augmentation(self, *, cropped: bool = True) -> Augment:
        """What happens to an image by chance; `cropped` is False in the last, uncropped part of the schedule."""
        return Augment(
            crop_padding=(self.crop_padding or 0) if cropped else 0,
            flip=bool(self.flip),
            **{name: getattr(self, name) for name in _AUGMENTATION},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` reads it back."""
        pairs = {name: [list(pair) for pair in getattr(self, name)] for name in ("replans", "extensions")}
        lists = {**pairs, "milestones": list(self.milestones)}
        return {**dataclasses.asdict(self), **lists}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The recipe that `to_dict` wrote; fields may be missing, an unknown one is a UsageError."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise UsageError(f"unknown field {name!r} of a recipe", hint=nearest(name, known))
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise UsageError(f"not a recipe: {error}") from error

    def resolved(
        self, *, num_images: int, height: int, width: int, channels: int, network_width: int = FULL_RATE_WIDTH
    ) -> Self:
        """The recipe with all that depends on data and network decided; what a measurement decides stays auto.

        network_width: channels of the network's widest 3x3 convolution.

        UsageError when the training images are fewer than one batch, or a batch cannot be split as asked.
        """
        batch_size = self.batch_size or _default_batch(num_images, height * width)
        if num_images < batch_size:
            raise UsageError(
                f"{num_images} training images are fewer than one batch of {batch_size}",
                hint="give a smaller batch size or more images",
            )
        lr = self.lr or self._default_lr(batch_size, network_width)
        padding = min(height, width) // CROP_SHARE if self.crop_padding is None else self.crop_padding
        momentum = DEFAULT_MOMENTUM.get(self.optimizer) if self.momentum is None else self.momentum
        flip = channels == 3 if self.flip is None else self.flip
        return dataclasses.replace(
            self,
            batch_size=batch_size,
            accumulate=1,
            micro_batch=self._micro_batch(batch_size),
            lr=lr,
            momentum=momentum,
            nesterov=self.optimizer in ("sgd", "muon") and momentum != 0 if self.nesterov is None else self.nesterov,
            milestones=self._fractions(num_images // batch_size),
            milestone_decay=(self.milestone_decay or DEFAULT_MILESTONE_DECAY) if self.schedule == "step" else None,
            distill_temperature=(self.distill_temperature or DEFAULT_TEMPERATURE) if self.distill_weight else None,
            crop_padding=padding,
            flip=flip,
            distill_mirrored=self.distill_mirrored and flip,
        )

    def _default_lr(self, batch_size: int, network_width: int) -> float:
        lr = DEFAULT_LR[self.optimizer] * math.sqrt(batch_size / LARGEST_DEFAULT_BATCH)
        return lr * min(1.0, FULL_RATE_WIDTH / network_width) if self.optimizer == "sgd" else lr

    def _micro_batch(self, batch_size: int) -> int | None:
        """Most images in memory at once; UsageError where a part would be a single one."""
        micro = -(-batch_size // self.accumulate) if self.accumulate > 1 else self.micro_batch
        if micro is None:
            return None
        parts = -(-batch_size // micro)
        if batch_size // max(parts, self.accumulate) < 2:
            raise UsageError(
                f"a batch of {batch_size} in {max(parts, self.accumulate)} parts has parts of a single image",
                hint="batch norm needs 2; give a larger batch size, or fewer and larger parts",
            )
        return min(micro, batch_size)

    def _fractions(self, steps_per_epoch: int) -> tuple[float, ...]:
        """The milestones of a step schedule as fractions of it."""
        if self.schedule != "step" or not self.milestones:
            return DEFAULT_MILESTONES if self.schedule == "step" else ()
        if self.milestones[-1] < 1:
            return self.milestones
        steps = dataclasses.replace(self, replans=(), extensions=()).total_steps(steps_per_epoch)
        if self.milestones[-1] >= steps:
            raise UsageError(f"a milestone is at step {self.milestones[-1]:g}, and the training ends at {steps}")
        return tuple(at / steps for at in self.milestones)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Steps of the whole training, by the last plan."""
        changes = sorted((*self.replans, *self.extensions), key=lambda change: change[0])
        if changes:
            return changes[-1][1]
        return self.steps if self.steps is not None else (self.epochs or DEFAULT_EPOCHS) * steps_per_epoch


_AUGMENTATION = ("rotate_degrees", "color", "cutout", "mixup", "cutmix", "trivial")


def _default_batch(num_images: int, pixels: int) -> int:
    """The largest power of two that leaves a small data set enough steps an epoch, and memory free."""
    most = max(min(num_images // LEAST_DEFAULT_STEPS, LARGEST_DEFAULT_PIXELS // pixels, LARGEST_DEFAULT_BATCH), 2)
    return 1 << (most.bit_length() - 1)
