"""What a person reads of a training under way: recipe.json, and its history as metrics.csv, a row an epoch."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resfit import storage
from resfit.training.events import EpochDone
from resfit.training.recipe import Recipe

TIMING = ("images_per_second", "elapsed")  # columns that differ from one training to its repetition


def to_csv(history: Sequence[dict[str, Any]]) -> bytes:
    """The history as a table; equal histories give equal bytes."""
    text = io.StringIO()
    names = list(history[0]) if history else [field.name for field in dataclasses.fields(EpochDone)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()


def write_tables(folder: Path, recipe: Recipe, history: Sequence[dict[str, Any]]) -> None:
    """Writes both into the run folder, each atomically."""
    storage.write_atomic(folder / "recipe.json", json.dumps(recipe.to_dict(), indent=2).encode())
    storage.write_atomic(folder / "metrics.csv", to_csv(history))
