"""request.json of a run folder: what a resume needs to know besides the checkpoint."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resfit.errors import UsageError
from resfit.nn.spec import ResNetSpec
from resfit.storage import write_atomic

REQUEST = "request.json"


def write_request(
    folder: Path,
    spec: ResNetSpec,
    *,
    model: str,
    data: str,
    opening: Mapping[str, Any] | None = None,
    max_seconds: float | None = None,
    **others: Any,
) -> None:
    """Write what was asked for.

    model: the network's name; data: as the user typed it; opening: the keyword arguments its images were opened
    with, plain values. others: whatever else the verb wants back on resume, plain values too. The working folder
    is written along, so that a resume from another one finds what was named relative to it, and so is the
    command line, for people.
    """
    values = {
        "model": model,
        "data": data,
        "opening": dict(opening or {}),
        "max_seconds": max_seconds,
        **others,
        "command": shlex.join(["resfit", *sys.argv[1:]]) if Path(sys.argv[0]).stem in ("resfit", "__main__") else None,
        "folder": str(Path.cwd()),
        "spec": spec.to_dict(),
    }
    write_atomic(folder / REQUEST, json.dumps(values, indent=2, ensure_ascii=False).encode() + b"\n")


def read_request(folder: Path) -> tuple[ResNetSpec, dict[str, Any]]:
    """The network and the other values that were asked for; UsageError where the folder is no run."""
    path = folder / REQUEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        spec = ResNetSpec.from_dict(values.pop("spec"))
        for name in ("model", "data", "opening", "max_seconds"):
            values[name]
        return spec, values
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{folder} is not a run to resume: {path} cannot be read ({error})",
            hint="name the folder of a training that was stopped",
        ) from error


def opening_of_the_run(model: str) -> dict[str, Any] | None:
    """How a training opened its images; None where the model is not the folder of a training."""
    path = Path(model, REQUEST)
    if not path.is_file():
        return None
    try:
        opening = json.loads(path.read_text(encoding="utf-8")).get("opening", {})
        return {**opening, "split_seed": int(opening.get("split_seed", 0))}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} cannot be read ({error})", hint="put the run's own request.json back") from error


def path_of(request: Mapping[str, Any], named: str) -> str:
    """A path of the request as it is found from here: as it was typed, else from the folder it was typed in."""
    from resfit.data.formats import EMBEDDED

    there = Path(str(request.get("folder", "."))) / named
    return named if named == EMBEDDED or Path(named).exists() or not there.exists() else str(there)
