"""A training's progress on standard error: one line that changes on a terminal, a line an epoch elsewhere."""

import sys
import time
from typing import TextIO

from resfit.training.events import EpochDone, Event, MemoryPlanned, Started, StepDone, StoppedEarly

REDRAW_SECONDS = 0.5


class ProgressPrinter:
    """A subscriber for `train`; `stream` defaults to the standard error of the moment."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stderr
        self._live = self.stream.isatty()
        self._drawn = 0.0
        self._width = 0
        self._steps_per_epoch = 1

    def __call__(self, event: Event) -> None:
        match event:
            case MemoryPlanned():
                self._line(_memory_planned(event))
            case Started():
                self._steps_per_epoch = event.steps_per_epoch
                self._line(_started(event))
            case StepDone() if self._live and time.monotonic() - self._drawn > REDRAW_SECONDS:
                self._drawn = time.monotonic()
                self._draw(
                    f"step {event.step:,} of {event.steps:,}  loss {event.loss:.3f}  "
                    f"{event.images_per_second:,.0f} images/s  {clock(event.seconds_left)} left"
                )
            case EpochDone():
                epochs = -(-event.steps // self._steps_per_epoch)
                self._line(
                    f"epoch {event.epoch} of {epochs}  loss {event.loss:.3f}  "
                    f"validation {event.validation_accuracy:.1%}  {event.images_per_second:,.0f} images/s  "
                    f"{clock(event.seconds_left)} left"
                )

            case StoppedEarly():
                self._line(
                    f"stopped early: no epoch of the last {event.patience} was better than epoch {event.epoch} "
                    f"(validation loss {event.validation_loss:.4f}), whose weights are kept"
                )

    def _draw(self, text: str) -> None:
        self.stream.write(f"\r{text.ljust(self._width)}")
        self.stream.flush()
        self._width = len(text)

    def _line(self, text: str) -> None:
        if self._live:
            self._draw(text)
            self._width = 0
            text = ""
        self.stream.write(f"{text}\n")
        self.stream.flush()


def clock(seconds: float) -> str:
    """65 as 1:05, 3665 as 1:01:05."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _memory_planned(event: MemoryPlanned) -> str:
    text = f"memory: {event.predicted_bytes / 1e6:,.0f} of {event.limit_bytes / 1e6:,.0f} MB expected"
    if event.micro_batch < event.batch_size:
        text += (
            f", {event.micro_batch} of a batch's {event.batch_size} images at a time (gradients add up to the batch's, "
            "batch norm sees each part alone)"
        )
    return text + (", activations computed twice" if event.activation_checkpointing else "")


def _started(event: Started) -> str:
    recipe = event.recipe
    whence = f"from step {event.step:,}, " if event.step else ""
    return (
        f"training on {event.num_images:,} images {whence}to step {event.steps:,}, batch {recipe.batch_size}, "
        f"rate {recipe.lr:.3g}, {recipe.precision} {recipe.memory_format}, {recipe.threads} threads"
    )
