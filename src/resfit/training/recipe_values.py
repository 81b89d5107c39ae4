"""What the values of a recipe may be, and which cannot stand together."""

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

from resfit.data.balance import Balance
from resfit.errors import UsageError, nearest

if TYPE_CHECKING:
    from resfit.training.recipe import Recipe

Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "muon"]
Loss = Literal["cross_entropy", "bce", "mse"]
Schedule = Literal["cosine", "linear", "one_cycle", "step"]
Precision = Literal["auto", "fp64", "fp32", "bf16", "fp16"]
MemoryFormat = Literal["auto", "contiguous", "channels_last"]
Compile = Literal["auto", "eager", "compiled"]


_CHOICES = {
    "optimizer": Optimizer,
    "loss": Loss,
    "schedule": Schedule,
    "balance": Balance,
    "precision": Precision,
    "memory_format": MemoryFormat,
    "compile": Compile,
}
_COUNTS = {
    "epochs": 1, "steps": 1, "patience": 1, "batch_size": 2, "accumulate": 1, "micro_batch": 2, "threads": 1,
    "crop_padding": 0, "cutout": 0, "freeze_epochs": 0,
}  # fmt: skip
_SWITCHES = ("nesterov", "decay_norms", "flip", "trivial", "activation_checkpointing")
_RANGES = {
    "lr": (1e-9, 1e3),
    "momentum": (0.0, 0.9999),
    "weight_decay": (0.0, 1.0),
    "l1": (0.0, 1.0),
    "warmup_fraction": (0.0, 1.0),
    "milestone_decay": (1e-6, 1.0),
    "label_smoothing": (0.0, 0.99),
    "ema_decay": (0.0, 0.99999),
    "uncropped_fraction": (0.0, 1.0),
    "clip_norm": (1e-9, 1e9),
    "clip_value": (1e-9, 1e9),
    "clip_weights": (1e-6, 1e6),
    "max_norm": (1e-6, 1e6),
    "layer_decay": (0.01, 1.0),
    "distill_weight": (0.0, 1.0),
    "distill_temperature": (0.1, 100.0),
    "hint_weight": (0.0, 1e3),
    "train_memory_mb": (1.0, 1e9),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_values(recipe: "Recipe") -> None:
    """UsageError that names the first value of a recipe that cannot be, and what is expected."""
    for name, kind in _CHOICES.items():
        if getattr(recipe, name) not in get_args(kind):
            value = str(getattr(recipe, name))
            raise UsageError(f"{name} is {value!r}", hint=nearest(value, get_args(kind)))
    for name, least in _COUNTS.items():
        value = getattr(recipe, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise UsageError(f"{name} is {value!r}, expected a whole number of at least {least}")
    for name, (low, high) in _RANGES.items():
        value = getattr(recipe, name)
        if value is not None and not (_is_number(value) and low <= value <= high):
            raise UsageError(f"{name} is {value}, expected {low} to {high}")
    for name in _SWITCHES:
        if getattr(recipe, name) not in (None, False, True):
            raise UsageError(f"{name} is {getattr(recipe, name)!r}, expected true or false")
    _check_milestones(recipe)
    for wrong, message, hint in _contradictions(recipe):
        if wrong:
            raise UsageError(message, hint=hint)


def _check_milestones(recipe: "Recipe") -> None:
    rising = all(before < after for before, after in pairwise(recipe.milestones))
    if not rising or not all(_is_number(at) and at > 0 for at in recipe.milestones):
        raise UsageError(f"milestones are {recipe.milestones}, expected rising numbers above 0")
    if len({at < 1 for at in recipe.milestones}) > 1:
        raise UsageError(
            f"milestones are {recipe.milestones}: some are fractions of the schedule, some are steps",
            hint="give all below 1, or all of 1 and more",
        )


def _contradictions(recipe: "Recipe") -> tuple[tuple[bool, str, str], ...]:
    """(whether it is so, what is wrong, the way out) of values that cannot stand together."""
    return (
        (
            recipe.epochs is not None and recipe.steps is not None,
            f"epochs is {recipe.epochs} and steps is {recipe.steps}: both say how long to train",
            "give one of them",
        ),
        (
            recipe.accumulate > 1 and recipe.micro_batch is not None,
            f"accumulate is {recipe.accumulate} and micro_batch is {recipe.micro_batch}: both split the batch",
            "give one of them",
        ),
        (
            recipe.nesterov is True and (recipe.optimizer not in ("sgd", "muon") or recipe.momentum == 0),
            f"nesterov needs sgd or muon with momentum, and this is {recipe.optimizer} with momentum {recipe.momentum}",
            "leave nesterov out",
        ),
        (
            recipe.momentum is not None and recipe.optimizer == "adagrad",
            f"momentum is {recipe.momentum}, and adagrad has none",
            "leave momentum out, or choose sgd, adam, adamw, rmsprop or muon",
        ),
        (
            recipe.l1 > 0 and recipe.optimizer == "muon",
            f"l1 is {recipe.l1}, and muon leaves out how large a gradient is",
            "leave l1 out, or choose sgd",
        ),
        (
            recipe.schedule != "step" and bool(recipe.milestones or recipe.milestone_decay),
            f"milestones and their decay are of the step schedule, and this one is {recipe.schedule}",
            "choose the schedule step, or leave them out",
        ),
        (
            recipe.distill_temperature is not None and not recipe.distill_weight,
            f"distill_temperature is {recipe.distill_temperature}, and distill_weight is 0",
            "give distill_weight too, as 0.5",
        ),
        (
            recipe.distill_mirrored and not recipe.distill_weight,
            "distill_mirrored is of a teacher's answers, and its share of the loss, distill_weight, is 0",
            "give distill_weight too, as 0.5",
        ),
        (
            bool(recipe.hint_weight) and not recipe.distill_weight,
            f"hint_weight is {recipe.hint_weight}, and distill_weight is 0: hints are a teacher's",
            "give distill_weight too, as 0.5",
        ),
        (
            recipe.teacher is not None and not recipe.distill_weight,
            "there is a teacher, and its share of the loss, distill_weight, is 0",
            "give distill_weight too, as 0.5",
        ),
        (
            recipe.compile == "compiled" and recipe.precision in ("fp64", "fp16"),
            f"compiled training is for speed, and {recipe.precision} is for correctness",
            "choose fp32 or bf16, or leave compile out",
        ),
        (
            recipe.compile == "compiled" and recipe.activation_checkpointing,
            "activation checkpointing is of eager training, and this one is compiled",
            "leave one of them out",
        ),
    )
