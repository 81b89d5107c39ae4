"""What fine-tuning is worth: a network trained on CIFAR-10 goes on to photographs, against one that starts anew.

    python benchmarks/fine_tuning.py RUN PHOTOS [--epochs 5] [--img-size 64] [--seeds 2] [--threads N]

RUN is a run of a named network trained on other images. Each way trains the same network on PHOTOS by
`resfit train` with the same recipe and epochs, and a seed each; the test images are measured once a training and
choose nothing. Writes results/fine_tuning.json. Exit 0 when fine-tuning ends at least 2 points above starting anew
on average, 3 when not.
"""

import argparse
import os
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

# Waiting threads sleep rather than spin: on a busy machine a spinning one holds up the one it waits for
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from record import RESULTS, run, write_result

import resfit
from resfit.errors import UsageError
from resfit.model.model import weights_sha256
from resfit.nn.architectures import architecture_name

GOAL_POINTS = 2.0
BASE, SHOWN = "from random weights", "fine-tuned"


def main() -> int:
    arguments = _arguments()
    source = resfit.load(arguments.source)
    name = architecture_name(source.spec)
    if name is None:
        raise UsageError(f"{arguments.source} holds a network without a name, which cannot start anew")
    ways = _ways(name, str(arguments.source))
    with tempfile.TemporaryDirectory(prefix="resfit-fine-tuning-") as folder:
        trained = {way: _trainings(way, flags, arguments, Path(folder)) for way, flags in ways.items()}
    rows = [_row(way, results) for way, results in trained.items()]
    accuracies = {row["way"]: row["accuracy"] for row in rows}
    gain = 100 * (accuracies[SHOWN] - accuracies[BASE])
    first = trained[SHOWN][0]
    write_result(
        arguments.out,
        what=f"{name} on photographs at {arguments.img_size} pixels, {arguments.epochs} epochs: "
        "fine-tuned from weights of other images, and from random ones; test images measured once a training",
        rows=rows,
        gain_points=gain,
        goal_points=GOAL_POINTS,
        source={
            "weights_sha256": weights_sha256(source),
            "labels": list(source.labels),
            "data": (source.provenance.data or {}).get("fingerprint"),
        },
        roles=first["roles"],
        recipe=first["recipe"],
    )
    for row in rows:
        print(f"{row['way']:<24} {row['accuracy']:.2%} (spread {row['spread']:.2%})  {row['accuracies']}")
    print(f"fine-tuning gains {gain:.1f} points, goal {GOAL_POINTS:g}; {arguments.out}")
    return 0 if gain >= GOAL_POINTS else 3


def _ways(name: str, source: str) -> dict[str, dict[str, Any]]:
    """What each way adds to the common flags."""
    tuned = {"pretrained": source}
    return {
        BASE: {"model": name},
        SHOWN: tuned,
        "frozen, then thawed": {**tuned, "freeze_epochs": 1},
        "layer-wise rates": {**tuned, "layer_decay": 0.9},
    }


def _trainings(way: str, flags: dict[str, Any], arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """What `resfit train` returned, a seed each."""
    common = {"img_size": arguments.img_size, "epochs": arguments.epochs, "threads": arguments.threads}
    return [
        resfit.train(arguments.data, **common, **flags, seed=seed, out=str(folder / f"{way} {seed}"))
        for seed in range(arguments.seeds)
    ]


def _row(way: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    accuracies = [result["accuracy"] for result in results]
    return {
        "way": way,
        "accuracy": mean(accuracies),
        "spread": stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "accuracies": accuracies,
        "seeds": [result["seed"] for result in results],
        "num_images": results[0]["num_images"],
        "freeze_epochs": results[0]["recipe"]["freeze_epochs"],
        "layer_decay": results[0]["recipe"]["layer_decay"],
        "lr": results[0]["recipe"]["lr"],
        "elapsed_seconds": [result["elapsed_seconds"] for result in results],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", type=Path, help="run of a named network, trained on other images")
    parser.add_argument("data", help="class folders of photographs")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--img-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS / "fine_tuning.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
