"""A small network that knows its digits, and compressions of it that take few images and points."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
from test_compression_side_by_side import TINY

from resfit.compression.tradeoff_search import search_tradeoff
from resfit.data.sources import open_data
from resfit.model.model import Model
from resfit.training.loop import train
from resfit.training.recipe import Recipe
from resfit.verbs.compress import compress
from resfit.verbs.evaluate import evaluate

SPEC = dataclasses.replace(TINY, num_classes=10, in_channels=1)


@functools.cache
def digits_model(*, epochs: int = 5, lr: float = 0.05) -> Model:
    recipe = Recipe(epochs=epochs, batch_size=32, lr=lr, threads=1, precision="fp32", memory_format="contiguous")
    return train(SPEC, open_data("digits"), recipe).model


def make_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer images, and few points."""
    monkeypatch.setattr("resfit.compression.side_by_side.MOST_IMAGES", 64)
    monkeypatch.setattr("resfit.compression.selection.MOST_IMAGES", 250)
    few = functools.partial(search_tradeoff, trials=4)
    monkeypatch.setattr("resfit.compression.rounded_points.search_tradeoff", few)


def measure_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracies measured in this process, by all the flags that the other one would be given."""

    def evaluated(path: Path, data: str, **flags: Any) -> dict[str, Any]:
        return evaluate(str(path), data, **flags)

    monkeypatch.setattr("resfit.verbs.compress_proof.evaluated", evaluated)


def compressed(model: str, folder: Path, *, data: str = "digits", **flags: Any) -> dict[str, Any]:
    return compress(model, data, **{"out": str(folder / "small.resfit"), "threads": 1, **flags})
