"""ONNX Runtime: opens ONNX artifacts on the processor. Imports numpy and onnxruntime, never torch or onnx."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from resfit.data.preprocessing import Preprocessing
from resfit.engines.graph_ends import as_logits, network_input
from resfit.engines.metadata import Metadata
from resfit.engines.session import Precision, check_threads, resolve_precision, resolve_threads
from resfit.errors import EngineError

ERRORS_ONLY = 3  # onnxruntime's log severity


class OnnxRuntimeSession:
    """A Session (see `engines.session`) of an ONNX file that `build` wrote."""

    engine = "onnxruntime"

    def __init__(self, session: onnxruntime.InferenceSession, metadata: Metadata, *, precision: Precision):
        self._session = session
        self.metadata = metadata
        self.precision = precision

    @property
    def threads(self) -> int:
        """Threads of one operator, as the runtime holds them."""
        return self._session.get_session_options().intra_op_num_threads

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
        read = network_input(images, self.metadata)
        if not len(images):
            return np.zeros((0, self.metadata.spec.num_classes), np.float32)
        return as_logits(self._session.run(None, {"input": read})[0], self.metadata)


def open_file(path: Path, *, threads: int | None = None, precision: str | None = None) -> OnnxRuntimeSession:
    """The graph in an ONNX file that `build` wrote; another file is an EngineError that names it."""
    options = session_options(threads)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a class of its own for each kind of failure, none with a base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EngineError(
            f"ONNX Runtime cannot open {path}: {reason}", hint="write the file again with: resfit export"
        ) from error
    metadata = Metadata.from_strings(session.get_modelmeta().custom_metadata_map, source=str(path))
    settled = resolve_precision("onnxruntime", path, asked=precision, held=metadata.precision, floats=("fp32",))
    opened = OnnxRuntimeSession(session, metadata, precision=settled)
    check_threads(opened.engine, threads, opened.threads)
    return opened


def session_options(threads: int | None) -> onnxruntime.SessionOptions:
    """All graph optimisations, the given threads inside an operator, one operator at a time."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = resolve_threads(threads)
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    return options
