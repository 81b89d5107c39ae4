"""Which precision and memory layout train fastest here, and whether compiling repays: a short measurement.

Its answer goes into the recipe, which a resume and a replay follow: timing decides once.
"""

import copy
import dataclasses
import itertools
import math
import time
from typing import Any, Literal

import numpy as np

from resfit.data.batches import Batch
from resfit.data.preprocessing import Preprocessing
from resfit.errors import UsageError
from resfit.nn.resnet import ResNet
from resfit.training.compiling import check_compiler, repays, worth_trying
from resfit.training.recipe import MemoryFormat, Precision, Recipe
from resfit.training.step import InputLayer, NotFinite, TrainingStep

# What a probe may take: a share of the training that it decides on, so that a long one is decided on whole batches
LEAST_SECONDS, MOST_SECONDS, PROBE_SHARE = 4.0, 60.0, 0.02
LIMITED_SHARE = 0.05  # the most of a training that has a time to keep to
TURNS = 5
MOST_TURNS, MOST_SHARE = 40, 0.25  # of short steps there are more turns, in this share of the seconds
LEAST_TURNS = 2  # the first warms up
FIRST_LOOK = 4  # images whose time says how many a probe can afford
# bfloat16 rounds to three digits: only a clear gain is worth that
BF16_GAIN = 1.1
# Within this the layouts are one speed, and the same is chosen every time; for a short training, where little is
# to gain, it is more, so that the same command gives the same weights
FORMAT_GAIN, SHORT_FORMAT_GAIN = 1.03, 1.15
SHORT_SECONDS = 600.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probed:
    """The fastest way to run a recipe here, and its seconds a step (without reading the images)."""

    precision: Precision
    memory_format: MemoryFormat
    compile: Literal["eager", "compiled"]
    step_seconds: float


def probe(
    network: ResNet,
    recipe: Recipe,
    images: np.ndarray,
    targets: np.ndarray,
    preprocessing: Preprocessing,
    *,
    seconds: float | None = None,
    planned_steps: float = math.inf,
    planned_seconds: float = math.inf,
) -> Probed:
    """Times a few real steps of each allowed combination on copies of the network, in turns.

    images uint8 (batch, H, W, C), targets int64 (batch,). Combinations take turns, so that a neighbour's burst of
    work hits all; the fastest turn of each counts. It takes about `seconds` (by default a share of the training
    planned, 4 s to a minute): where whole batches would take longer, the steps are of fewer images, whose fastest
    layout may be another, and `step_seconds` is scaled to the batch.
    planned_steps, planned_seconds: how long the training will be, whichever ends first (both unknown: short).
    Only one so long that compiling could repay itself is tried compiled, and that takes a minute or so more.
    UsageError when the recipe asks for compiled training and there is no compiler, or no combination computes finite
    gradients; one that does not is never chosen.
    """
    if recipe.compile == "compiled":
        check_compiler()
    recipe = dataclasses.replace(
        recipe,
        balance="none",
        teacher=None,
        distill_weight=0.0,
        distill_temperature=None,
        distill_mirrored=False,
        hint_weight=0.0,
    )
    trials = [_Trial(network, dataclasses.replace(recipe, **values), preprocessing) for values in _combinations(recipe)]
    started = time.perf_counter()
    image_seconds = _image_seconds(trials[0], images, targets)
    if seconds is None:
        seconds = _probe_seconds(min(planned_seconds, planned_steps * len(images) * image_seconds), planned_seconds)
    affordable = int(seconds / (LEAST_TURNS * len(trials)) / image_seconds)
    count = min(max(affordable, FIRST_LOOK), len(images))
    for turn in range(MOST_TURNS):
        spent = time.perf_counter() - started
        if turn >= LEAST_TURNS and spent > (seconds if turn < TURNS else MOST_SHARE * seconds):
            break
        for trial in trials:
            trial.run(images[:count], targets[:count], counts=turn > 0)
    if all(trial.broken for trial in trials):
        raise UsageError(
            f"no step with {trials[0].recipe.precision} numbers gives finite gradients for these images",
            hint="choose --precision fp32, or larger images",
        )
    scale = len(images) / count
    shortest = min(planned_seconds, planned_steps * min(trial.step_seconds(scale) for trial in trials))
    best = min(trials, key=lambda trial: trial.cost(scale, short=shortest < SHORT_SECONDS))
    step_seconds = best.step_seconds(scale)
    compiled = recipe.compile == "compiled"
    if recipe.compile == "auto" and best.may_compile():
        steps = min(planned_steps, planned_seconds / step_seconds)
        if math.isfinite(steps) and worth_trying(steps * step_seconds):
            compiled = _compiled_repays(network, best, images, targets, preprocessing, step_seconds, steps)
    return Probed(
        precision=best.recipe.precision,
        memory_format=best.recipe.memory_format,
        compile="compiled" if compiled else "eager",
        step_seconds=step_seconds,
    )


