"""OpenVINO: opens ONNX and OpenVINO artifacts on the processor. Imports numpy and openvino, never torch or onnx."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from resfit.data.preprocessing import Preprocessing
from resfit.engines.graph_ends import as_logits, network_input
from resfit.engines.metadata import Metadata
from resfit.engines.openvino_file import read_metadata
from resfit.engines.session import Precision, check_threads, resolve_precision, resolve_threads
from resfit.errors import EngineError, MissingExtra

try:
    import openvino
except ImportError as missing:
    raise MissingExtra("openvino", extra="openvino", purpose="the engine openvino") from missing

DEVICE = "CPU"
ONNX_METADATA = "framework"  # where the runtime keeps the metadata_props of an ONNX file
HINTS: dict[Precision, str] = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}  # what floats are computed in


class OpenVinoSession:
    """A Session (see `engines.session`) of a graph that `build` wrote.

    Single images, the usual case, run in a network compiled for just that shape, which is a sixth faster in
    resnet20; batches in one compiled for any number of images, once there is a batch.
    """

    engine = "openvino"

    def __init__(self, core: Any, graph: Any, metadata: Metadata, *, threads: int | None, precision: Precision):
        self._core = core
        self.metadata = metadata
        self.precision = precision
        self._asked_threads = threads
        self._graph = graph
        single = graph.clone()
        single.reshape([1, *_sides(graph)])
        compiled = self._compile(single)
        self.threads = check_threads(self.engine, threads, int(compiled.get_property("INFERENCE_NUM_THREADS")))
        self._single = compiled.create_infer_request()
        self._batch: Any = None

    @property
    def preprocessing(self) -> Preprocessing:
        """What images must look like, and the normalisation that the graph contains."""
        return self.metadata.preprocessing

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names by output index."""
        return self.metadata.labels

    def run(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Logits, float32 (N, classes), of uint8 NHWC images."""
        # The runtime shares the memory, and refuses that of a file mapped for reading
        read = np.require(network_input(images, self.metadata), requirements=("C", "W"))
        if not len(images):
            return np.zeros((0, self.metadata.spec.num_classes), np.float32)
        request = self._single if len(images) == 1 else self._any_batch()
        request.set_input_tensor(openvino.Tensor(read, shared_memory=True))
        request.infer()
        return as_logits(request.get_output_tensor().data.copy(), self.metadata)

    def _any_batch(self) -> Any:
        if self._batch is None:
            self._batch = self._compile(self._graph).create_infer_request()
        return self._batch

    def _compile(self, graph: Any) -> Any:
        """The graph for the processor: one stream, so that all threads serve one run; settings are read back."""
        hint = HINTS[self.precision]
        settings = {
            "INFERENCE_NUM_THREADS": resolve_threads(self._asked_threads),
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": hint,
        }
        compiled = self._core.compile_model(graph, DEVICE, settings)
        found = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if found != hint:
            raise EngineError(f"OpenVINO computes floats in {found}, not in the {hint} asked for")
        return compiled


def open_file(path: Path, *, threads: int | None = None, precision: str | None = None) -> OpenVinoSession:
    """The graph in an ONNX or OpenVINO file that `build` wrote; another file is an EngineError that names it."""
    core = openvino.Core()
    try:
        graph = core.read_model(path)
        metadata = _metadata(graph, path)
        capable = "BF16" in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        floats: tuple[Precision, ...] = ("fp32", "bf16") if capable else ("fp32",)
        settled = resolve_precision("openvino", path, asked=precision, held=metadata.precision, floats=floats)
        return OpenVinoSession(core, graph, metadata, threads=threads, precision=settled)
    except RuntimeError as error:  # all of the runtime's failures
        raise EngineError(
            f"OpenVINO cannot open {path}: {_reason(error)}", hint="write the file again with: resfit export"
        ) from error


def _metadata(graph: Any, path: Path) -> Metadata:
    """What the file says of itself; an OpenVINO file's weights are checked against it."""
    if path.suffix == ".xml":
        return read_metadata(path)
    names: tuple[str, ...] = ()
    with contextlib.suppress(RuntimeError):  # a graph of another origin has no such section
        names = tuple(graph.get_rt_info([ONNX_METADATA]).value)
    strings = {name: str(graph.get_rt_info([ONNX_METADATA, name]).value) for name in names}
    return Metadata.from_strings(strings, source=str(path))


def _sides(graph: Any) -> tuple[int, ...]:
    """The input's shape without the batch."""
    return tuple(side.get_length() for side in list(graph.input().get_partial_shape())[1:])


def _reason(error: Exception) -> str:
    """The telling line of the runtime's message, which begins with where in its source the check stands."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check "))]
    return (told or lines or [type(error).__name__])[0]
