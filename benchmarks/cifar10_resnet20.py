"""How good the default training is: resnet20 on CIFAR-10 in 50 epochs, at least 91.25 % on the test images.

    python benchmarks/cifar10_resnet20.py DATA [--epochs 50] [--seed 1] [--run FOLDER] [--resume]

DATA is CIFAR-10 as class folders or Hugging Face parquet. Writes results/cifar10_resnet20.json. The test images
are measured once, on the final weights; validation images are cut from the training images and choose nothing.
Exit 0 when the goal is met, 3 when not.
"""

import os

# Waiting threads sleep rather than spin: on a busy machine a spinning one holds up the one it waits for
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
from pathlib import Path

from record import RESULTS, run, write_result

from resfit.data.sources import open_data
from resfit.metrics.classification import accuracy, wilson_interval
from resfit.model.model import weights_sha256
from resfit.nn.architectures import architecture
from resfit.training.loop import train
from resfit.training.progress import ProgressPrinter
from resfit.training.recipe import Recipe
from resfit.training.step import InputLayer, network_logits

GOAL = 0.9125  # He et al. 2015, table 6, after 164 epochs


def main() -> int:
    arguments = _arguments()
    splits = open_data(arguments.data, img_size=32)
    assert splits.test is not None
    recipe = Recipe(epochs=arguments.epochs, seed=arguments.seed, threads=arguments.threads)
    result = train(
        architecture(arguments.model),
        splits,
        recipe,
        folder=arguments.run,
        on_event=ProgressPrinter(),
        resume=arguments.resume,
    )
    logits = network_logits(
        result.model.module(), splits.test, InputLayer(splits.preprocessing, result.recipe.memory_format)
    )
    measured = accuracy(logits, splits.test.targets)
    count = len(splits.test)
    write_result(
        arguments.out,
        what=f"{arguments.model} on CIFAR-10: accuracy of the final weights on the test images, measured once",
        data={"fingerprint": splits.fingerprint, "roles": splits.roles()},
        recipe=result.recipe.to_dict(),
        seed=result.recipe.seed,
        epochs=result.epochs,
        accuracy=measured,
        accuracy_interval=wilson_interval(round(measured * count), count),
        num_images=count,
        goal=GOAL,
        weights_sha256=weights_sha256(result.model),
        images_per_second=result.images_per_second,
        elapsed_seconds=result.elapsed_seconds,
        history=result.history,
    )
    print(f"accuracy {measured:.4f} on {count} test images, goal {GOAL}; {arguments.out}")
    return 0 if measured >= GOAL else 3


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", help="CIFAR-10: class folders or Hugging Face parquet")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--run", type=Path, default=Path("runs/cifar10-resnet20"), help="run folder")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "cifar10_resnet20.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
