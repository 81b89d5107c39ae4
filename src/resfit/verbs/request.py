"""request.json of a run folder: what a resume needs to know besides the checkpoint."""

import json
from pathlib import Path
from typing import Any

from resfit.errors import UsageError
from resfit.nn.spec import ResNetSpec
from resfit.storage import write_atomic

REQUEST = "request.json"


def write_request(
    folder: Path, spec: ResNetSpec, *, model: str, data: str, img_size: int | None, max_seconds: float | None = None
) -> None:
    """Write what was asked for; `model` is the network's name, `data` as the user typed it."""
    values = {"model": model, "data": data, "img_size": img_size, "max_seconds": max_seconds, "spec": spec.to_dict()}
    write_atomic(folder / REQUEST, json.dumps(values, indent=2).encode() + b"\n")


def read_request(folder: Path) -> tuple[ResNetSpec, dict[str, Any]]:
    """The network and the other values that were asked for; UsageError where the folder is no run."""
    path = folder / REQUEST
    try:
        values = json.loads(path.read_text())
        spec = ResNetSpec.from_dict(values.pop("spec"))
        return spec, {name: values[name] for name in ("model", "data", "img_size", "max_seconds")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{folder} is not a run to resume: {path} cannot be read ({error})",
            hint="name the folder of a training that was stopped",
        ) from error
