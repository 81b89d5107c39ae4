"""What `export` writes: files that are complete and opened in a place of their own before they are put in theirs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from resfit.storage import keep_earlier, prepare_folder, sha256_file, write_atomic

DESCRIPTION = ".preprocessing.json"
MAIN_FILE = "model.safetensors"  # of a folder: the one that holds the weights


@final
@dataclass(frozen=True, kw_only=True)
class Exported:
    """Files as they were written, and a session that was opened on them.

    path: the file, or the folder. description: what a file beside a graph says of its preprocessing, or None.
    opener: what opened them, in words. output: logits or probabilities.
    """

    path: Path
    format: str
    precision: str
    input: str
    output: str
    session: Any
    opener: str
    description: Mapping[str, Any] | None = None
    converted_layers: int = 0
    float_layers: tuple[str, ...] = ()


def write_exported(
    model: Any, path: Path, *, format: str, precision: str, input: Any, output: Any, threads: int | None
) -> Exported:
    """Write a model into an empty place and open what was written."""
    from resfit.engines.artifact import PRECISIONS, build, open_session

    about: dict[str, Any] = {"path": path, "format": format, "precision": precision, "input": input, "output": output}
    if format not in PRECISIONS:
        from resfit.engines.weights import reopen, write_weights

        write_weights(model, path, format=format)
        opened, opener = reopen(model, path, format=format, threads=threads)
        return Exported(**about, session=opened, opener=opener)
    artifact = build(model, path, format=format, precision=precision, input=input, output=output)
    session = open_session(artifact, threads=threads)
    return Exported(
        **about,
        session=session,
        opener=session.engine,
        description=None if input == "pixels" else _description(model, output),
        converted_layers=artifact.converted_layers,
        float_layers=artifact.float_layers,
    )


def publish(written: Exported, place: Path) -> dict[str, Any]:
    """Put the files where they were asked for, and say what is there, as plain data for JSON.

    What was there already is moved aside; each file appears whole or not at all, the one that names the others last.
    sha256 is that of the file, of the graph of a pair, or of the weights in a folder.
    """
    files = _places(written, place)
    if written.path.is_dir():
        prepare_folder(place)
    for file, target in files.items():
        keep_earlier(target)
        write_atomic(target, file.read_bytes())
    main = place / MAIN_FILE if place.is_dir() else place
    about: dict[str, Any] = {
        "path": str(place), "sha256": sha256_file(main),
        "file_bytes": sum(target.stat().st_size for target in files.values()),
        "format": written.format, "precision": written.precision, "input": written.input, "output": written.output,
        "files": [str(target) for target in files.values()],
    }  # fmt: skip
    if written.description is not None:
        target = place.with_suffix(DESCRIPTION)
        keep_earlier(target)
        write_atomic(target, json.dumps(written.description, indent=2, ensure_ascii=False).encode() + b"\n")
        about["files"].append(str(target))
    return about


def _places(written: Exported, place: Path) -> dict[Path, Path]:
    """The place of each file that was written."""
    if written.path.is_dir():
        return {file: place / file.name for file in sorted(written.path.iterdir(), reverse=True)}
    weights = written.path.with_suffix(".bin")
    pair = {weights: place.with_suffix(".bin")} if written.format == "openvino" else {}
    return {**pair, written.path: place}


def _description(model: Any, output: str) -> dict[str, Any]:
    """How an image becomes the input of a graph that does not normalise, and what its outputs mean."""
    preprocessing = model.preprocessing
    order = "channels in the order red, green, blue" if preprocessing.channels == 3 else "grey"
    shape = ["N", preprocessing.channels, preprocessing.height, preprocessing.width]
    return {
        "preprocessing": preprocessing.to_dict(),
        "input": {
            "name": "input", "type": "float32", "shape": shape, "values": f"(pixel / 255 - mean) / std, {order}",
        },
        "output": {"name": output, "type": "float32", "shape": ["N", len(model.labels)]},
        "labels": list(model.labels),
    }  # fmt: skip
