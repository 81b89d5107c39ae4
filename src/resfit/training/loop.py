"""Images, a network's spec and a recipe in; a trained model out."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from resfit.data.batches import batches
from resfit.data.dataset import Splits
from resfit.nn.spec import ResNetSpec
from resfit.randomness import derived_seed
from resfit.training.distillation import Teacher
from resfit.training.events import Subscriber
from resfit.training.freezing import begin_epoch
from resfit.training.recipe import Recipe
from resfit.training.result import TrainResult
from resfit.training.run import Run
from resfit.training.schedule import learning_rate
from resfit.training.starting import resume_run, start_run
from resfit.training.surroundings import Interrupted, StopRequest, reproducible
from resfit.training.weight_rules import FREE, WeightRules


def train(
    spec: ResNetSpec,
    splits: Splits,
    recipe: Recipe | None = None,
    *,
    folder: Path | None = None,
    on_event: Subscriber | None = None,
    init_weights: Mapping[str, Tensor] | None = None,
    teacher: Teacher | None = None,
    rules: WeightRules = FREE,
    resume: bool = False,
    epochs: int | None = None,
    stop_after_step: int | None = None,
    max_seconds: float | None = None,
) -> TrainResult:
    """Train a network on the training images; validation images are measured each epoch, and choose nothing
    unless the recipe has patience.

    folder: receives recipe.json, metrics.csv, data.jsonl.gz and checkpoints/; without it nothing is written.
    init_weights: a state dict to start from in place of random weights.
    teacher: whose answers the recipe's distill_weight is for.
    rules: what the weights are held to; a resume must be given the same.
    resume: go on from the folder's last checkpoint by the recipe written there, which must be of the same
        network, data and teacher; `recipe` is not looked at.
    epochs: with resume, plan the rest of the schedule to end after so many epochs in all.
    stop_after_step: write a checkpoint after so many steps in all and raise Interrupted, as Ctrl-C does.
    max_seconds: plan the whole schedule into this wall time, measured from this call, and at most the recipe's
        epochs where it gives them; the plan is kept up with the measured speed and written into the recipe.
    The process's random state, threads and signal handlers are as before when this returns or raises.
    Raises UsageError, MemoryTooSmall (the recipe's limit), TrainingDiverged (loss, gradients or weights are no
    numbers, or the loss has risen out of all bounds; the last checkpoint is good), CheckpointLost (a full disk),
    Interrupted.
    """
    with reproducible(), StopRequest().listening() as stop:
        if resume:
            run = resume_run(spec, splits, folder, on_event, max_seconds, teacher, epochs, rules)
        else:
            run = start_run(
                spec, splits, recipe or Recipe(), folder, on_event, init_weights, max_seconds, teacher, rules
            )
        while not run.finished:
            _train_epoch(run, stop, stop_after_step)
        return run.result()


def _train_epoch(run: Run, stop: StopRequest, stop_after_step: int | None) -> None:
    """The rest of the present epoch, or of the schedule should that end earlier."""
    recipe, epoch = run.recipe, run.step // run.steps_per_epoch
    cropped = run.progress(epoch * run.steps_per_epoch) < 1 - recipe.uncropped_fraction
    begin_epoch(run.network, frozen=epoch < recipe.freeze_epochs)
    assert recipe.batch_size is not None
    for batch in batches(
        run.splits.train,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        epoch=epoch,
        start=run.step % run.steps_per_epoch,
        augment=recipe.augmentation(cropped=cropped),
        balance="sampling" if recipe.balance == "sampling" else "none",
    ):
        lr = learning_rate(recipe, run.progress(run.step + 0.5))
        torch.manual_seed(derived_seed(recipe.seed, "step", epoch, batch.step))  # dropout, stochastic depth
        run.take_step(batch, lr)
        ended = batch.step + 1 == run.steps_per_epoch or run.step >= run.steps
        if ended:
            run.epoch_done(lr)
        if stop.requested or run.step == stop_after_step:
            raise Interrupted(f"training stopped after step {run.step} of {run.steps}", hint=run.save_for_resume(lr))
        if ended:
            return
        run.save_when_due(lr)
