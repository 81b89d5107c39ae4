"""A training under way: its network, optimiser, counters and clock, how they start, are saved and go on."""

import csv
import dataclasses
import io
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resfit import storage
from resfit.data.batches import batches, num_batches
from resfit.data.dataset import Splits
from resfit.errors import UsageError
from resfit.metrics.classification import accuracy, cross_entropy
from resfit.model.model import Model, Provenance
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec
from resfit.randomness import derived_seed
from resfit.training.checkpoint import checkpoint_files, load_checkpoint, save_checkpoint
from resfit.training.events import EpochDone, Started, StepDone, Subscriber
from resfit.training.pace import Pace
from resfit.training.probe import PROBE_SECONDS, Probed, probe
from resfit.training.recipe import DEFAULT_EPOCHS, Recipe
from resfit.training.result import TrainResult
from resfit.training.schedule import build_optimizer
from resfit.training.step import InputLayer, WeightAverage, network_logits, published_network, torch_format

PROBE_SHARE = 0.05  # of a given time
RESERVE = 0.01  # of a given time, for what comes after the last step
CHECKPOINT_SECONDS = 300.0  # an epoch longer than this is saved in its course


class Run:
    """Everything a step reads and changes. `step` counts from 0, `planned_steps` is the first plan's end."""

    def __init__(
        self,
        network: ResNet,
        splits: Splits,
        recipe: Recipe,
        folder: Path | None,
        on_event: Subscriber | None,
    ):
        assert recipe.batch_size is not None
        self.splits, self.recipe, self.folder = splits, recipe, folder
        self.notify = on_event or (lambda _event: None)
        self.network = network.to(memory_format=torch_format(recipe.memory_format))  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.network, recipe)
        self.average = WeightAverage(self.network, recipe.ema_decay) if recipe.ema_decay else None
        self.input_layer = InputLayer(splits.preprocessing, recipe.memory_format)
        self.steps_per_epoch = num_batches(len(splits.train), batch_size=recipe.batch_size)
        self.planned_steps = dataclasses.replace(recipe, replans=()).total_steps(self.steps_per_epoch)
        self.pace = Pace(recipe.batch_size, self.steps_per_epoch)
        self.step = 0
        self.loss_sum = 0.0  # of the present epoch's steps
        self.history: list[dict[str, Any]] = []
        self.last_saved = time.monotonic()

    @property
    def steps(self) -> int:
        """The step at which the present plan ends."""
        return self.recipe.total_steps(self.steps_per_epoch)

    def keep_to(self, deadline: float, step_seconds: float) -> None:
        """Plans the schedule to end at a time of time.monotonic(), at `step_seconds` a step for the present."""
        if self.recipe.epochs is not None or self.recipe.steps is not None:
            self.pace.most_steps = self.steps
        # Evaluation runs forward only: about a third of a step an image
        images = len(self.splits.validation) / self.pace.batch_size
        self.pace.expect(step_seconds=step_seconds, evaluation_seconds=images * step_seconds / 3)
        self.pace.deadline = deadline
        steps = min(self.pace.steps_until_deadline(), self.pace.most_steps or 2**62)
        self.recipe = dataclasses.replace(self.recipe, epochs=None, steps=steps)
        self.planned_steps = steps

    def started(self, since: float) -> None:
        """Writes what was decided and a first checkpoint, tells subscribers, starts the clock."""
        if self.folder is not None and not checkpoint_files(self.folder):
            self.save()
        self.notify(
            Started(
                recipe=self.recipe,
                num_images=len(self.splits.train),
                step=self.step,
                steps=self.steps,
                steps_per_epoch=self.steps_per_epoch,
            )
        )
        self.pace.start(since)

    def step_done(self, loss: float, lr: float) -> None:
        """Counts a finished step, keeps average, plan and checkpoints up to date, tells subscribers."""
        self.step += 1
        self.loss_sum += loss
        if self.average is not None:
            self.average.update(self.network, self.step)
        self.pace.step_done()
        steps = self.pace.replanned(self.step, self.steps)
        if steps != self.steps:
            self.recipe = dataclasses.replace(self.recipe, replans=(*self.recipe.replans, (self.step, steps)))
        self.notify(
            StepDone(
                step=self.step,
                steps=self.steps,
                loss=loss,
                lr=lr,
                images_per_second=self.pace.images_per_second,
                seconds_left=self.pace.seconds_for(self.steps - self.step),
            )
        )

    def save_when_due(self) -> None:
        """Saves within a long epoch."""
        if self.folder is not None and time.monotonic() - self.last_saved > CHECKPOINT_SECONDS:
            self.save()
            self.pace.go_on()

    def epoch_done(self, lr: float) -> None:
        """Measures the validation images, adds a row to the history, saves."""
        started = time.monotonic()
        network = published_network(self.network, self.average.state if self.average else None)
        logits = network_logits(network, self.splits.validation, self.input_layer)
        self.pace.evaluated(time.monotonic() - started)
        in_epoch = self.step % self.steps_per_epoch or self.steps_per_epoch
        event = EpochDone(
            epoch=-(-self.step // self.steps_per_epoch),
            step=self.step,
            steps=self.steps,
            loss=self.loss_sum / in_epoch,
            validation_accuracy=accuracy(logits, self.splits.validation.targets),
            validation_loss=cross_entropy(logits, self.splits.validation.targets),
            lr=lr,
            images_per_second=self.pace.images_per_second,
            elapsed=self.pace.elapsed,
            seconds_left=self.pace.seconds_for(self.steps - self.step),
        )
        row = dataclasses.asdict(event)
        del row["steps"], row["seconds_left"]
        self.history.append(row)
        self.loss_sum = 0.0
        self.save()
        self.notify(event)
        self.pace.go_on()

    def save(self) -> None:
        """Writes recipe.json, metrics.csv and a checkpoint, each atomically; nothing without a folder."""
        if self.folder is None:
            return
        storage.write_atomic(self.folder / "recipe.json", json.dumps(self.recipe.to_dict(), indent=2).encode())
        storage.write_atomic(self.folder / "metrics.csv", _csv(self.history))
        save_checkpoint(self.folder, self._state(), step=self.step)
        self.last_saved = time.monotonic()

    def save_for_resume(self) -> str:
        """Saves, and says how to go on."""
        if self.folder is None:
            return "without a folder to write to there is no checkpoint to resume from"
        self.save()
        return f"its checkpoint is in {self.folder}; the same command with --resume goes on from there"

    def _state(self) -> dict[str, Any]:
        return {
            "spec": self.network.spec.to_dict(),
            "data": self.splits.train.fingerprint,
            "recipe": self.recipe.to_dict(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state if self.average else None,
            "step": self.step,
            "loss_sum": self.loss_sum,
            "history": self.history,
            "pace": self.pace.to_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over what `save` wrote."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.state = state["average"]
        self.step, self.loss_sum, self.history = state["step"], state["loss_sum"], state["history"]
        self.pace.restore(state["pace"])

    def result(self) -> TrainResult:
        """The trained model with its provenance."""
        data = {"fingerprint": self.splits.fingerprint, "roles": self.splits.roles()}
        model = Model.from_module(
            published_network(self.network, self.average.state if self.average else None),
            preprocessing=self.splits.preprocessing,
            labels=self.splits.labels,
            provenance=Provenance(trained=True, source="resfit train", recipe=self.recipe.to_dict(), data=data),
        )
        return TrainResult(
            model=model,
            history=tuple(self.history),
            recipe=self.recipe,
            epochs=self.step / self.steps_per_epoch,
            steps=self.step,
            images_per_second=self.pace.images_per_second,
            elapsed_seconds=self.pace.elapsed,
        )


def start_run(
    spec: ResNetSpec,
    splits: Splits,
    recipe: Recipe,
    folder: Path | None,
    on_event: Subscriber | None,
    init_weights: Mapping[str, Tensor] | None,
    max_seconds: float | None,
) -> Run:
    """A run at step 0: recipe resolved by data and probe, weights drawn or taken over."""
    called = time.monotonic()
    if folder is not None and checkpoint_files(folder):
        raise UsageError(f"{folder} holds an earlier training", hint="resume it, or choose another folder")
    recipe = _resolved(recipe, splits)
    if recipe.epochs is None and recipe.steps is None and max_seconds is None:
        recipe = dataclasses.replace(recipe, epochs=DEFAULT_EPOCHS)
    torch.set_num_threads(recipe.threads or 1)
    torch.manual_seed(derived_seed(recipe.seed, "init"))
    network = ResNet(spec)
    if init_weights is not None:
        network.load_state_dict(dict(init_weights))
    probed = None
    if max_seconds is not None or "auto" in (recipe.precision, recipe.memory_format):
        seconds = min(PROBE_SECONDS, PROBE_SHARE * (max_seconds or math.inf))
        probed = _probe(network, recipe, splits, seconds)
        recipe = dataclasses.replace(recipe, precision=probed.precision, memory_format=probed.memory_format)
    run = Run(network, splits, recipe, folder, on_event)
    if probed is not None and max_seconds is not None:
        run.keep_to(called + max_seconds * (1 - RESERVE), probed.step_seconds)
    run.started(since=called)
    return run


def resume_run(
    spec: ResNetSpec, splits: Splits, folder: Path | None, on_event: Subscriber | None, max_seconds: float | None
) -> Run:
    """A run as the folder's last checkpoint has it; UsageError when it is of another network or other data."""
    called = time.monotonic()
    if folder is None:
        raise UsageError("resume needs the folder of the training to go on with")
    state = load_checkpoint(folder)
    if ResNetSpec.from_dict(state["spec"]) != spec:
        raise UsageError(f"{folder} holds the training of another network", hint="resume with the same network")
    if state["data"] != splits.train.fingerprint:
        raise UsageError(f"{folder} holds a training on other images", hint="resume with the data it was started with")
    recipe = Recipe.from_dict(state["recipe"])
    torch.set_num_threads(recipe.threads or 1)
    run = Run(ResNet(spec), splits, recipe, folder, on_event)
    run.restore(state)
    if max_seconds is not None:  # counts the time before the stop too
        run.pace.deadline = called + max_seconds * (1 - RESERVE) - run.pace.elapsed
    run.started(since=called)
    return run


def _resolved(recipe: Recipe, splits: Splits) -> Recipe:
    size = splits.preprocessing
    threads = recipe.threads or torch.get_num_threads()
    return dataclasses.replace(recipe, threads=threads).resolved(
        num_images=len(splits.train), height=size.height, width=size.width, channels=size.channels
    )


def _probe(network: ResNet, recipe: Recipe, splits: Splits, seconds: float) -> Probed:
    assert recipe.batch_size is not None
    batch = next(batches(splits.train, batch_size=recipe.batch_size, seed=recipe.seed, epoch=0))
    return probe(network, recipe, batch.images, torch.from_numpy(batch.targets), splits.preprocessing, seconds=seconds)


def _csv(history: list[dict[str, Any]]) -> bytes:
    """The history as a table; equal histories give equal bytes."""
    text = io.StringIO()
    names = list(history[0]) if history else [field.name for field in dataclasses.fields(EpochDone)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()
