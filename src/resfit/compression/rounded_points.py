"""Points along one curve: the same network rounded at one tradeoff after another, with or without training."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

from resfit.compression.moved_images import blended
from resfit.compression.points import Point, Points, Settings
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
WON_BACK, HALF_OF_IT = 0.79, 4.0  # of an estimated loss by long training, and epochs for half of that (ResNet-20)
CAUTION = 0.9
START_TRIALS = 4
START_GAIN = 1.7  # how much dearer bits are in the first of them
TRAINING_GROWTH = 1.1  # how much dearer they must be for a file that grows a little in training to keep its size
ROUNDED: Settings = MappingProxyType({"step": "rate-distortion"})
BYTES_TRIALS = 6
ENOUGH = 0.97  # of a file limit: near enough to stop
STEEPEST, USUAL_SLOPE, FLATTEST = -2.0, -0.4, -0.03  # of log bytes over log tradeoff
MOST_FACTOR = 16.0  # a step never goes further


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

    images: uint8 (N, H, W, C) of training images, to calibrate on. settings: how results name these points, besides
    tradeoff and seed. keep_steps: on the grids that the model has, whose weights were trained on them. keep_zeros: of
    the model's weights.
    """

    def __init__(
        self,
        model: Model,
        images: Images,
        *,
        seed: int,
        points: Points,
        settings: Settings = ROUNDED,
        keep_steps: bool = False,
        keep_zeros: bool = False,
    ):
        self.model, self.images, self.seed, self.points = model, images, seed, points
        self.settings, self.keep_steps, self.keep_zeros = settings, keep_steps, keep_zeros
        self._sensitivity: dict[str, Any] = {}

    def at(self, tradeoff: float) -> Point:
        """The point of a tradeoff, made if it was not before."""
        return self.points.point(
            {**self.settings, "tradeoff": tradeoff, "seed": self.seed}, lambda: self._made(tradeoff)
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

    def try_for(
        self, wish: Wish, start: float | None = None, unrounded: Point | None = None
    ) -> tuple[float | None, float | None]:
        """Points around those that just keep the wish.

        unrounded: the model itself, where it answers no longer as the original: what it loses, no tradeoff wins back,
        and where that is too much one point shows what there is to have.
        Gives their tradeoffs: by the drop, or the last one tried where none keeps it, and by the file's size where the
        drop does not see to that. None where nothing is wished.
        """
        tradeoff = START_NATS / parameters(self.model.spec) if start is None else start
        by_drop = by_size = None
        if wish.max_drop is not None and unrounded is not None and not wish.drop_holds(unrounded):
            by_drop = tradeoff
            self.at(by_drop)
        elif wish.max_drop is not None:
            lost = 0.0 if unrounded is None else unrounded.agreement.estimated_drop
            trials = search_tradeoff(self._response(lost), start=tradeoff, limit=wish.allowed - lost)
            by_drop = max((trial.tradeoff for trial in trials if wish.drop_holds(trial.made)), default=None)
            tradeoff = by_drop = trials[-1].tradeoff if by_drop is None else by_drop
        if wish.file_bytes is not None and (by_drop is None or not wish.size_holds(self.at(by_drop))):
            by_size = self._fit_bytes(tradeoff, wish.file_bytes)
        return by_drop, by_size

    def tradeoff_losing(self, points_lost: float, *, near: float) -> float:
        """The greatest tried with at most so many estimated percentage points lost, or `near` where none is greater."""
        trials = search_tradeoff(self._response(0.0), start=START_GAIN * near, limit=points_lost, trials=START_TRIALS)
        return max([near, *(trial.tradeoff for trial in trials if trial.response <= points_lost)])

    def _response(self, lost: float) -> Callable[[float], tuple[float, Point]]:
        """What a tradeoff loses beside what is lost without any, in estimated percentage points."""

        def response(tradeoff: float) -> tuple[float, Point]:
            point = self.at(tradeoff)
            return point.agreement.estimated_drop - lost, point

        return response

    def _fit_bytes(self, tradeoff: float, limit: int) -> float:
        """A few points near a file size; gives the least tradeoff that is within, or the last one tried."""
        tried: list[tuple[float, int]] = []
        for _ in range(BYTES_TRIALS):
            size = self.at(tradeoff).file_bytes
            tried.append((tradeoff, size))
            if ENOUGH * limit <= size <= limit:
                break
            tradeoff = _tradeoff_for(limit, tried)
        return min((tradeoff for tradeoff, size in tried if size <= limit), default=tried[-1][0])


def _tradeoff_for(limit: int, tried: list[tuple[float, int]]) -> float:
    """Where the file should be a little below the limit, after what was tried last."""
    tradeoff, size = tried[-1]
    slope = USUAL_SLOPE
    if len(tried) > 1:
        earlier, other = tried[-2]
        if earlier != tradeoff and other != size:
            slope = math.log(size / other) / math.log(tradeoff / earlier)
    factor = ((1 + ENOUGH) / 2 * limit / size) ** (1 / min(max(slope, STEEPEST), FLATTEST))
    guess = tradeoff * min(max(factor, 1 / MOST_FACTOR), MOST_FACTOR)
    too_large = max((each for each, size in tried if size > limit), default=None)
    within = min((each for each, size in tried if size <= limit), default=None)
    if too_large is None or within is None or too_large < guess < within:
        return guess
    return math.sqrt(too_large * within)


def _lost_before_training(wish: Wish, training: Training) -> float:
    """Estimated percentage points that the rounded network may lose for the trained one to keep the wish."""
    won_back = WON_BACK * training.epochs / (training.epochs + HALF_OF_IT)
    return CAUTION * wish.allowed / (1 - won_back)


def trained_points(curve: Curve, wish: Wish, training: Training) -> None:
    """Points of the network trained on with rounded weights, taught by what it was: as it ends, and rounded once more.

    The grids are those of a point beyond what the wish allows without training.
    """
    by_drop, by_size = curve.try_for(wish)
    tradeoff = 0.0 if by_size is None else TRAINING_GROWTH * by_size
    if by_drop is not None:
        tradeoff = max(tradeoff, curve.tradeoff_losing(_lost_before_training(wish, training), near=by_drop))
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
        folder=training.folder / f"{tradeoff:.9g}",
        on_event=training.on_event,
    )
    step, begun = f"after {training.epochs} epochs", {"trained_at": tradeoff}
    unrounded = curve.points.point({"step": f"trained {step}", **begun, "seed": curve.seed}, lambda: trained)
    after = Curve(
        trained,
        curve.images,
        seed=curve.seed,
        points=curve.points,
        settings={"step": f"rate-distortion {step}", **begun},
        keep_steps=True,
    )
    after.try_for(wish, start=tradeoff, unrounded=unrounded)


def once(points: Points, step: str, make: Callable[[], Model]) -> Point:
    """The one point of a way that has nothing to choose."""
    return points.point({"step": step}, make)
