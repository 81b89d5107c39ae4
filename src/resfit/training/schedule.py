"""Learning rate by step."""

import math
from collections.abc import Sequence

from resfit.training.recipe import DEFAULT_MILESTONE_DECAY, DEFAULT_MILESTONES, Recipe

CYCLE_START, CYCLE_END = 25.0, 1e4  # one_cycle starts at lr / 25 and ends at a ten thousandth of that


def progress(
    step: float, steps: int, replans: Sequence[tuple[int, int]] = (), extensions: Sequence[tuple[int, int]] = ()
) -> float:
    """How far the schedule is before `step`, 0 to 1.

    Each re-plan (step, steps) bends it so that it ends at its own steps; from an extension on it is that of a
    training planned for so many steps from its start.
    """
    start, done, end = 0, 0.0, steps
    changes = [(at, total, False) for at, total in replans] + [(at, total, True) for at, total in extensions]
    for at, total, anew in sorted(changes, key=lambda change: change[0]):
        if step < at:
            break
        done = at / total if anew else done + (1 - done) * (at - start) / (end - start)
        start, end = at, total
    return done + (1 - done) * (step - start) / max(end - start, 1)


def learning_rate(recipe: Recipe, fraction: float) -> float:
    """The rate when `fraction` of the schedule is done: a rise to the recipe's, then a fall.

    one_cycle is torch's OneCycleLR with its default factors and the momentum left alone.
    """
    assert recipe.lr is not None
    warmup = recipe.warmup_fraction
    rest = min(max(fraction - warmup, 0.0) / max(1 - warmup, 1e-9), 1.0)
    if recipe.schedule == "one_cycle":
        low = recipe.lr / CYCLE_START
        if fraction < warmup:
            return _cosine(low, recipe.lr, fraction / warmup)
        return _cosine(recipe.lr, low / CYCLE_END, rest)
    if fraction < warmup:
        return recipe.lr * fraction / warmup
    if recipe.schedule == "linear":
        return recipe.lr * (1 - rest)
    if recipe.schedule == "step":
        passed = sum(fraction >= milestone for milestone in recipe.milestones or DEFAULT_MILESTONES)
        return recipe.lr * (recipe.milestone_decay or DEFAULT_MILESTONE_DECAY) ** passed
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * rest))


def _cosine(start: float, end: float, part: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * part))
