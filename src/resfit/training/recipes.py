"""Recipes by name, and recipes read from a file or a run."""

import json
from pathlib import Path

from resfit.errors import UsageError, nearest
from resfit.training.recipe import Recipe

RECIPE_FILE = "recipe.json"

NAMED = {
    # He et al. 2015, section 4.2 (CIFAR-10): 64,000 iterations of 128 images, the rate divided by 10 at 32,000 and
    # 48,000, decay on all weights, 4 pixels of padding and flips, no warm-up (which only their 110 layers had).
    # What differs: the mean and deviation of each channel are taken away in place of each pixel's mean, padding
    # mirrors the image in place of zeros, flips alternate in place of being drawn anew, and fewer images are kept
    # apart for validation than their 5,000 of 50,000.
    "paper": Recipe(
        steps=64_000,
        batch_size=128,
        lr=0.1,
        momentum=0.9,
        nesterov=False,
        weight_decay=1e-4,
        decay_norms=True,
        schedule="step",
        milestones=(0.5, 0.75),
        milestone_decay=0.1,
        warmup_fraction=0.0,
        uncropped_fraction=0.0,
        flip=True,
        precision="fp32",
    ),
    # What a training follows unless it is told otherwise
    "fast": Recipe(),
    # For many epochs and large networks, which learn their images by heart otherwise
    "strong": Recipe(
        epochs=200,
        label_smoothing=0.1,
        trivial=True,
        mixup=0.2,
        uncropped_fraction=0.0,
        warmup_fraction=0.05,
        ema_decay=0.999,
    ),
}


def read_recipe(source: str) -> Recipe:
    """The recipe of a name (paper, fast, strong), a JSON file, or a run folder; UsageError where there is none."""
    if source in NAMED:
        return NAMED[source]
    path = Path(source) / RECIPE_FILE if Path(source).is_dir() else Path(source)
    if not path.exists() and "/" not in source and not source.endswith(".json"):
        raise UsageError(f"there is no recipe {source!r}", hint=nearest(source, NAMED) + ", or name a file or a run")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a recipe: {error}", hint="give a run folder or its recipe.json") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} is not a recipe: an object expected", hint="give a run folder or its recipe.json")
    return Recipe.from_dict(values)
