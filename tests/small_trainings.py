"""A small network and recipes that several tests of training share."""

import csv
import dataclasses
from pathlib import Path

from resfit.model.model import weights_sha256
from resfit.nn.spec import ResNetSpec
from resfit.training.history import TIMING
from resfit.training.recipe import Recipe

SPEC = ResNetSpec(
    depths=(1, 1),
    widths=(8, 16),
    strides=(1, 2),
    stem="cifar",
    stem_width=8,
    num_classes=10,
    in_channels=1,
    dropout=0.1,
    drop_path=0.2,
)
RECIPE = Recipe(
    epochs=3,
    batch_size=64,
    precision="fp32",
    memory_format="channels_last",
    compile="eager",
    threads=1,
    ema_decay=0.9,
    flip=True,
    crop_padding=1,
)
# A recipe that leaves as much as there can be to carry over: scaler, average, mixed images, classes drawn evenly
RICH = dataclasses.replace(
    RECIPE,
    epochs=2,
    batch_size=128,
    micro_batch=64,
    optimizer="adamw",
    lr=0.01,
    precision="fp16",
    mixup=0.2,
    cutmix=0.5,
    rotate_degrees=10.0,
    cutout=2,
    trivial=True,
    l1=1e-6,
    clip_norm=1.0,
    max_norm=4.0,
    balance="sampling",
    schedule="one_cycle",
    patience=2,
)


def rows(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without what differs from one training to its repetition."""
    with open(folder / "metrics.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name not in TIMING} for row in csv.DictReader(file)]


def assert_same(result, folder: Path, whole) -> None:
    """That a training ended as `whole`, a (result, folder), did."""
    expected, expected_folder = whole
    assert weights_sha256(result.model) == weights_sha256(expected.model)
    assert rows(folder) == rows(expected_folder)
    assert len(rows(folder)) == len(expected.history)
    assert result.recipe == expected.recipe
