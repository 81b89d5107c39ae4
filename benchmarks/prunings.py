"""Prunings of one network by several recipes, side by side: how near each came to it, and what each lost.

    python benchmarks/prunings.py MODEL DATA RUN=JSON.. [--out results/prune_recipes.json]

RUN is a folder that prune_published.py trained in, JSON what it wrote. How near the answers are is measured on images
that no network was trained on as they are, though the original knows what they are made of: blends of training images,
as `resfit compress` chooses by, and validation images turned by up to 20 degrees. The test images are not read: what
was lost on them stands in JSON.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, run, write_result

from resfit.compression.agreement import Reference, Selection
from resfit.compression.selection import selection_for
from resfit.data.augment import Augment, apply, draw
from resfit.data.dataset import ArrayDataset
from resfit.data.sources import open_data
from resfit.errors import UsageError
from resfit.model.load import load
from resfit.model.model import weights_sha256

RECIPE = ("optimizer", "lr", "hint_weight", "mixup", "cutmix")
FOUND = ("seed", "epochs", "macs_ratio", "latency_ratio", "accuracy_after", "drop", "commit")
TURNED = Augment(rotate_degrees=20.0)


def main() -> int:
    arguments = _arguments()
    original = load(arguments.model)
    splits = open_data(arguments.data, preprocessing=original.preprocessing)
    references = {
        "blended": Reference(original, selection_for(original, splits, seed=0)),
        "turned": Reference(original, _turned(splits.validation)),
    }
    rows: list[dict[str, Any]] = []
    for pair in arguments.runs:
        folder, _, file = pair.partition("=")
        model, found = load(folder), json.loads(Path(file).read_bytes())
        if weights_sha256(model) != found["weights_sha256"]["after"]:
            raise UsageError(f"{folder} is not the run of {file}", hint="name the run that wrote it")
        row: dict[str, Any] = {"result": Path(file).name, **{name: found["recipe"].get(name) or 0.0 for name in RECIPE}}
        row["teacher_views"] = 2 if found["recipe"].get("distill_mirrored") else 1
        row |= {name: found[name] for name in FOUND}
        for name, reference in references.items():
            agreement = reference.agreement(model)
            row |= {f"{name}_divergence": agreement.divergence, f"{name}_differing": agreement.disagreement}
        rows.append(row)
        print(row, flush=True)
    drops = [row["drop"] for row in rows]
    write_result(
        arguments.out,
        what="one network pruned and trained on by several recipes: divergence and disagreement from its answers",
        data={"fingerprint": splits.fingerprint},
        compared_on={name: reference.selected_on for name, reference in references.items()},
        rows=rows,
        drop_mean=statistics.mean(drops),
        drop_deviation=statistics.stdev(drops) if len(drops) > 1 else None,
    )
    return 0


def _turned(dataset: ArrayDataset) -> Selection:
    draws = draw(TURNED, count=len(dataset), seed=0, epoch=0)
    return Selection(
        pictures=apply(dataset.images[np.arange(len(dataset))], draws, TURNED),
        targets=dataset.targets,
        new=False,
        told=f"{len(dataset):,} validation images turned by up to {TURNED.rotate_degrees:g} degrees",
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="what was pruned")
    parser.add_argument("data", help="the images it was trained on")
    parser.add_argument("runs", nargs="+", metavar="RUN=JSON", help="a training's folder and its result")
    parser.add_argument("--out", type=Path, default=RESULTS / "prune_recipes.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
