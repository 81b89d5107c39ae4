"""Artifacts: the files that answer. `build` writes one, `open_session` opens it, `describe` reads its label."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resfit.engines.metadata import Metadata
from resfit.engines.session import Session
from resfit.errors import EngineError, UsageError, nearest
from resfit.storage import sha256_file, write_atomic

if TYPE_CHECKING:
    from resfit.model.model import Model

# Engine: its module (imported only when used, so that ONNX Runtime runs without torch) and the formats that
# the module's open_file opens. The first engine that opens a format is that format's default.
ENGINES = {
    "onnxruntime": ("resfit.engines.onnxruntime", ("onnx",)),
    "torch": ("resfit.engines.torch", ("torch",)),
}
PRECISIONS = {"onnx": ("fp32", "int8"), "torch": ("fp32",)}  # by format


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that an engine runs. format: onnx or torch. precision: fp32 or int8.

    converted_layers: convolutions and classifiers with int8 weights; 0 in fp32.
    """

    path: Path
    sha256: str
    file_bytes: int
    format: str
    precision: str
    converted_layers: int = 0


def build(model: "Model", path: str | Path, *, format: str = "onnx", precision: str = "fp32") -> Artifact:
    """Write a model as an artifact: batch norms folded, normalisation inside; equal models give equal bytes.

    int8 needs a model that `compression.quantise` has calibrated. The file appears whole or not at all.
    """
    if format not in PRECISIONS:
        raise UsageError(f"there is no artifact format {format!r}", hint=nearest(format, PRECISIONS))
    if precision not in PRECISIONS[format]:
        raise UsageError(
            f"the {format} format has no precision {precision!r}", hint=nearest(precision, PRECISIONS[format])
        )
    if precision == "int8" and not model.activation_ranges:
        raise EngineError(
            "int8 needs calibration images: pass --data",
            hint="from Python, call resfit.compression.quantise.quantise(model, images) first",
        )
    content, converted = _content(model, format, precision)
    path = Path(path)
    write_atomic(path, content)
    return Artifact(
        path=path,
        sha256=sha256_file(path),
        file_bytes=path.stat().st_size,
        format=format,
        precision=precision,
        converted_layers=converted,
    )


def open_session(artifact: Artifact | str | Path, *, engine: str | None = None, threads: int | None = None) -> Session:
    """Open an artifact in an engine, by default the first that opens its format.

    threads: of one run; by default one for each processor. Unknown engine: UsageError. A file that the engine
    cannot open: EngineError.
    """
    path = artifact.path if isinstance(artifact, Artifact) else Path(artifact)
    if engine is not None and engine not in ENGINES:
        raise UsageError(f"there is no engine {engine!r}", hint=nearest(engine, ENGINES))
    format = file_format(path)
    able = [name for name, (_, formats) in ENGINES.items() if format in formats]
    if engine is not None and engine not in able:
        raise EngineError(
            f"{engine} cannot open {path}, which is of the {format} format",
            hint=f"engines that open it: {', '.join(able)}",
        )
    module, _ = ENGINES[engine or able[0]]
    return importlib.import_module(module).open_file(path, threads=threads)


def describe(path: str | Path) -> Metadata:
    """What an artifact says about itself (labels, preprocessing, precision, spec, version); without torch."""
    path = Path(path)
    if file_format(path) == "torch":
        from resfit.engines.torch_file import read_metadata

        return read_metadata(path)
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path)
    except DecodeError as error:
        raise EngineError(f"{path} is not a readable ONNX file: {error}") from error
    return Metadata.from_strings({entry.key: entry.value for entry in model.metadata_props}, source=str(path))


def file_format(path: Path) -> str:
    """The format of an artifact by its first bytes: safetensors (torch) opens its JSON at byte 8."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror or error}") from error
    return "torch" if head[8:] == b"{" else "onnx"


def _content(model: "Model", format: str, precision: str) -> tuple[bytes, int]:
    from resfit.model.fold import fold

    folded = fold(model) if model.spec.norm == "batch" else model
    metadata = Metadata(
        spec=folded.spec,
        preprocessing=folded.preprocessing,
        labels=folded.labels,
        precision=precision,
        converted_layers=0,
        trained=folded.provenance.trained,
        resfit_version=folded.provenance.resfit_version,
    )
    if format == "torch":
        from resfit.engines.torch_file import torch_file

        return torch_file(folded, metadata), 0
    from resfit.engines.onnx_graph import onnx_model

    proto, converted = onnx_model(folded, metadata)
    if precision == "int8" and not converted:
        raise EngineError(
            "no convolution and no classifier could be stored in int8",
            hint="calibrate the model again with more images, or export with --precision fp32",
        )
    return proto.SerializeToString(deterministic=True), converted
