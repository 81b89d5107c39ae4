"""Points along one curve: the same network rounded at one tradeoff after another, with or without training."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resfit.compression.moved_images import blended
from resfit.compression.points import Point, Points
from resfit.compression.quantisation_aware import train_rounded
from resfit.compression.rate_distortion import rate_distortion
from resfit.compression.sensitivity import output_sensitivity
from resfit.compression.tradeoff_search import search_tradeoff
from resfit.compression.wish import Wish
from resfit.data.dataset import Splits
from resfit.data.images import Images
from resfit.measure.macs import parameters
from resfit.model.container import load_container
from resfit.model.fold import fold
from resfit.model.model import Model
from resfit.training.events import Subscriber

START_NATS = 0.12  # the first tradeoff is this divergence, spread over the weights
TRAINING_GAIN = 1.6  # how much dearer bits may be where training follows
BYTES_TRIALS = 6
ENOUGH = 0.97  # of a file limit: near enough to stop
STEEPEST, FLATTEST = -2.0, -0.1  # of log bytes over log tradeoff


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """What points with training need besides: all images, how long, and where it is written down."""

    splits: Splits
    epochs: int
    threads: int | None
    folder: Path
    on_event: Subscriber | None = None


class Curve:
    """One model at any tradeoff.

    images: uint8 (N, H, W, C) of training images, to calibrate on. step: how results name these points.
    keep_steps: on the grids that the model has, whose weights were trained on them. keep_zeros: of the model's weights.
    """

    def __init__(
        self,
        model: Model,
        images: Images,
        *,
        seed: int,
        points: Points,
        step: str = "rate-distortion",
        keep_steps: bool = False,
        keep_zeros: bool = False,
    ):
        self.model, self.images, self.seed, self.points = model, images, seed, points
        self.step, self.keep_steps, self.keep_zeros = step, keep_steps, keep_zeros
        self._sensitivity: dict[str, Any] = {}

    def at(self, tradeoff: float) -> Point:
        """The point of a tradeoff, made if it was not before."""
        return self.points.point(
            {"step": self.step, "tradeoff": tradeoff, "seed": self.seed}, lambda: self._made(tradeoff)
        )

    def _made(self, tradeoff: float) -> Model:
        if not self._sensitivity:
            plain = fold(dataclasses.replace(self.model, encodings={}, activation_ranges={}))
            self._sensitivity = output_sensitivity(plain, blended(self.images, seed=self.seed), seed=self.seed)
        return rate_distortion(
            self.model,
            self.images,
            tradeoff=tradeoff,
            seed=self.seed,
            sensitivity=self._sensitivity,
            keep_steps=self.keep_steps,
            keep_zeros=self.keep_zeros,
        )

    def try_for(self, wish: Wish, start: float | None = None) -> float:
        """Points around the one that just keeps the wish; gives its tradeoff, or the last one tried where none does."""
        tradeoff = START_NATS / parameters(self.model.spec) if start is None else start
        kept: list[tuple[float, Point]] = []
        if wish.max_drop is not None:
            trials = search_tradeoff(self._response, start=tradeoff, limit=wish.allowed)
            kept = [(trial.tradeoff, trial.made) for trial in trials if wish.drop_holds(trial.made)]
            tradeoff = max(kept)[0] if kept else trials[-1].tradeoff
        if wish.file_bytes is not None and not any(wish.size_holds(point) for _, point in kept):
            self._fit_bytes(tradeoff, wish.file_bytes)
        return tradeoff

    def _response(self, tradeoff: float) -> tuple[float, Point]:
        point = self.at(tradeoff)
        return point.agreement.estimated_drop, point

    def _fit_bytes(self, tradeoff: float, limit: int) -> None:
        """A few points near a file size."""
        last: tuple[float, int] | None = None
        for _ in range(BYTES_TRIALS):
            size = self.at(tradeoff).file_bytes
            if ENOUGH * limit <= size <= limit:
                return
            slope = -0.4
            if last is not None and last[0] != tradeoff and last[1] != size:
                slope = math.log(size / last[1]) / math.log(tradeoff / last[0])
            last = (tradeoff, size)
            factor = ((1 + ENOUGH) / 2 * limit / size) ** (1 / min(max(slope, STEEPEST), FLATTEST))
            tradeoff *= min(max(factor, 1 / 16), 16.0)


def trained_points(curve: Curve, wish: Wish, training: Training) -> None:
    """Points of the network trained on with rounded weights, taught by what it was: as it ends, and rounded once more.

    The grids are those of a point beyond what the wish allows without training.
    """
    tradeoff = TRAINING_GAIN * curve.try_for(wish)
    rounded = load_container(curve.at(tradeoff).path)
    trained = train_rounded(
        curve.model,
        rounded,
        training.splits,
        tradeoff=tradeoff,
        epochs=training.epochs,
        teacher=curve.model,
        seed=curve.seed,
        threads=training.threads,
        folder=training.folder,
        on_event=training.on_event,
    )
    step = f"after {training.epochs} epochs"
    once(curve.points, f"trained {step}", lambda: trained)
    step = f"rate-distortion {step}"
    after = Curve(trained, curve.images, seed=curve.seed, points=curve.points, step=step, keep_steps=True)
    after.try_for(wish, start=tradeoff / 4)


def once(points: Points, step: str, make: Callable[[], Model]) -> None:
    """The one point of a way that has nothing to choose."""
    points.point({"step": step}, make)
