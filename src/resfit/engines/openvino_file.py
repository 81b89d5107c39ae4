"""The openvino format: PATH.xml, the graph, and PATH.bin, its weights (OpenVINO's intermediate representation).

The graph is the ONNX one, converted: float32 stays float32, and int8 is the same QDQ graph. What the artifact says of
itself lies in the .xml, and with it the sha256 of the .bin, so that the .xml's own sha256 speaks for both.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from resfit.engines.metadata import DAMAGED, Metadata
from resfit.errors import EngineError, MissingExtra, UsageError
from resfit.storage import sha256_file, write_atomic

if TYPE_CHECKING:
    from onnx import ModelProto

SECTION = "resfit"  # of the file's rt_info
WEIGHTS_SHA256 = "weights_sha256"
GRAPH_LIMIT_BYTES = 256_000_000


def write_openvino(proto: "ModelProto", path: Path) -> None:
    """Convert an ONNX model that `onnx_model` made and write it as PATH (ending in .xml) and its .bin.

    Either file appears whole or not at all, the .xml last. Equal models give equal bytes.
    """
    openvino = _openvino()
    if path.suffix != ".xml":
        raise UsageError(f"{path} cannot hold an openvino graph", hint=f"name it {path.with_suffix('.xml')}")
    strings = {entry.key: entry.value for entry in proto.metadata_props}
    del proto.metadata_props[:]
    network = openvino.Core().read_model(proto.SerializeToString(deterministic=True))
    for number, operation in enumerate(network.get_ordered_ops()):
        if operation.get_type_name() not in ("Parameter", "Result"):  # the others bear a counter of the process
            operation.set_friendly_name(str(number))
    with tempfile.TemporaryDirectory(prefix="resfit-openvino-") as folder:
        saved = Path(folder, "graph.xml")
        _save(openvino, network, saved, strings)
        strings[WEIGHTS_SHA256] = sha256_file(saved.with_suffix(".bin"))
        _save(openvino, network, saved, strings)
        write_atomic(path.with_suffix(".bin"), saved.with_suffix(".bin").read_bytes())
        write_atomic(path, saved.read_bytes())


def read_metadata(path: Path) -> Metadata:
    """What an openvino artifact says about itself; without openvino.

    A damaged file, or a .bin that is missing or not the one this .xml was written with, is an EngineError that
    names it.
    """
    strings = _strings(path)
    metadata = Metadata.from_strings(strings, source=str(path))
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise EngineError(f"the weights of {path} are missing: there is no {weights}", hint="copy both files together")
    if sha256_file(weights) != strings.get(WEIGHTS_SHA256):
        raise EngineError(
            f"{weights} does not hold the weights that {path} was written with", hint="export the model again"
        )
    return metadata


def _strings(path: Path) -> dict[str, str]:
    """The entries of resfit's section of the file."""
    try:
        if path.stat().st_size > GRAPH_LIMIT_BYTES:
            raise EngineError(f"{path} is larger than any network's graph")
        section = ElementTree.parse(path).getroot().find(f"rt_info/{SECTION}")
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror or error}") from error
    except ElementTree.ParseError as error:
        raise EngineError(f"{path} is not a readable OpenVINO graph: {error}", hint=DAMAGED) from error
    return {entry.tag: entry.get("value", "") for entry in section} if section is not None else {}


def _save(openvino: Any, network: Any, path: Path, strings: dict[str, str]) -> None:
    for name, value in strings.items():
        network.set_rt_info(value, [SECTION, name])
    openvino.save_model(network, path, compress_to_fp16=False)


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("openvino", extra="openvino", purpose="the openvino format") from error
    return openvino
