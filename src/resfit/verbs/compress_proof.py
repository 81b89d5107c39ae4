"""What a compression lost, by the test images: both files opened alike, each by a new process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from resfit.errors import ResfitError


def evaluated(path: Path, data: str, *, split_seed: int, max_unreadable: float, threads: int | None) -> dict[str, Any]:
    """The result of `resfit evaluate` of a file, run as a user would run it."""
    words = [sys.executable, "-m", "resfit", "evaluate", str(path), data, "--json"]
    words += ["--split-seed", str(split_seed), "--max-unreadable", str(max_unreadable)]
    if threads is not None:
        words += ["--threads", str(threads)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ResfitError(
            f"{path} could not be evaluated: {done.stderr.strip()}",
            hint="the same command goes on with what was tried",
        )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def unproven() -> dict[str, None]:
    """What `proof` gives, of a compression that proves nothing: the test images were not read."""
    return dict.fromkeys(
        ("accuracy_before", "accuracy_after", "accuracy_after_interval", "drop", "num_images", "tested_on")
    )


def proof(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Both accuracies and what lies between them, in percentage points."""
    return {
        "accuracy_before": before["accuracy"],
        "accuracy_after": after["accuracy"],
        "accuracy_after_interval": after["accuracy_interval"],
        "drop": 100 * (before["accuracy"] - after["accuracy"]),
        "num_images": after["num_images"],
        "tested_on": after["source"],
    }
