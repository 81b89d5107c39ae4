"""How a training begins: anew, or from its last checkpoint."""

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resfit.data.batches import batches, num_batches
from resfit.data.dataset import Splits
from resfit.data.preprocessing import Preprocessing
from resfit.errors import UsageError
from resfit.nn.resnet import ResNet
from resfit.nn.spec import BOTTLENECK_REDUCTION, ResNetSpec
from resfit.randomness import derived_seed
from resfit.training.checkpoint import checkpoint_files, load_checkpoint, or_lost
from resfit.training.compiling import check_compiler
from resfit.training.data_record import changes
from resfit.training.distillation import Teacher, check_hints
from resfit.training.events import Subscriber
from resfit.training.history import write_tables
from resfit.training.memory import planned_memory, probed_apart
from resfit.training.probe import Probed, probe
from resfit.training.recipe import DEFAULT_EPOCHS, Recipe
from resfit.training.run import Run
from resfit.training.weight_rules import WeightRules

RESERVE = 0.01  # of a given time, for what comes after the last step


def start_run(
    spec: ResNetSpec,
    splits: Splits,
    recipe: Recipe,
    folder: Path | None,
    on_event: Subscriber | None,
    init_weights: Mapping[str, Tensor] | None,
    max_seconds: float | None,
    teacher: Teacher | None,
    rules: WeightRules,
) -> Run:
    """A run at step 0: recipe resolved by data and probes, weights drawn or taken over."""
    called = time.monotonic()
    if folder is not None and checkpoint_files(folder):
        raise UsageError(f"{folder} holds an earlier training", hint="resume it, or choose another folder")
    if recipe.freeze_epochs and init_weights is None:
        raise UsageError(
            f"freeze_epochs is {recipe.freeze_epochs}, and there are no weights to keep: they are random",
            hint="give --pretrained too, or leave --freeze-epochs out",
        )
    recipe = _resolved(recipe, splits, spec)
    if recipe.epochs is None and recipe.steps is None and max_seconds is None:
        recipe = dataclasses.replace(recipe, epochs=DEFAULT_EPOCHS)
    if teacher is not None:
        recipe = dataclasses.replace(recipe, teacher=teacher.sha256)
        check_hints(recipe, spec, teacher)
    torch.set_num_threads(recipe.threads or 1)
    if recipe.compile == "compiled":
        check_compiler()
    probed = None
    if max_seconds is not None or "auto" in (recipe.precision, recipe.memory_format, recipe.compile):
        probed = _probe(spec, recipe, splits, max_seconds or math.inf)
        recipe = dataclasses.replace(
            recipe, precision=probed.precision, memory_format=probed.memory_format, compile=probed.compile
        )
    recipe = planned_memory(spec, splits, recipe, teacher, on_event)
    torch.manual_seed(derived_seed(recipe.seed, "init"))
    network = ResNet(spec)
    if init_weights is not None:
        network.load_state_dict(dict(init_weights))
    run = Run(network, splits, recipe, folder, on_event, teacher, rules)
    if probed is not None and max_seconds is not None:
        run.keep_to(called + max_seconds * (1 - RESERVE), probed.step_seconds)
    run.started(since=called)
    return run


def resume_run(
    spec: ResNetSpec,
    splits: Splits,
    folder: Path | None,
    on_event: Subscriber | None,
    max_seconds: float | None,
    teacher: Teacher | None,
    epochs: int | None,
    rules: WeightRules,
) -> Run:
    """A run as the folder's last checkpoint has it, planned to `epochs` in all where that is given.

    UsageError when the checkpoint is of another network, other data or another teacher, or has all those epochs
    behind it.
    """
    called = time.monotonic()
    if folder is None:
        raise UsageError("resume needs the folder of the training to go on with")
    state = load_checkpoint(folder)
    recipe = Recipe.from_dict(state["recipe"])
    _refuse_another(state, spec, splits, recipe, folder, teacher)
    torch.set_num_threads(recipe.threads or 1)
    run = Run(ResNet(spec), splits, recipe, folder, on_event, teacher, rules)
    run.restore(state)
    if epochs is not None:
        if epochs * run.steps_per_epoch <= run.step:
            raise UsageError(
                f"{folder} has {run.step / run.steps_per_epoch:g} epochs behind it, and --epochs is {epochs}",
                hint="--epochs counts from the start of the training: give more",
            )
        run.extend_to(epochs)
    if max_seconds is not None and not run.recipe.extensions:  # counts the time before the stop too
        run.pace.deadline = called + max_seconds * (1 - RESERVE) - run.pace.elapsed
    with or_lost(folder, run.step):
        write_tables(folder, run.recipe, run.history)
    run.started(since=called)
    return run


def _refuse_another(
    state: Mapping[str, Any],
    spec: ResNetSpec,
    splits: Splits,
    recipe: Recipe,
    folder: Path,
    teacher: Teacher | None,
) -> None:
    if ResNetSpec.from_dict(state["spec"]) != spec:
        raise UsageError(f"{folder} holds the training of another network", hint="resume with the same network")
    now = {role: row["fingerprint"] for role, row in splits.roles().items()}
    other = [role for role, mark in state["data"].items() if role in now and now[role] != mark]
    if other:
        found = "; ".join(changes(folder, splits))
        raise UsageError(
            f"{folder} holds a training on other images: {', '.join(other)} changed" + (f": {found}" if found else ""),
            hint="resume with the data it was started with, or start anew with --pretrained for its weights",
        )
    if Preprocessing.from_dict(state["preprocessing"]) != splits.preprocessing:
        raise UsageError(
            f"{folder} holds a training on images of another size or normalised otherwise",
            hint="resume with the data opened as it was at the start",
        )
    if recipe.teacher != (teacher.sha256 if teacher is not None else None):
        raise UsageError(
            f"{folder} holds a training with {'another' if recipe.teacher else 'no'} teacher",
            hint="resume with the teacher it was started with",
        )


def _resolved(recipe: Recipe, splits: Splits, spec: ResNetSpec) -> Recipe:
    size = splits.preprocessing
    threads = recipe.threads or torch.get_num_threads()
    # A bottleneck's sums have four times the channels of its 3x3 convolution
    widest = max(spec.widths) // (BOTTLENECK_REDUCTION if spec.block == "bottleneck" else 1)
    return dataclasses.replace(recipe, threads=threads).resolved(
        num_images=len(splits.train),
        height=size.height,
        width=size.width,
        channels=size.channels,
        network_width=max(round(widest * spec.mid_ratio), 1),
    )


def _probe(spec: ResNetSpec, recipe: Recipe, splits: Splits, max_seconds: float) -> Probed:
    """In this process, or in one of its own where this one's memory is limited."""
    assert recipe.batch_size is not None
    known = recipe.epochs is not None or recipe.steps is not None
    steps = recipe.total_steps(num_batches(len(splits.train), batch_size=recipe.batch_size))
    plan = {
        "planned_steps": steps if known else math.inf,
        "planned_seconds": max_seconds,
    }
    if recipe.train_memory_mb is not None:
        return probed_apart(spec, splits, recipe, plan)
    batch = next(batches(splits.train, batch_size=recipe.batch_size, seed=recipe.seed, epoch=0))
    return probe(ResNet(spec), recipe, batch.images, batch.targets, splits.preprocessing, **plan)