def _combinations(recipe: Recipe) -> list[dict[str, Any]]:
    """What may be chosen between, all of it eager: compiling each would take minutes."""
    precisions = ("fp32", "bf16") if recipe.precision == "auto" else (recipe.precision,)
    formats = ("channels_last", "contiguous") if recipe.memory_format == "auto" else (recipe.memory_format,)
    return [
        {"precision": precision, "memory_format": memory_format, "compile": "eager"}
        for precision, memory_format in itertools.product(precisions, formats)
    ]


def _compiled_repays(
    network: ResNet,
    eager: "_Trial",
    images: np.ndarray,
    targets: np.ndarray,
    preprocessing: Preprocessing,
    eager_seconds: float,
    steps: float,
) -> bool:
    """Compiles a copy and times it, with the whole batch, as the compiled code is for that size alone."""
    trial = _Trial(network, dataclasses.replace(eager.recipe, compile="compiled"), preprocessing)
    started = time.perf_counter()
    try:
        trial.run(images, targets, counts=False)
    except Exception:  # whatever a compiler may do: eager training needs none
        return False
    compiling_seconds = time.perf_counter() - started
    for _ in range(LEAST_TURNS):
        trial.run(images, targets, counts=True)
    return repays(
        eager_seconds=eager_seconds,
        compiled_seconds=trial.fastest,
        compiling_seconds=compiling_seconds,
        steps=steps,
    )


def _image_seconds(trial: "_Trial", images: np.ndarray, targets: np.ndarray) -> float:
    """Seconds an image of a step of few, which says how many a probe can afford."""
    look = min(FIRST_LOOK, len(images))
    for turn in range(2):  # the first warms up
        trial.run(images[:look], targets[:look], counts=turn > 0)
    seconds = (trial.fastest - trial.update_seconds) / look
    trial.fastest = math.inf
    return seconds


def _probe_seconds(planned: float, limit: float) -> float:
    """What a probe may take of a training planned to last so many seconds, which has a limit or none."""
    share = PROBE_SHARE * planned if math.isfinite(planned) else 0.0
    return min(max(share, min(LEAST_SECONDS, LIMITED_SHARE * limit)), MOST_SECONDS)


class _Trial:
    """One combination with its own copy of the network."""

    def __init__(self, network: ResNet, recipe: Recipe, preprocessing: Preprocessing):
        self.recipe = recipe
        self.take_step = TrainingStep(copy.deepcopy(network), recipe)
        self.input_layer = InputLayer(preprocessing, recipe.memory_format)
        self.fastest = math.inf
        self.broken = False
        self.update_seconds = 0.0  # of the fastest: the part that more images do not prolong

    def run(self, images: np.ndarray, targets: np.ndarray, *, counts: bool) -> None:
        """One step; the first turn warms up and does not count. Once numbers are not finite, it counts as endless."""
        if self.broken:
            return
        started = time.perf_counter()
        batch = Batch(images=images, targets=targets, indices=np.arange(len(targets)), step=0)
        try:
            self.take_step(batch, self.input_layer, lr=1e-4)
        except NotFinite:  # bf16 does so on maps of a pixel or two, where fp32 does not
            self.broken, self.fastest = True, math.inf
            return
        seconds = time.perf_counter() - started
        if counts and seconds < self.fastest:
            self.fastest, self.update_seconds = seconds, self.take_step.update_seconds

    def step_seconds(self, scale: float) -> float:
        """Seconds of a step of `scale` times as many images as the fastest had."""
        return (self.fastest - self.update_seconds) * scale + self.update_seconds

    def cost(self, scale: float, *, short: bool) -> float:
        """Seconds of a step of `scale` times the images, times what a choice of doubtful gain must win by."""
        factor = BF16_GAIN if self.recipe.precision == "bf16" else 1.0
        if self.recipe.memory_format == "contiguous":
            factor *= SHORT_FORMAT_GAIN if short else FORMAT_GAIN
        return self.step_seconds(scale) * factor

    def may_compile(self) -> bool:
        """Whether the recipe that won can be a compiled one."""
        return self.recipe.precision in ("fp32", "bf16") and not self.recipe.activation_checkpointing
