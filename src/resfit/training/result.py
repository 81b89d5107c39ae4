"""What a training leaves: the model, how it went, and the recipe that would do it again."""

from dataclasses import dataclass
from typing import Any

from resfit.model.model import Model
from resfit.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainResult:
    """model: final weights, chosen by nothing; with patience, those of the epoch with the least validation loss.

    history: a row an epoch, see events.EpochDone.
    recipe: with all that measurement and data decided; training by it again gives the same weights.
    epochs: passes over the training images, a fraction where a time or a number of steps cut the last one.
    published_epoch: whose weights the model has, counted from 1.
    stopped_early: patience ran out before the schedule ended.
    images_per_second: of training steps alone; elapsed_seconds: wall time with everything, over all resumes.
    """

    model: Model
    history: tuple[dict[str, Any], ...]
    recipe: Recipe
    epochs: float
    steps: int
    published_epoch: int
    stopped_early: bool
    images_per_second: float
    elapsed_seconds: float
