"""What a training tells its subscribers, who only read."""

from collections.abc import Callable
from dataclasses import dataclass

from resfit.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class MemoryPlanned:
    """A memory limit was planned for: the peak of the whole process, in bytes, and what it took to keep to it."""

    limit_bytes: int
    predicted_bytes: int
    batch_size: int
    micro_batch: int
    activation_checkpointing: bool


@dataclass(frozen=True, kw_only=True)
class Started:
    """Training is about to run from `step` to `steps` by this resolved recipe."""

    recipe: Recipe
    num_images: int
    step: int
    steps: int
    steps_per_epoch: int


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """One step: its loss and learning rate; seconds_left by the speed so far."""

    step: int
    steps: int
    loss: float
    lr: float
    images_per_second: float
    seconds_left: float


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """One pass over the training images, or its last part: a row of the history.

    epoch counts from 1; loss is the mean training loss; lr that of the last step; elapsed in seconds of
    training, over all resumes.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    validation_accuracy: float
    validation_loss: float
    lr: float
    images_per_second: float
    elapsed: float
    seconds_left: float


@dataclass(frozen=True, kw_only=True)
class StoppedEarly:
    """No epoch since `epoch` had a smaller validation loss than its `validation_loss`: patience ran out."""

    epoch: int
    validation_loss: float
    patience: int


Event = MemoryPlanned | Started | StepDone | EpochDone | StoppedEarly
Subscriber = Callable[[Event], None]
