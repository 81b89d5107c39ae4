"""A training's curves as event files that TensorBoard shows."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resfit.errors import MissingExtra
from resfit.training.events import EpochDone, Event, Started, StepDone

FOLDER = "tensorboard"
EVERY_STEPS = 10  # a point of the step curves


def require_tensorboard() -> None:
    """MissingExtra without the package; nothing heavy is imported to find out."""
    if find_spec("tensorboard") is None:
        raise MissingExtra("tensorboard", extra="tensorboard", purpose="--tensorboard")


class TensorboardWriter:
    """A subscriber for `train` that writes event files to RUN/tensorboard; close it when training has ended.

    Tags: train/loss and train/learning_rate every tenth step; train/epoch_loss, validation/loss,
    validation/accuracy and speed/images_per_second every epoch. A resumed training writes a file of its own, in
    which it declares void what the stopped one wrote beyond the checkpoint. MissingExtra without the package.
    """

    def __init__(self, folder: Path):
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder / FOLDER
        self._open = SummaryWriter
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._writer = self._open(str(self._folder), purge_step=event.step + 1)
        elif isinstance(event, StepDone) and event.step % EVERY_STEPS == 0:
            self._write(event.step, {"train/loss": event.loss, "train/learning_rate": event.lr})
        elif isinstance(event, EpochDone):
            self._write(
                event.step,
                {
                    "train/epoch_loss": event.loss,
                    "validation/loss": event.validation_loss,
                    "validation/accuracy": event.validation_accuracy,
                    "speed/images_per_second": event.images_per_second,
                },
            )
            self._writer.flush()

    def _write(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes what is still in memory."""
        if self._writer is not None:
            self._writer.close()
