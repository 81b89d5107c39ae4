"""The process that measures small trainings, `python -m resfit.training.memory_child`: see training.memory.

A request as JSON on standard input; on standard output a line of JSON for each answer.
"""

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resfit.data.dataset import ArrayDataset, Splits
from resfit.data.preprocessing import Preprocessing
from resfit.engines.artifact import build, open_session
from resfit.errors import ResfitError
from resfit.measure.memory import forget_peak, memory_bytes, peak_memory_bytes
from resfit.model.model import Model, Provenance
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec
from resfit.training.distillation import Teacher
from resfit.training.loop import train
from resfit.training.probe import probe
from resfit.training.recipe import Recipe
from resfit.training.step import InputLayer, network_logits
from resfit.training.surroundings import reproducible

STEPS = 3  # the optimiser's means are there from the second on
VALIDATION_IMAGES = 16
PICTURES = 8  # at a time, when the report asks where the network looked


def main() -> int:
    """Answers one request; 0 when it was answered."""
    output = os.dup(1)
    os.dup2(2, 1)  # native libraries print where they like
    request = json.loads(sys.stdin.read())

    def answer(values: dict[str, Any]) -> None:
        os.write(output, json.dumps(values).encode() + b"\n")

    try:
        {"memory": answer_memory, "speed": answer_speed}[request["task"]](request, answer)
    except ResfitError as error:
        answer({"error": error.message})
        return error.exit_code
    return 0


def answer_memory(request: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
    """For rising micro-batches, what training, evaluating, saving and publishing add to the process, at most."""
    recipe = Recipe.from_dict(request["recipe"])
    with reproducible():  # as where the answer is used: entering it imports parts of torch
        idle = memory_bytes()
        for size in request["micro_batches"]:
            forget_peak()
            _train(request, dataclasses.replace(recipe, micro_batch=size))
            added = peak_memory_bytes() - idle
            answer({"micro_batch": size, "added_bytes": added})
            if added > request["allowed_bytes"]:
                return


def answer_speed(request: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
    """Which precision and layout are fastest."""
    recipe = Recipe.from_dict(request["recipe"])
    spec = ResNetSpec.from_dict(request["spec"])
    assert recipe.batch_size is not None
    splits = _noise(request, recipe.batch_size)
    torch.set_num_threads(recipe.threads or 1)
    images = splits.train
    found = probe(ResNet(spec), recipe, images.images[:], images.targets, splits.preprocessing, **request["plan"])
    answer(dataclasses.asdict(found))


def _train(request: dict[str, Any], recipe: Recipe) -> None:
    """A few steps on noise, two micro-batches each where the batch has so many; then what comes after training."""
    assert recipe.batch_size is not None
    assert recipe.micro_batch is not None
    batch_size = min(recipe.batch_size, 2 * recipe.micro_batch)
    short = dataclasses.replace(
        recipe, batch_size=batch_size, epochs=None, steps=STEPS, replans=(), extensions=(), milestones=(),
        milestone_decay=None, lr=1e-6, freeze_epochs=0,
    )  # fmt: skip
    splits = _noise(request, batch_size)
    with tempfile.TemporaryDirectory(prefix="resfit-memory-") as folder:
        result = train(
            ResNetSpec.from_dict(request["spec"]), splits, short, folder=Path(folder), teacher=_teacher(request, splits)
        )
        artifact = build(result.model, Path(folder, "model"), precision="fp32")
        session = open_session(artifact, threads=recipe.threads)
        session.run(splits.train.images[: recipe.micro_batch])
        pictures = splits.train.subset(np.arange(min(PICTURES, len(splits.train))))
        network_logits(result.model.module(), pictures, InputLayer(splits.preprocessing, "contiguous"))


def _noise(request: dict[str, Any], count: int) -> Splits:
    """As many images of noise as a batch has, and some to validate on."""
    preprocessing = Preprocessing.from_dict(request["preprocessing"])
    classes = request["spec"]["num_classes"]
    labels = tuple(str(number) for number in range(classes))
    shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
    noise = np.random.default_rng(0)

    count = max(count, PICTURES)

    def images(number: int) -> ArrayDataset:
        pixels = noise.integers(0, 256, (number, *shape), dtype=np.uint8)
        return ArrayDataset(images=pixels, targets=np.arange(number) % classes, labels=labels)

    return Splits(
        train=images(count),
        validation=images(max(count, VALIDATION_IMAGES)),
        test=None,
        labels=labels,
        sources={},
        preprocessing=preprocessing,
    )


def _teacher(request: dict[str, Any], splits: Splits) -> Teacher | None:
    if request["teacher"] is None:
        return None
    model = Model.from_module(
        ResNet(ResNetSpec.from_dict(request["teacher"])),
        preprocessing=splits.preprocessing,
        labels=splits.labels,
        provenance=Provenance(trained=True, source="noise, to measure memory"),
    )
    return Teacher(model, preprocessing=splits.preprocessing, labels=splits.labels)


if __name__ == "__main__":
    sys.exit(main())
