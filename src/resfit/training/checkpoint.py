"""Checkpoints: everything a training needs to go on as if it had never stopped."""

import io
import re
from pathlib import Path
from typing import Any

import torch

from resfit import storage
from resfit.errors import ModelError, UsageError

FOLDER = "checkpoints"
FORMAT = 1
KEPT = 2  # the one being relied on, and the one before should that prove damaged
_NAME = re.compile(r"step-(\d+)\.pt")


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints of a run folder, earliest step first."""
    found = [(int(match[1]), path) for path in (folder / FOLDER).glob("*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def save_checkpoint(folder: Path, state: dict[str, Any], *, step: int) -> Path:
    """Writes the state atomically, then removes all but the last two checkpoints."""
    path = folder / FOLDER / f"step-{step:09d}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    storage.write_atomic(path, buffer.getvalue())
    for old in checkpoint_files(folder)[:-KEPT]:
        old.unlink()
    return path


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The state of the last readable checkpoint; UsageError when there is none, ModelError when all are damaged.

    Loads tensors and plain values only, never pickled objects.
    """
    paths = checkpoint_files(folder)
    if not paths:
        raise UsageError(
            f"{folder} has no checkpoint to resume from",
            hint=f"expected files {FOLDER}/step-*.pt; leave --resume out to start anew",
        )
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
