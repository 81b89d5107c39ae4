"""A published network pruned and trained on: its cost, its time and its accuracy before and after.

    python benchmarks/prune_published.py MODEL DATA [--speedup 2.5] [--epochs 40] [--run FOLDER] [--resume]

MODEL is anything `resfit` opens (the published ResNet-32's .th file, a run folder); DATA the images it was trained
on. Pruning looks at training images alone, the validation images are measured and choose nothing. The test images are
measured once each, on the original and on the final file, which is read in a process of its own. Times are of one
image through ONNX Runtime, turn about in one run, each in its own process. Writes results/prune_NAME.json.
Exit 0 when the goals are met, 3 when not.
"""

import os

# Waiting threads sleep rather than spin: on a busy machine a spinning one holds up the one it waits for
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import dataclasses
from pathlib import Path
from typing import get_args

from files import accuracy_of, latencies
from record import RESULTS, run, write_result

from resfit.compression.fine_tune import fine_tune, recipe_for
from resfit.compression.importance import Importance
from resfit.compression.prune import pruned_start
from resfit.data.dataset import Splits
from resfit.data.sources import open_data
from resfit.engines.artifact import build
from resfit.errors import UsageError
from resfit.measure.macs import macs, parameters
from resfit.model.load import load
from resfit.model.model import Model, weights_sha256
from resfit.model.run_folder import save
from resfit.training.checkpoint import checkpoint_files
from resfit.training.progress import ProgressPrinter
from resfit.training.recipe import Recipe
from resfit.training.recipe_values import Optimizer

RECIPE = ("optimizer", "lr", "distill_weight", "distill_mirrored", "hint_weight", "mixup", "cutmix")
GOALS = {"macs_ratio": 2.5, "drop": 0.3, "latency_ratio": 1.6}


def main() -> int:
    arguments = _arguments()
    original = load(arguments.model)
    splits = open_data(arguments.data, preprocessing=original.preprocessing)
    assert splits.test is not None
    if checkpoint_files(arguments.run) and not arguments.resume:
        raise UsageError(f"{arguments.run} holds an earlier training", hint="give --resume, or another --run")
    smaller = pruned_start(
        original,
        splits.train.images,
        speedup=arguments.speedup,
        kind=arguments.importance,
        multiple=arguments.multiple,
        seed=arguments.seed,
        folder=arguments.run,
        resume=arguments.resume,
    )
    spec = smaller.spec
    values = {name: getattr(arguments, name) for name in RECIPE}
    given = {name: value for name, value in values.items() if value is not None}
    recipe = dataclasses.replace(recipe_for(spec), **given)
    print(f"depths {spec.depths}, widths {spec.widths}, inside {spec.inner_widths}", flush=True)
    trained = fine_tune(
        smaller,
        splits,
        epochs=arguments.epochs,
        teacher=original,
        seed=arguments.seed,
        threads=arguments.threads,
        folder=arguments.run,
        recipe=recipe,
        on_event=ProgressPrinter(),
    )
    save(trained, arguments.run)
    return _report(arguments, original, trained, splits, recipe)


def _report(arguments: argparse.Namespace, original: Model, trained: Model, splits: Splits, recipe: Recipe) -> int:
    """Measures both files, writes the result, says whether the goals are met."""
    models = {"before": original, "after": trained}
    files = {name: arguments.run / f"{name}.onnx" for name in models}
    for name, model in models.items():
        build(model, files[name])
    accuracies = {name: accuracy_of(file, splits) for name, file in files.items()}
    times = latencies(files, threads=arguments.latency_threads)
    costs = {name: macs(model.spec, *_size(model)) for name, model in models.items()}
    found = {
        "macs_ratio": costs["before"] / costs["after"],
        "drop": 100 * (accuracies["before"] - accuracies["after"]),
        "latency_ratio": times["ratio"],
    }
    met = {
        "macs_ratio": found["macs_ratio"] >= GOALS["macs_ratio"],
        "drop": found["drop"] <= GOALS["drop"],
        "latency_ratio": found["latency_ratio"] >= GOALS["latency_ratio"],
    }
    write_result(
        arguments.out,
        what="a published network pruned by structure and trained on: the test images are measured once a file",
        data={"fingerprint": splits.fingerprint, "roles": splits.roles()},
        recipe=(trained.provenance.recipe if arguments.epochs else recipe.to_dict()),
        importance=arguments.importance,
        epochs=arguments.epochs,
        seed=arguments.seed,
        threads=arguments.threads,
        selected_on="training images: importance, and what is fitted to them; the test images chose nothing",
        goals=GOALS,
        met=met,
        **found,
        **{f"accuracy_{name}": value for name, value in accuracies.items()},
        **{f"macs_{name}": value for name, value in costs.items()},
        **{f"parameters_{name}": parameters(model.spec) for name, model in models.items()},
        **{f"file_bytes_{name}": file.stat().st_size for name, file in files.items()},
        **{f"latency_ms_{name}": times[name] for name in models},
        latency=times,
        spec=trained.spec.to_dict(),
        weights_sha256={name: weights_sha256(model) for name, model in models.items()},
    )
    print(", ".join(f"{name} {value:.3g} (goal {GOALS[name]:g})" for name, value in found.items()), arguments.out)
    return 0 if all(met.values()) else 3


def _size(model: Model) -> tuple[int, int]:
    return model.preprocessing.height, model.preprocessing.width


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="what is pruned: a checkpoint, a run folder")
    parser.add_argument("data", help="the images it was trained on")
    parser.add_argument("--speedup", type=float, default=GOALS["macs_ratio"], help="in multiply-accumulates")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--importance", default="taylor", choices=get_args(Importance))
    parser.add_argument("--multiple", type=int, default=8, help="of all widths")
    parser.add_argument("--optimizer", default=None, choices=get_args(Optimizer))
    parser.add_argument("--lr", type=float, default=None)
    parser.add_argument("--distill-weight", type=float, default=None)
    parser.add_argument("--distill-mirrored", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--hint-weight", type=float, default=None)
    parser.add_argument("--mixup", type=float, default=None)
    parser.add_argument("--cutmix", type=float, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None, help="of the training")
    parser.add_argument("--latency-threads", type=int, default=1)
    parser.add_argument("--run", type=Path, default=Path("runs/prune-published"), help="run folder")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "prune_published.json")
    arguments = parser.parse_args()
    if arguments.optimizer is not None and arguments.lr is None:
        parser.error("each optimiser has rates of its own: give --lr with --optimizer")
    return arguments


if __name__ == "__main__":
    run(main)
