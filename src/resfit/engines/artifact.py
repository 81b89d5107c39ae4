"""Artifacts: the files that answer. `build` writes one, `open_session` opens it, `describe` reads its label."""

import dataclasses
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resfit.engines.metadata import DAMAGED, Input, Metadata, Output
from resfit.engines.quantisation import quantised_layers
from resfit.engines.session import Session
from resfit.errors import EngineError, UsageError, nearest
from resfit.storage import sha256_file, write_atomic

if TYPE_CHECKING:
    from onnx import ModelProto

    from resfit.model.model import Model

# Engine: its module (imported only when used, so that ONNX Runtime runs without torch) and the formats that
# the module's open_file opens. The first engine that opens a format is that format's default.
ENGINES = {
    "onnxruntime": ("resfit.engines.onnxruntime", ("onnx",)),
    "openvino": ("resfit.engines.openvino", ("onnx", "openvino")),
    "torch": ("resfit.engines.torch", ("torch",)),
    "torch-compiled": ("resfit.engines.torch_compiled", ("torch",)),
}
PRECISIONS = {"onnx": ("fp32", "int8"), "openvino": ("fp32", "int8"), "torch": ("fp32",)}  # by format
GRAPHS = ("onnx", "openvino")  # formats that hold a graph, and so have a choice of what it reads and gives


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that an engine runs. format: onnx, openvino or torch. precision: fp32 or int8.

    path, sha256: of an openvino artifact those of its .xml, which holds the sha256 of the .bin beside it.
    file_bytes: of all its files. converted_layers: convolutions and classifiers with int8 weights; 0 in fp32.
    float_layers: names of those that an int8 artifact computes in float.
    """

    path: Path
    sha256: str
    file_bytes: int
    format: str
    precision: str
    converted_layers: int = 0
    float_layers: tuple[str, ...] = ()


def build(
    model: "Model",
    path: str | Path,
    *,
    format: str = "onnx",
    precision: str = "fp32",
    input: Input = "pixels",
    output: Output = "logits",
) -> Artifact:
    """Write a model as an artifact, batch norms folded; equal models give equal bytes.

    int8 needs a model that `compression.quantise` has calibrated. input, output: what a graph reads and gives, as
    in `engines.metadata`; the torch format, which holds no graph, has no choice of them. The file appears whole or
    not at all. An openvino artifact is PATH, which ends in .xml, and a .bin beside it.
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
    if (input, output) != ("pixels", "logits") and format not in GRAPHS:
        raise UsageError(
            f"the {format} format holds no graph that could read {input} or give {output}",
            hint=f"use --format {' or '.join(GRAPHS)}",
        )
    path = Path(path)
    converted = _WRITERS[format](model, path, precision, input, output)
    layers = quantised_layers(model.spec) if precision == "int8" else ()
    return Artifact(
        path=path,
        sha256=sha256_file(path),
        file_bytes=artifact_bytes(path),
        format=format,
        precision=precision,
        converted_layers=len(converted),
        float_layers=tuple(name for name in layers if name not in converted),
    )


def open_session(
    artifact: Artifact | str | Path,
    *,
    engine: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
) -> Session:
    """Open an artifact in an engine, by default the first that opens its format.

    threads: of one run; by default one for each processor. precision: fp32, bf16 or int8, by default the one that
    the file holds. Unknown engine or precision: UsageError. A file that the engine cannot open, a thread count or
    a precision that it cannot honour: EngineError. An engine that is not installed: MissingExtra.
    """
    path = artifact.path if isinstance(artifact, Artifact) else Path(artifact)
    if engine is not None and engine not in ENGINES:
        raise UsageError(f"there is no engine {engine!r}", hint=nearest(engine, ENGINES))
    able = engines_for(path)
    if engine is not None and engine not in able:
        raise EngineError(
            f"{engine} cannot open {path}, which is of the {file_format(path)} format",
            hint=f"engines that open it: {', '.join(able)}",
        )
    module, _ = ENGINES[engine or able[0]]
    return importlib.import_module(module).open_file(path, threads=threads, precision=precision)


def engines_for(path: str | Path) -> tuple[str, ...]:
    """The engines that open the format of an artifact, its default first."""
    format = file_format(Path(path))
    return tuple(name for name, (_, formats) in ENGINES.items() if format in formats)


def describe(path: str | Path) -> Metadata:
    """What an artifact says about itself (labels, preprocessing, precision, spec, version); without torch."""
    path = Path(path)
    format = file_format(path)
    if format == "torch":
        from resfit.engines.torch_file import read_metadata

        return read_metadata(path)
    if format == "openvino":
        from resfit.engines.openvino_file import read_metadata

        return read_metadata(path)
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path)
    except DecodeError as error:
        raise EngineError(f"{path} is not a readable ONNX file: {error}", hint=DAMAGED) from error
    return Metadata.from_strings({entry.key: entry.value for entry in model.metadata_props}, source=str(path))


def file_format(path: Path) -> str:
    """The format of an artifact by its first bytes: safetensors (torch) opens its JSON at byte 8, openvino is XML."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror or error}") from error
    if head[:2] == b"<?":
        return "openvino"
    return "torch" if head[8:] == b"{" else "onnx"


def artifact_bytes(path: str | Path) -> int:
    """The bytes of all files of an artifact: two of an openvino one, else one."""
    path = Path(path)
    weights = path.with_suffix(".bin")
    paired = file_format(path) == "openvino" and weights.is_file()
    return path.stat().st_size + (weights.stat().st_size if paired else 0)


def _folded(model: "Model", precision: str, input: Input, output: Output) -> tuple["Model", Metadata]:
    """The model without its batch norms, and what its artifact says of itself."""
    from resfit.model.fold import fold

    if precision == "fp32":  # an artifact of floats holds values, whatever grids they lie on
        model = dataclasses.replace(model, encodings={}, activation_ranges={})
    folded = fold(model) if model.spec.norm == "batch" else model
    metadata = Metadata(
        spec=folded.spec,
        preprocessing=folded.preprocessing,
        labels=folded.labels,
        precision=precision,
        converted_layers=0,
        trained=folded.provenance.trained,
        resfit_version=folded.provenance.resfit_version,
        input=input,
        output=output,
    )
    return folded, metadata


def _write_torch(model: "Model", path: Path, precision: str, input: Input, output: Output) -> tuple[str, ...]:
    from resfit.engines.torch_file import torch_file

    write_atomic(path, torch_file(*_folded(model, precision, input, output)))
    return ()


def _write_onnx(model: "Model", path: Path, precision: str, input: Input, output: Output) -> tuple[str, ...]:
    proto, converted = _graph(model, precision, input, output)
    write_atomic(path, proto.SerializeToString(deterministic=True))
    return converted


def _write_openvino(model: "Model", path: Path, precision: str, input: Input, output: Output) -> tuple[str, ...]:
    from resfit.engines.openvino_file import write_openvino

    proto, converted = _graph(model, precision, input, output)
    write_openvino(proto, path)
    return converted


def _graph(model: "Model", precision: str, input: Input, output: Output) -> tuple["ModelProto", tuple[str, ...]]:
    from resfit.engines.onnx_graph import onnx_model

    proto, converted = onnx_model(*_folded(model, precision, input, output))
    if precision == "int8" and not converted:
        raise EngineError(
            "no convolution and no classifier could be stored in int8",
            hint="calibrate the model again with more images, or export with --precision fp32",
        )
    return proto, converted


_WRITERS = {"onnx": _write_onnx, "openvino": _write_openvino, "torch": _write_torch}
