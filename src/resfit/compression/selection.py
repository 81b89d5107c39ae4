"""How a smaller model is chosen without the test images: it must answer as the original does, with a margin.

Published networks have often seen every training image and are right on nearly all, so that each answer that differs
there is one lost; on new images many such answers were wrong before, or become right. How many differing answers a
lost point stands for is a constant here, and part of the allowed drop is kept back as a margin.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from resfit.compression.side_by_side import normalised
from resfit.data.images import Images
from resfit.model.model import Model
from resfit.randomness import rng

LOST_SHARE = (
    0.45  # of answers that differ on selection images: points lost on new ones (published ResNet-20: 0.3 to 0.5)
)
MARGIN = 0.2  # of the allowed drop, kept back
SHIFT_SHARE = 8  # an image is shifted by up to this part of its side
MOST_TRIALS = 8
CLOSE = 0.87  # of the allowed disagreement: near enough to stop
RESPONSE = 1.2  # disagreement grows about as this power of the tradeoff
LEAST_RATIO = 1.1  # between two tradeoffs worth telling apart
MOST_RATIO = 6.0  # a step never goes further

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far a model's answers are from the original's. divergence: nats, mean over the images."""

    images: int
    disagreements: int
    divergence: float

    @property
    def disagreement(self) -> float:
        """Percentage points."""
        return 100 * self.disagreements / self.images

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"images": self.images, "disagreement": self.disagreement, "divergence": self.divergence}


class Reference:
    """The original's answers to the images that choices are made on."""

    def __init__(self, original: Model, images: Images):
        self._images = images
        self._logits = logits_of(original, images)

    def agreement(self, model: Model) -> Agreement:
        """How far a model with the same classes and preprocessing is from the original."""
        logits = logits_of(model, self._images)
        ours, theirs = (each.double().log_softmax(1) for each in (logits, self._logits))
        return Agreement(
            images=len(logits),
            disagreements=int((logits.argmax(1) != self._logits.argmax(1)).sum()),
            divergence=float((theirs.exp() * (theirs - ours)).sum(1).mean()),
        )


def allowed_disagreement(max_drop: float) -> float:
    """Percentage points of disagreement on the selection images that a drop of `max_drop` points allows."""
    return (1 - MARGIN) * max_drop / LOST_SHARE


def logits_of(model: Model, images: Images) -> torch.Tensor:
    """float32 (N, classes)."""
    module = model.module()
    with torch.inference_mode():
        return torch.cat([module(batch).float() for batch in normalised(model, images)])


def moved(images: Images, *, seed: int) -> np.ndarray:
    """Each image shifted by up to an eighth of its side, edges filled with black, every other one mirrored."""
    count, height, width, _ = images.shape
    generator = rng(seed, "moved images")
    most_down, most_across = height // SHIFT_SHARE, width // SHIFT_SHARE
    down = generator.integers(-most_down, most_down + 1, count)
    across = generator.integers(-most_across, most_across + 1, count)
    mirrored = generator.random(count) < 0.5
    result = np.zeros(images.shape, np.uint8)
    for index in range(count):
        image = images[index]
        rows, columns = int(down[index]), int(across[index])
        kept = image[max(0, -rows) : height - max(0, rows), max(0, -columns) : width - max(0, columns)]
        top, left = max(0, rows), max(0, columns)
        result[index, top : top + kept.shape[0], left : left + kept.shape[1]] = kept
        if mirrored[index]:
            result[index] = result[index, :, ::-1]
    return result


def blended(images: Images, *, seed: int) -> np.ndarray:
    """Each image mixed with another one, both moved: pictures that a network is less sure of than of its training's."""
    generator = rng(seed, "blended images")
    shares = generator.uniform(0.25, 0.75, (len(images), 1, 1, 1)).astype(np.float32)
    first = moved(images, seed=seed)
    second = first[generator.permutation(len(images))]
    mixed: np.ndarray = (shares * first + (1 - shares) * second).astype(np.uint8)
    return mixed


@dataclass(frozen=True, kw_only=True)
class Trial(Generic[Made]):
    """One point that was tried. response: what must stay within the limit; it grows with the tradeoff."""

    tradeoff: float
    response: float
    made: Made


def search_tradeoff(
    attempt: Callable[[float], tuple[float, Made]], *, start: float, limit: float, trials: int = MOST_TRIALS
) -> list[Trial[Made]]:
    """Trials in the order made, in search of the greatest tradeoff whose response is within the limit.

    attempt: gives the response of a tradeoff, and what was made. A response of 0 counts as almost none.
    """
    done: list[Trial[Made]] = []
    tradeoff = start
    for _ in range(trials):
        response, made = attempt(tradeoff)
        done.append(Trial(tradeoff=tradeoff, response=response, made=made))
        if CLOSE * limit <= response <= limit:
            break
        following = _next_tradeoff(done, limit)
        if following is None:
            break
        tradeoff = following
    return done


def _next_tradeoff(done: list[Trial[Made]], limit: float) -> float | None:
    """Where the response should meet the limit, kept inside what is known; None when that is narrow enough."""
    last = done[-1]
    aim = limit * (1 + CLOSE) / 2
    below = max((trial.tradeoff for trial in done if trial.response <= limit), default=None)
    above = min((trial.tradeoff for trial in done if trial.response > limit), default=None)
    ratio = (aim / max(last.response, limit / 100)) ** (1 / RESPONSE) if aim > 0 else 1 / MOST_RATIO
    guess = last.tradeoff * min(max(ratio, 1 / MOST_RATIO), MOST_RATIO)
    if below is None or above is None:
        return guess
    if above / below < LEAST_RATIO:
        return None
    return guess if below < guess < above else math.sqrt(below * above)
