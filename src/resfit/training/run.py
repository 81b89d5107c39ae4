"""A training under way: its network, optimiser, counters and clock, how they are saved and go on."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resfit.data.balance import class_weights
from resfit.data.batches import Batch, num_batches
from resfit.data.dataset import Splits
from resfit.metrics.classification import accuracy, cross_entropy
from resfit.model.model import Model, Provenance
from resfit.nn.resnet import ResNet
from resfit.training.checkpoint import last_step, or_lost, save_checkpoint
from resfit.training.data_record import write_record
from resfit.training.distillation import Teacher
from resfit.training.divergence import LossWatch, where_numbers_end
from resfit.training.early_stop import BestEpoch
from resfit.training.events import EpochDone, Started, StepDone, StoppedEarly, Subscriber
from resfit.training.history import write_tables
from resfit.training.pace import Pace
from resfit.training.recipe import Recipe
from resfit.training.result import TrainResult
from resfit.training.schedule import progress
from resfit.training.step import (
    EVALUATION_BATCH,
    InputLayer,
    NotFinite,
    TrainingStep,
    WeightAverage,
    first_not_finite,
    network_logits,
    published_network,
)
from resfit.training.surroundings import TrainingDiverged
from resfit.training.weight_rules import FREE, WeightRules

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
        teacher: Teacher | None = None,
        rules: WeightRules = FREE,
    ):
        assert recipe.batch_size is not None
        self.splits, self.recipe, self.folder = splits, recipe, folder
        self.notify = on_event or (lambda _event: None)
        self.network = network
        balanced = recipe.balance == "weights"
        weights = class_weights(splits.train.targets, len(splits.labels)) if balanced else None
        self.training_step = TrainingStep(self.network, recipe, teacher=teacher, class_weights=weights, rules=rules)
        self.average = WeightAverage(self.network, recipe.ema_decay) if recipe.ema_decay else None
        self.best = BestEpoch(recipe.patience) if recipe.patience else None
        self.watch = LossWatch()
        self.input_layer = InputLayer(splits.preprocessing, recipe.memory_format)
        self.steps_per_epoch = num_batches(len(splits.train), batch_size=recipe.batch_size)
        self.planned_steps = dataclasses.replace(recipe, replans=(), extensions=()).total_steps(self.steps_per_epoch)
        self.pace = Pace(recipe.batch_size, self.steps_per_epoch)
        self.step = 0
        self.loss_sum = 0.0  # of the present epoch's steps
        self.history: list[dict[str, Any]] = []
        self.last_saved = time.monotonic()

    @property
    def steps(self) -> int:
        """The step at which the present plan ends."""
        return self.recipe.total_steps(self.steps_per_epoch)

    def progress(self, step: float) -> float:
        """How far the schedule is before `step`, 0 to 1."""
        return progress(step, self.planned_steps, self.recipe.replans, self.recipe.extensions)

    @property
    def finished(self) -> bool:
        """Whether the schedule has ended, or patience has."""
        return self.step >= self.steps or self._stopped_early

    @property
    def _stopped_early(self) -> bool:
        return self.best is not None and self.best.exhausted and self.step < self.steps

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

    def extend_to(self, epochs: int) -> None:
        """From this step on the schedule is that of so many epochs; patience begins anew."""
        steps = epochs * self.steps_per_epoch
        if steps != self.steps:
            self.recipe = dataclasses.replace(self.recipe, extensions=(*self.recipe.extensions, (self.step, steps)))
        if self.best is not None:
            self.best.wait_anew()

    def started(self, since: float) -> None:
        """Writes what was decided and a first checkpoint, tells subscribers, starts the clock."""
        if self.folder is not None and last_step(self.folder) is None:
            with or_lost(self.folder, self.step):
                write_record(self.folder, self.splits)
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

    def take_step(self, batch: Batch, lr: float) -> None:
        """One step at the rate `lr`; TrainingDiverged where it says that nothing can come of it."""
        try:
            loss = self.training_step(batch, self.input_layer, lr)
        except NotFinite as error:
            cause = str(error)
            if cause.startswith("the loss"):
                inputs = self.input_layer(batch.images, self.training_step.dtype)
                where = where_numbers_end(self.network, inputs, self.recipe.precision)
                raise self._diverged(self.step + 1, lr, cause, where) from error
            raise self._diverged(self.step + 1, lr, cause) from error
        verdict = self.watch.verdict(loss)
        if verdict is not None:
            raise self._diverged(self.step + 1, lr, verdict)
        self._step_done(loss, lr)

    def _diverged(self, step: int, lr: float, what: str, cause: str | None = None) -> TrainingDiverged:
        last = last_step(self.folder) if self.folder is not None else None
        kept = "" if last is None else f"; {self.folder} keeps the checkpoint of step {last}"
        message = f"{what} at step {step} of {self.steps}, at the learning rate {lr:.3g}"
        return TrainingDiverged(
            message + (f": {cause}" if cause else ""),
            hint=f"train with a lower rate, such as --lr {(self.recipe.lr or lr) / 4:.2g}, or with --clip-norm 1{kept}",
        )

    def _step_done(self, loss: float, lr: float) -> None:
        """Counts a finished step, keeps average and plan up to date, tells subscribers."""
        self.step, self.loss_sum = self.step + 1, self.loss_sum + loss
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

    def save_when_due(self, lr: float) -> None:
        """Saves within a long epoch."""
        if self.folder is not None and time.monotonic() - self.last_saved > CHECKPOINT_SECONDS:
            self.refuse_broken_weights(lr)
            self.save()
            self.pace.go_on()

    def refuse_broken_weights(self, lr: float) -> None:
        """TrainingDiverged where the last step left weights that are no numbers, which no checkpoint may hold."""
        broken = first_not_finite(self.network.state_dict().items())
        if broken is not None:
            raise self._diverged(self.step, lr, f"{broken} is not finite after the update")

    def epoch_done(self, lr: float) -> None:
        """Measures the validation images, adds a row to the history, saves."""
        self.refuse_broken_weights(lr)
        started = time.monotonic()
        network = self._measured()
        batch_size = min(self.recipe.micro_batch or EVALUATION_BATCH, EVALUATION_BATCH)
        logits = network_logits(network, self.splits.validation, self.input_layer, batch_size=batch_size)
        self.pace.evaluated(time.monotonic() - started)
        event = EpochDone(
            epoch=-(-self.step // self.steps_per_epoch),
            step=self.step,
            steps=self.steps,
            loss=self.loss_sum / (self.step % self.steps_per_epoch or self.steps_per_epoch),
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
        if self.best is not None:
            self.best.epoch_done(event.epoch, event.validation_loss, network)
        self.save()
        self.notify(event)
        if self.best is not None and self._stopped_early:
            self.notify(
                StoppedEarly(epoch=self.best.epoch, validation_loss=self.best.loss, patience=self.best.patience)
            )
        self.pace.go_on()

    def save(self) -> None:
        """Writes a checkpoint, recipe.json and metrics.csv, each atomically; nothing without a folder.

        CheckpointLost where the disk refuses: what was there before is whole.
        """
        if self.folder is None:
            return
        with or_lost(self.folder, self.step):
            save_checkpoint(self.folder, self._state(), step=self.step)
            write_tables(self.folder, self.recipe, self.history)
        self.last_saved = time.monotonic()

    def save_for_resume(self, lr: float) -> str:
        """Saves, and says how to go on."""
        if self.folder is None:
            return "without a folder to write to there is no checkpoint to resume from"
        self.refuse_broken_weights(lr)
        self.save()
        return f"its checkpoint is in {self.folder}; `resfit train --resume {self.folder}` goes on from there"

    def _state(self) -> dict[str, Any]:
        return {
            "spec": self.network.spec.to_dict(),
            "data": {role: row["fingerprint"] for role, row in self.splits.roles().items()},
            "preprocessing": self.splits.preprocessing.to_dict(),
            "recipe": self.recipe.to_dict(),
            "network": self.network.state_dict(),
            "training_step": self.training_step.state_dict(),
            "average": self.average.state if self.average else None,
            "best": self.best.to_dict() if self.best else None,
            "watch": self.watch.to_dict(),
            "step": self.step,
            "loss_sum": self.loss_sum,
            "history": self.history,
            "pace": self.pace.to_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over what `save` wrote."""
        self.network.load_state_dict(state["network"])
        self.training_step.load_state_dict(state["training_step"])
        if self.average is not None:
            self.average.state = state["average"]
        if self.best is not None:
            self.best.restore(state["best"])
        self.watch.restore(state["watch"])
        self.step, self.loss_sum, self.history = state["step"], state["loss_sum"], state["history"]
        self.pace.restore(state["pace"])

    def _measured(self) -> ResNet:
        """The network as it would be published now."""
        return published_network(self.network, self.average.state if self.average else None, self.training_step.rules)

    def _published(self) -> tuple[ResNet, int]:
        """The network whose weights are the result, and the epoch it is of."""
        if self.best is not None and self.best.weights is not None:
            return published_network(self.network, self.best.weights), self.best.epoch
        return self._measured(), -(-self.step // self.steps_per_epoch)

    def result(self) -> TrainResult:
        """The trained model with its provenance."""
        data = {"fingerprint": self.splits.fingerprint, "roles": self.splits.roles()}
        network, epoch = self._published()
        model = Model.from_module(
            network,
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
            published_epoch=epoch,
            stopped_early=self._stopped_early,
            images_per_second=self.pace.images_per_second,
            elapsed_seconds=self.pace.elapsed,
        )
