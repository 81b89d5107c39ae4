"""Images, a network's spec and a recipe in; a trained model out."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from resfit.data.augment import Augment
from resfit.data.batches import batches
from resfit.data.dataset import Splits
from resfit.nn.spec import ResNetSpec
from resfit.randomness import derived_seed
from resfit.training.events import Subscriber
from resfit.training.recipe import Recipe
from resfit.training.result import TrainResult
from resfit.training.run import Run, resume_run, start_run
from resfit.training.schedule import learning_rate, progress
from resfit.training.step import training_step
from resfit.training.surroundings import Interrupted, StopRequest, TrainingDiverged, reproducible


def train(
    spec: ResNetSpec,
    splits: Splits,
    recipe: Recipe | None = None,
    *,
    folder: Path | None = None,
    on_event: Subscriber | None = None,
    init_weights: Mapping[str, Tensor] | None = None,
    resume: bool = False,
    stop_after_step: int | None = None,
    max_seconds: float | None = None,
) -> TrainResult:
    """Train a network on the training images; validation images are measured each epoch and choose nothing.

    folder: receives recipe.json, metrics.csv and checkpoints/; without it nothing is written.
    init_weights: a state dict to start from in place of random weights.
    resume: go on from the folder's last checkpoint by the recipe written there, which must be of the same
        network and data; `recipe` is not looked at.
    stop_after_step: write a checkpoint after so many steps in all and raise Interrupted, as Ctrl-C does.
    max_seconds: plan the whole schedule into this wall time, measured from this call, and at most the recipe's
        epochs where it gives them; the plan is kept up with the measured speed and written into the recipe.
    The process's random state, threads and signal handlers are as before when this returns or raises.
    Raises UsageError, TrainingDiverged (the loss is no number; the last checkpoint stays), Interrupted.
    """
    with reproducible(), StopRequest().listening() as stop:
        if resume:
            run = resume_run(spec, splits, folder, on_event, max_seconds)
        else:
            run = start_run(spec, splits, recipe or Recipe(), folder, on_event, init_weights, max_seconds)
        while run.step < run.steps:
            _train_epoch(run, stop, stop_after_step)
        return run.result()


def _train_epoch(run: Run, stop: StopRequest, stop_after_step: int | None) -> None:
    """The rest of the present epoch, or of the schedule should that end earlier."""
    recipe, epoch = run.recipe, run.step // run.steps_per_epoch
    cropped = progress(epoch * run.steps_per_epoch, run.planned_steps, recipe.replans) < 1 - recipe.uncropped_fraction
    augment = Augment(crop_padding=recipe.crop_padding or 0 if cropped else 0, flip=bool(recipe.flip))
    start = run.step % run.steps_per_epoch
    run.network.train()
    assert recipe.batch_size is not None
    for batch in batches(
        run.splits.train, batch_size=recipe.batch_size, seed=recipe.seed, epoch=epoch, start=start, augment=augment
    ):
        lr = learning_rate(recipe, progress(run.step + 0.5, run.planned_steps, run.recipe.replans))
        torch.manual_seed(derived_seed(recipe.seed, "step", epoch, batch.step))  # dropout, stochastic depth
        inputs = run.input_layer(batch.images)
        loss = training_step(run.network, run.optimizer, inputs, torch.from_numpy(batch.targets), recipe, lr)
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"the loss became {loss} at step {run.step + 1} of {run.steps}, at the learning rate {lr:.3g}",
                hint=f"train with a lower rate, such as --lr {(recipe.lr or lr) / 4:.2g}",
            )
        run.step_done(loss, lr)
        ended = batch.step + 1 == run.steps_per_epoch or run.step >= run.steps
        if ended:
            run.epoch_done(lr)
        if stop.requested or run.step == stop_after_step:
            raise Interrupted(f"training stopped after step {run.step} of {run.steps}", hint=run.save_for_resume())
        if ended:
            return
        run.save_when_due()
