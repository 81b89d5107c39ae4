"""Writes `classify.py` beside an ONNX artifact: a short script that needs neither resfit nor torch."""

import re
from importlib.resources import files
from pathlib import Path

from resfit import __version__
from resfit.errors import UsageError
from resfit.storage import write_atomic

NAME = "classify.py"
_SAFE_NAME = re.compile(r"[\w.\- ]+")


def classify_script(artifact_name: str) -> str:
    """The script's text for a model file of this name in the same folder.

    It decodes and resizes as `data.preprocessing.decode` does and takes labels and image size from the model
    file's own metadata. The name is put into program text: letters, digits, `.`, `-`, `_` and spaces only.
    """
    if not _SAFE_NAME.fullmatch(artifact_name):
        raise UsageError(
            f"{artifact_name!r} cannot be the model file of a script",
            hint="use letters, digits, '.', '-' and '_' in the file's name",
        )
    template = files("resfit.inference").joinpath("classify_template.txt").read_text(encoding="utf-8")
    return template.replace("@ARTIFACT@", artifact_name).replace("@VERSION@", __version__)


def write_classify_script(artifact: str | Path) -> Path:
    """Write `classify.py` beside the ONNX file `artifact`, and return its path."""
    path = Path(artifact).with_name(NAME)
    write_atomic(path, classify_script(Path(artifact).name).encode())
    return path
