"""Checkpoints: everything a training needs to go on as if it had never stopped."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from resfit import storage
from resfit.errors import ModelError, ResfitError, UsageError

FOLDER = "checkpoints"
FORMAT = 2
KEPT = 2  # the one being relied on, and the one before should that prove damaged
_NAME = re.compile(r"step-(\d+)\.pt")


class CheckpointLost(ResfitError):
    """A checkpoint could not be written, as on a full disk; the one before is whole."""

    code = "checkpoint"


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints of a run folder, earliest step first."""
    found = [(int(match[1]), path) for path in (folder / FOLDER).glob("*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def last_step(folder: Path) -> int | None:
    """The step of the last checkpoint, None where there is none."""
    paths = checkpoint_files(folder)
    return int(paths[-1].stem.removeprefix("step-")) if paths else None


def save_checkpoint(folder: Path, state: dict[str, Any], *, step: int) -> Path:
    """Writes the state atomically, then removes all but the last two checkpoints. OSError on a full disk."""
    path = folder / FOLDER / f"step-{step:09d}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    # By way of memory: to a file, torch turns the system's errors into its own, which do not say what happened
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)

    def write(file: BinaryIO) -> None:
        file.write(buffer.getbuffer())  # no copy

    storage.write_atomic(path, write)
    for old in checkpoint_files(folder)[:-KEPT]:
        old.unlink()
    return path


@contextlib.contextmanager
def or_lost(folder: Path, step: int) -> Iterator[None]:
    """What the system refuses while the files of `step` are written, as CheckpointLost with the way to go on."""
    try:
        yield
    except OSError as error:
        last = last_step(folder)
        way_out = "start again" if last is None else f"`resfit train --resume {folder}` goes on from step {last}"
        raise CheckpointLost(
            f"the checkpoint of step {step} could not be written to {folder}: {error.strerror or error}",
            hint=f"make room, and {way_out}",
        ) from error


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The state of the last readable checkpoint; UsageError when there is none, ModelError when all are damaged.

    Loads tensors and plain values only, never pickled objects. What a killed process left half written is removed.
    """
    paths = checkpoint_files(folder)
    if not paths:
        raise UsageError(
            f"{folder} has no checkpoint to resume from",
            hint=f"expected files {FOLDER}/step-*.pt; leave --resume out to start anew",
        )
    for partial in (folder / FOLDER).glob(".step-*.partial"):
        partial.unlink(missing_ok=True)
    reasons = []
    for path in reversed(paths):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds on damaged files
            reasons.append(f"{path.name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            continue
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            reasons.append(f"{path.name}: not a checkpoint of this version")
            continue
        return state
    raise ModelError(f"no checkpoint in {folder / FOLDER} can be read ({'; '.join(reasons)})")
