"""Which precision and memory layout train fastest here: a short measurement, whose answer goes into the recipe."""

import copy
import dataclasses
import itertools
import time

import numpy as np
from torch import Tensor

from resfit.data.preprocessing import Preprocessing
from resfit.nn.resnet import ResNet
from resfit.training.recipe import MemoryFormat, Precision, Recipe
from resfit.training.schedule import build_optimizer
from resfit.training.step import InputLayer, torch_format, training_step

PROBE_SECONDS = 4.0
TURNS = 5
LEAST_TURNS = 2  # the first warms up
FIRST_LOOK = 4  # images whose time says how many a probe can afford
# bfloat16 rounds to three digits: only a clear gain is worth that
BF16_GAIN = 1.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probed:
    """The fastest way to run a recipe here, and its seconds a step (without reading the images)."""

    precision: Precision
    memory_format: MemoryFormat
    step_seconds: float


def probe(
    network: ResNet,
    recipe: Recipe,
    images: np.ndarray,
    targets: Tensor,
    preprocessing: Preprocessing,
    *,
    seconds: float = PROBE_SECONDS,
) -> Probed:
    """Times a few real steps of each allowed combination on copies of the network, in turns.

    images uint8 (batch, H, W, C). Combinations take turns, so that a neighbour's burst of work hits all; the
    fastest turn of each counts. It takes about `seconds`: where whole batches would take longer, the steps are
    of fewer images, and `step_seconds` is scaled to the batch.
    """
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if recipe.precision == "auto" else (recipe.precision,)
    formats: tuple[MemoryFormat, ...] = (
        ("channels_last", "contiguous") if recipe.memory_format == "auto" else (recipe.memory_format,)
    )
    trials = [
        _Trial(network, dataclasses.replace(recipe, precision=precision, memory_format=memory_format))
        for precision, memory_format in itertools.product(precisions, formats)
    ]
    started = time.perf_counter()
    count = _affordable(trials[0], images, targets, preprocessing, seconds / (LEAST_TURNS * len(trials)))
    for turn in range(TURNS):
        for trial in trials:
            if turn >= LEAST_TURNS and time.perf_counter() - started > seconds:
                break
            trial.run(images[:count], targets[:count], preprocessing, counts=turn > 0)
    best = min(trials, key=lambda trial: trial.fastest * (BF16_GAIN if trial.recipe.precision == "bf16" else 1))
    return Probed(
        precision=best.recipe.precision,
        memory_format=best.recipe.memory_format,
        step_seconds=best.fastest * len(images) / count,
    )


def _affordable(
    trial: "_Trial", images: np.ndarray, targets: Tensor, preprocessing: Preprocessing, seconds: float
) -> int:
    """How many of the images a step can have in about so many seconds."""
    look = min(FIRST_LOOK, len(images))
    for turn in range(2):  # the first warms up
        trial.run(images[:look], targets[:look], preprocessing, counts=turn > 0)
    affordable = int(seconds / trial.fastest * look)
    trial.fastest = float("inf")
    return min(max(affordable, look), len(images))


class _Trial:
    """One combination with its own copy of the network."""

    def __init__(self, network: ResNet, recipe: Recipe):
        self.recipe = recipe
        self.network = copy.deepcopy(network).to(memory_format=torch_format(recipe.memory_format))  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.network, recipe)
        self.fastest = float("inf")

    def run(self, images: np.ndarray, targets: Tensor, preprocessing: Preprocessing, *, counts: bool) -> None:
        started = time.perf_counter()
        inputs = InputLayer(preprocessing, self.recipe.memory_format)(images)
        training_step(self.network, self.optimizer, inputs, targets, self.recipe, lr=1e-4)
        if counts:  # the first turn warms up
            self.fastest = min(self.fastest, time.perf_counter() - started)
