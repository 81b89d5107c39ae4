"""What resfit's session adds to one image's latency beyond the runtime called bare; used by predict_jpegs.py."""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resfit.engines.artifact import open_session
from resfit.engines.session import Session, resolve_threads
from resfit.errors import MissingExtra
from resfit.measure.choice import choose_engine


def latencies(network: str, artifacts: dict[str, Path], threads: int | None) -> Iterator[dict[str, Any]]:
    """Of each artifact: one image in every engine, through resfit's session and through the runtime called bare."""
    for precision, path in artifacts.items():
        chosen = choose_engine(path, threads=threads).engine
        for engine, opener in (("onnxruntime", _bare_onnxruntime), ("openvino", _bare_openvino)):
            try:
                session = open_session(path, engine=engine, threads=threads)
            except MissingExtra:
                continue
            times = _latency(session, opener(path, resolve_threads(threads)))
            yield {
                "network": network,
                "precision": precision,
                "engine": engine,
                "chosen": engine == chosen,
                "resfit_us": times["resfit"],
                "bare_us": times["bare"],
                "ratio": times["resfit"] / times["bare"],
            }


def _latency(session: Session, bare: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    shape = session.preprocessing
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (1, shape.height, shape.width, shape.channels), dtype=np.uint8)
    assert np.allclose(session.run(image), bare(image), atol=1e-3)
    return _turn_about({"resfit": lambda: session.run(image), "bare": lambda: bare(image)})


def _turn_about(contestants: dict[str, Callable[[], object]], *, seconds: float = 4.0) -> dict[str, float]:
    """Median microseconds of each, in short turns."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, work in contestants.items():
            work()  # the other's turn left its own caches
            for _ in range(5):
                begin = time.perf_counter()
                work()
                times[name].append((time.perf_counter() - begin) * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def _bare_onnxruntime(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"input": image})[0]


def _bare_openvino(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    graph = openvino.Core().read_model(path)
    graph.reshape([1, *(side.get_length() for side in list(graph.input().get_partial_shape())[1:])])
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()

    def bare(image: np.ndarray) -> np.ndarray:
        request.set_input_tensor(openvino.Tensor(image, shared_memory=True))
        request.infer()
        return request.get_output_tensor().data.copy()

    return bare
