"""How far a smaller model's answers are from the original's, and how many points of accuracy that may cost.

Where the images were new to the original too, their labels tell, within the error of so few. An image that it was
trained on tells little: the deeper a network, the surer it is of what it has learnt, and the less its answers there
move while those on new images do. A blend with some of another image is hard for every network; a constant says what
part of the answers lost on blends is lost on new images. Part of the allowed drop is kept back as a margin.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from resfit.compression.side_by_side import normalised
from resfit.data.images import Images
from resfit.model.model import Model

DIFFERING_SHARE = 0.45  # of answers that differ on new images: at most so many are lost
BLENDED_SHARE = 0.25  # of few answers lost on blends: lost on new images (published ResNet-20 and -32: 0.1 to 0.35)
MARGIN = 0.25  # of the allowed drop, kept back: at a fifth, one of six promises for the published ResNet-20 was broken


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far a model's answers are from the original's. divergence: nats, mean over the images.

    right: the original's answers that are; lost: how many fewer are now. copies: of each image, moved otherwise, among
    `images`. new: to the original; else they are blends of images that it knows.
    """

    images: int
    disagreements: int
    divergence: float
    right: int
    lost: int
    copies: int = 1
    new: bool = True

    @property
    def disagreement(self) -> float:
        """Percentage points."""
        return 100 * self.disagreements / self.images

    @property
    def estimated_drop(self) -> float:
        """Percentage points of accuracy on new images.

        On new images the lesser of two cautious estimates, by answers that differ and by labels with one standard
        error, but never less than what the labels say.
        """
        if not self.new and self.right:
            part = self.lost / self.right
            return 100 * part * (BLENDED_SHARE + (1 - BLENDED_SHARE) * max(part, 0))  # who loses all loses all
        lost, error = (100 * each / self.images for each in (self.lost, math.sqrt(self.disagreements * self.copies)))
        return max(lost, min(DIFFERING_SHARE * self.disagreement, lost + error))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "images": self.images,
            "disagreement": self.disagreement,
            "divergence": self.divergence,
            "estimated_drop": self.estimated_drop,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Images that points are chosen on. pictures: uint8 (N, H, W, C), `copies` of each image one after another.

    targets: int64 (N,), of a blend those of its larger part. new: to the original. told: what they are, in words.
    """

    pictures: Images
    targets: np.ndarray
    copies: int = 1
    new: bool = True
    told: str = ""


class Reference:
    """The original's answers to the images that choices are made on."""

    def __init__(self, original: Model, selection: Selection):
        self._selection = selection
        self._logits = logits_of(original, selection.pictures)

    @property
    def selected_on(self) -> str:
        """What the images are, in words."""
        return self._selection.told

    def agreement(self, model: Model) -> Agreement:
        """How far a model with the same classes and preprocessing is from the original."""
        logits, selection = logits_of(model, self._selection.pictures), self._selection
        ours, theirs = (each.double().log_softmax(1) for each in (logits, self._logits))
        answers, before = (each.argmax(1) for each in (logits, self._logits))
        targets = torch.from_numpy(selection.targets)
        right, still = (int((each == targets).sum()) for each in (before, answers))
        return Agreement(
            images=len(logits),
            disagreements=int((answers != before).sum()),
            divergence=float((theirs.exp() * (theirs - ours)).sum(1).mean()),
            right=right,
            lost=right - still,
            copies=selection.copies,
            new=selection.new,
        )


def allowed_estimate(max_drop: float) -> float:
    """The most estimated points that a wished limit allows: the margin is kept back."""
    return (1 - MARGIN) * max_drop


def logits_of(model: Model, images: Images) -> torch.Tensor:
    """float32 (N, classes)."""
    module = model.module()
    with torch.inference_mode():
        return torch.cat([module(batch).float() for batch in normalised(model, images)])
