"""What the article's five-step block learns: as printed, with an activation after the sum, beside its rivals.

    python benchmarks/article_block.py DATA [--images 8000] [--epochs 4] [--seeds 1 2 3]

DATA is CIFAR-10 as class folders or Hugging Face parquet. Four networks of the article's stem (7x7/2, max pool),
one set of widths and depths, one recipe: the five steps (1x1, 3x3, norm, 1x1, sum) as printed, without any
activation, so that the stages are one affine map; the five steps with a ReLU after the sum; the block of the
article's code (a ReLU inside, none after the sum); and the standard basic block. Each network's learning rate is
chosen on validation images, with a seed of its own; the test images are measured once a seed. Writes
results/article_block.json.
"""

import os

# Waiting threads sleep rather than spin: on a busy machine a spinning one holds up the one it waits for
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, run, write_result

from resfit.data.dataset import ArrayDataset, Splits
from resfit.data.sources import open_data
from resfit.measure.macs import macs, parameters
from resfit.metrics.classification import accuracy
from resfit.nn.spec import ResNetSpec
from resfit.randomness import rng
from resfit.training.loop import train
from resfit.training.recipe import Recipe
from resfit.training.result import TrainResult
from resfit.training.step import InputLayer, network_logits
from resfit.training.surroundings import TrainingDiverged

STANDARD = ResNetSpec(
    depths=(2, 2, 2), widths=(16, 32, 64), strides=(1, 2, 2), stem="imagenet", stem_width=16, num_classes=10
)
NETWORKS = {
    "five steps, as printed": dataclasses.replace(STANDARD, block="article", order="none", bias=True),
    "five steps, ReLU after the sum": dataclasses.replace(STANDARD, block="article", order="post", bias=True),
    "the article's code": dataclasses.replace(STANDARD, order="none", bias=True),
    "standard basic block": STANDARD,
}
LEARNING_RATES = (0.03, 0.2)


def main() -> int:
    arguments = _arguments()
    start = time.perf_counter()
    splits = _fewer(open_data(arguments.data, img_size=32), arguments.images)
    recipe = Recipe(epochs=arguments.epochs, threads=arguments.threads, precision="fp32", memory_format="channels_last")
    rows = [_row(name, spec, splits, recipe, arguments.seeds) for name, spec in NETWORKS.items()]
    elapsed = round(time.perf_counter() - start, 1)
    write_result(
        arguments.out,
        what="accuracy on the test images of small networks that differ in their block alone",
        data={"fingerprint": splits.fingerprint, "roles": splits.roles()},
        recipe=recipe.to_dict(),
        seeds=arguments.seeds,
        networks=rows,
        elapsed_seconds=elapsed,
    )
    print(f"written to {arguments.out} after {elapsed} s")
    return 0


def _row(name: str, spec: ResNetSpec, splits: Splits, recipe: Recipe, seeds: list[int]) -> dict[str, Any]:
    """Choose the learning rate on validation images, then train with each seed and measure."""
    chosen = {lr: _validation(spec, splits, dataclasses.replace(recipe, lr=lr, seed=0)) for lr in LEARNING_RATES}
    best = max(chosen, key=lambda lr: chosen[lr])
    results = [train(spec, splits, dataclasses.replace(recipe, lr=best, seed=seed)) for seed in seeds]
    tested = [_accuracy(result, splits.test, splits) for result in results]
    trained = [_accuracy(result, splits.train, splits) for result in results]
    row = {
        "name": name,
        "spec": spec.to_dict(),
        "parameters": parameters(spec),
        "macs": macs(spec, 32, 32),
        "validation_accuracy_by_lr": chosen,
        "lr": best,
        "test_accuracies": tested,
        "test_accuracy_mean": statistics.mean(tested),
        "test_accuracy_deviation": statistics.stdev(tested) if len(tested) > 1 else None,
        "train_accuracies": trained,
        "train_accuracy_mean": statistics.mean(trained),
    }
    print(
        f"{name:32} {row['parameters']:7,} parameters  test {row['test_accuracy_mean']:.3f}"
        f" ({min(tested):.3f} to {max(tested):.3f})  train {row['train_accuracy_mean']:.3f}  lr {best}"
    )
    return row


def _validation(spec: ResNetSpec, splits: Splits, recipe: Recipe) -> float:
    try:
        return float(train(spec, splits, recipe).history[-1]["validation_accuracy"])
    except TrainingDiverged:
        return 0.0


def _accuracy(result: TrainResult, images: ArrayDataset | None, splits: Splits) -> float:
    assert images is not None
    layer = InputLayer(splits.preprocessing, result.recipe.memory_format)
    return accuracy(network_logits(result.model.module(), images, layer), images.targets)


def _fewer(splits: Splits, images: int) -> Splits:
    """The same roles with at most so many training images, drawn once, and 1,000 validation images."""
    order = rng(0, "article block").permutation(len(splits.train))[:images]
    return Splits(
        train=splits.train.subset(np.sort(order)),
        validation=splits.validation.subset(np.arange(min(1000, len(splits.validation)))),
        test=splits.test,
        labels=splits.labels,
        sources={**splits.sources, "train": f"{len(order)} drawn of: {splits.sources['train']}"},
        preprocessing=splits.preprocessing,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", help="CIFAR-10: class folders or Hugging Face parquet")
    parser.add_argument("--images", type=int, default=8_000, help="training images")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS / "article_block.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
