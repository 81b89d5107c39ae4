"""Other libraries' way of running the same network, timed as resfit's own artifacts are.

A peer is called as its own documentation says, with its own defaults (OpenVINO's include bfloat16 where the
processor has it); images come as decoded bytes and probabilities are asked for, as of everything that is timed.
`python -m resfit.measure.peers` is the process that measures one: a PeerRequest in, a Report out, both JSON.
"""

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from resfit.errors import EngineError, MissingExtra
from resfit.measure.child import answer_on_standard_output, noise_batches, timed_runs
from resfit.measure.memory import peak_memory_bytes
from resfit.measure.request import Report, Request
from resfit.storage import sha256_file

PEERS = ("timm", "torchvision", "onnxruntime", "openvino")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Run = Callable[[np.ndarray], np.ndarray]
_KEPT: list[Any] = []


@final
@dataclass(frozen=True, kw_only=True)
class PeerRequest:
    """One peer to measure: which library, which network, which images.

    network, num_classes: the name that timm and torchvision know, and its outputs.
    artifact: the float32 ONNX file that runtimes open.
    """

    peer: str
    network: str
    num_classes: int
    artifact: str
    threads: int
    image_shape: tuple[int, int, int]
    batch_size: int

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self))


class _Bare:
    """A peer's callable with the one method that timing needs."""

    def __init__(self, run: Run):
        self.run = run


def measure_here(request: PeerRequest) -> Report:
    """Open the peer, time it, and read back what it runs with."""
    opener = {"timm": _timm, "torchvision": _torchvision, "onnxruntime": _onnxruntime, "openvino": _openvino}
    idle = _imported(request.peer)
    begin = time.perf_counter()
    try:
        run, threads, precision, file_bytes = opener[request.peer](request)
    except Exception as error:  # each library has its own
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise EngineError(f"{request.peer} cannot run {request.network}: {reason}") from error
    load_ms = (time.perf_counter() - begin) * 1000
    timing = Request(
        artifact=request.artifact, engine=request.peer, threads=threads, image_shape=request.image_shape, quantities=(),
        batch_size=request.batch_size,
    )  # fmt: skip
    latencies = timed_runs(_Bare(run), noise_batches(timing), timing)
    fingerprint = sha256_file(Path(request.artifact))
    return Report(
        sha256_before=fingerprint, sha256_after=fingerprint, file_bytes=file_bytes, engine=request.peer,
        threads=threads, precision=precision, load_ms=load_ms, latencies_ms=latencies, idle_bytes=idle,
        peak_bytes=peak_memory_bytes(),
    )  # fmt: skip


def _imported(peer: str) -> int:
    """Peak memory once the library is imported; MissingExtra where it is not there."""
    from importlib import import_module

    if peer in ("timm", "torchvision"):  # timm imports torchvision
        _declare_operators()
    try:
        import_module(peer)
    except ImportError as error:
        raise MissingExtra(peer, extra="openvino" if peer == "openvino" else peer, purpose="--against") from error
    except RuntimeError as error:
        raise EngineError(f"{peer} cannot be imported here: {error}", hint=f"leave {peer} out of --against") from error
    return peak_memory_bytes()


def _declare_operators() -> None:
    """Some builds of torch lack torchvision's detection operators: a classifier needs none, but its import does."""
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    with contextlib.suppress(RuntimeError):  # where they are there already
        library.define("nms(Tensor dets, Tensor scores, float threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float threshold) -> Tensor")
    _KEPT.append(library)  # what a library defines goes when it goes


def _timm(request: PeerRequest) -> tuple[Run, int, str, int]:
    import timm

    return _eager(timm.create_model(request.network, pretrained=False, num_classes=request.num_classes), request)


def _torchvision(request: PeerRequest) -> tuple[Run, int, str, int]:
    import torchvision

    return _eager(torchvision.models.get_model(request.network, weights=None, num_classes=request.num_classes), request)


def _eager(network: Any, request: PeerRequest) -> tuple[Run, int, str, int]:
    """Float32, eager, evaluation mode, as both libraries' own inference scripts run it."""
    import torch

    torch.set_num_threads(request.threads)
    network = network.eval()
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
            return network((x - mean) / std).numpy()

    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    return run, torch.get_num_threads(), "fp32", weights


def _onnxruntime(request: PeerRequest) -> tuple[Run, int, str, int]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = request.threads
    session = onnxruntime.InferenceSession(request.artifact, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    threads = session.get_session_options().intra_op_num_threads
    return lambda images: session.run(None, {name: images})[0], threads, "fp32", os.stat(request.artifact).st_size


def _openvino(request: PeerRequest) -> tuple[Run, int, str, int]:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(request.artifact, "CPU", {"INFERENCE_NUM_THREADS": request.threads})
    precision = {"f32": "fp32"}.get(kind := str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string()), kind)
    threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
    return lambda images: compiled(images)[0], threads, precision, os.stat(request.artifact).st_size


def main() -> int:
    """Read one request, print one report or one error; 0 when measured."""
    values = json.loads(sys.stdin.read())
    values["image_shape"] = tuple(values["image_shape"])
    return answer_on_standard_output(lambda: measure_here(PeerRequest(**values)))


if __name__ == "__main__":
    sys.exit(main())
