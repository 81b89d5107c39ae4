"""ONNX Runtime: opens ONNX artifacts on the processor. Imports numpy and onnxruntime, never torch or onnx."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from resfit.data.preprocessing import Preprocessing
from resfit.engines.metadata import Metadata
from resfit.engines.session import check_images, resolve_threads
from resfit.errors import EngineError

ERRORS_ONLY = 3  # onnxruntime's log severity


class OnnxRuntimeSession:
    """A Session (see `engines.session`) of an ONNX file that `build` wrote."""

    engine = "onnxruntime"

    def __init__(self, session: onnxruntime.InferenceSession, metadata: Metadata):
        self._session = session
        self.metadata = metadata

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
        check_images(images, self.metadata.preprocessing)
        if not len(images):
            return np.zeros((0, self.metadata.spec.num_classes), np.float32)
        return self._session.run(["logits"], {"input": images})[0]


def open_file(path: Path, *, threads: int | None = None) -> OnnxRuntimeSession:
    """The graph in an ONNX file that `build` wrote; another file is an EngineError that names it."""
    options = session_options(threads)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a class of its own for each kind of failure, none with a base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EngineError(
            f"ONNX Runtime cannot open {path}: {reason}", hint="write the file again with: resfit export"
        ) from error
    strings = session.get_modelmeta().custom_metadata_map
    return OnnxRuntimeSession(session, Metadata.from_strings(strings, source=str(path)))


def session_options(threads: int | None) -> onnxruntime.SessionOptions:
    """All graph optimisations, the given threads inside an operator, one operator at a time."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = resolve_threads(threads)
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    return options
