"""Measuring on a machine without resfit: a script to take there, and what it brings back."""

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from resfit.engines.artifact import Artifact, describe
from resfit.errors import DataError, UsageError
from resfit.measure.machine import TELLING_FLAGS
from resfit.storage import write_atomic

SCRIPT = "measure.py"
PROFILE_VERSION = 1
PROFILE_LIMIT_BYTES = 16_000_000
NUMBERS = ("batch_size", "latency_ms_p50", "latency_ms_p99", "images_per_second", "load_ms", "file_bytes")


def write_script(artifacts: Sequence[Artifact]) -> Path:
    """Write measure.py beside the ONNX artifacts, which share one folder, and return its path."""
    listed = []
    for artifact in artifacts:
        shape = describe(artifact.path).preprocessing
        listed.append(
            {
                "file": artifact.path.name,
                "sha256": artifact.sha256,
                "precision": artifact.precision,
                "image_shape": [shape.height, shape.width, shape.channels],
            }
        )
    template = files("resfit.measure").joinpath("elsewhere_template.txt").read_text(encoding="utf-8")
    text = template.replace("@ARTIFACTS@", json.dumps(listed)).replace("@FLAGS@", json.dumps(list(TELLING_FLAGS)))
    path = artifacts[0].path.with_name(SCRIPT)
    write_atomic(path, text.encode())
    return path


def read_profile(path: str | Path) -> dict[str, Any]:
    """What the script printed: machine, results with ratio_to_best, and the sha256 of each file that was measured.

    A missing file is a UsageError, one that the script did not print a DataError.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no profile {path}", hint="make one with: resfit benchmark MODEL --script FOLDER")
    try:
        if path.stat().st_size > PROFILE_LIMIT_BYTES:
            raise ValueError("too large")
        profile = json.loads(path.read_bytes())
        if profile["profile"] != PROFILE_VERSION:
            raise ValueError(f"version {profile['profile']!r}, expected {PROFILE_VERSION}")
        rows = [_row(row) for row in profile["results"]]
        machine = {str(name): value for name, value in profile["machine"].items()}
        measured = {str(item["file"]): str(item["sha256"]) for item in profile["artifacts"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is no profile: {error}", hint=f"give what {SCRIPT} printed: python {SCRIPT} > profile.json"
        ) from error
    for row in rows:
        same = [other["latency_ms_p50"] for other in rows if other["batch_size"] == row["batch_size"]]
        row["ratio_to_best"] = row["latency_ms_p50"] / min(same)
    return {"machine": machine, "results": rows, "artifacts": measured}


def _row(values: dict[str, Any]) -> dict[str, Any]:
    for name in NUMBERS:
        if not (isinstance(values[name], int | float) and math.isfinite(values[name]) and values[name] > 0):
            raise ValueError(f"{name} is {values[name]!r}")
    return {**values, "engine": str(values["engine"]), "precision": str(values["precision"]), "peer": False}
