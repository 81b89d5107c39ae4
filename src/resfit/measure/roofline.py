"""What this processor can do at most, measured: matrix products by precision, and memory bandwidth.

A network cannot run faster than its multiply-accumulates at the peak of the matrix product, nor than its weights
come from memory (Williams et al. 2009, "Roofline"). Run as `python -m resfit.measure.roofline THREADS` it measures
in a process of its own, so that nothing else shares its threads.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self, final

from resfit.errors import EngineError

SIZE = 1536  # rows of the square matrices: large enough for the peak, small enough for a second in all
STREAM_VALUES = 1 << 25  # floats of each array that is streamed: beyond every cache
SECONDS = 0.6  # of each measurement
TIMEOUT_SECONDS = 120


@final
@dataclass(frozen=True, kw_only=True)
class Roofline:
    """Peaks of this machine with `threads` threads.

    gemm_gops: 10^9 operations a second (two a multiply-accumulate) of a large matrix product, by precision
    (fp32, bf16, int8); one that cannot be measured here is absent. memory_gb_per_second: read and written
    together, 10^9 bytes a second, of a sum of two large arrays.
    """

    threads: int
    gemm_gops: dict[str, float]
    memory_gb_per_second: float

    def least_ms(self, *, macs: int, weight_bytes: int, precision: str, batch_size: int) -> float | None:
        """The least time of one run of `batch_size` images: arithmetic at its peak, or the weights read once."""
        peak = self.gemm_gops.get(precision)
        if peak is None:
            return None
        arithmetic = 2 * macs * batch_size / (peak * 1e6)
        return max(arithmetic, weight_bytes / (self.memory_gb_per_second * 1e6))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What `to_dict` gave."""
        return cls(**values)


def roofline(threads: int) -> Roofline:
    """Measure in a process of its own; EngineError where that fails."""
    command = [sys.executable, "-P", "-m", "resfit.measure.roofline", str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
        return Roofline.from_dict(json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.TimeoutExpired, ValueError, IndexError, TypeError) as error:
        raise EngineError(f"the peaks of this machine could not be measured: {error}") from error


def measure_here(threads: int, *, size: int = SIZE, values: int = STREAM_VALUES, seconds: float = SECONDS) -> Roofline:
    """Measure in this process, whose torch threads are set."""
    import torch

    torch.set_num_threads(threads)
    operations = 2 * size**3
    gops = {
        name: operations / _fastest(_product(size, dtype), seconds) / 1e9
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    integer = _integer_product(size, threads)
    gops["int8"] = operations / _fastest(integer, seconds) / 1e9
    first, second, total = (torch.ones(values) for _ in range(3))
    streamed = _fastest(lambda: torch.add(first, second, out=total), seconds)
    return Roofline(threads=threads, gemm_gops=gops, memory_gb_per_second=3 * 4 * values / streamed / 1e9)


def _product(size: int, dtype: Any) -> Callable[[], object]:
    import torch

    left, right = (torch.ones(size, size, dtype=dtype) for _ in range(2))
    result = torch.empty(size, size, dtype=dtype)
    return lambda: torch.mm(left, right, out=result)


def _integer_product(size: int, threads: int) -> Callable[[], object]:
    """Unsigned by signed bytes, as quantised networks multiply, in the runtime that serves them."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    weight = helper.make_tensor("b", TensorProto.INT8, [size, size], np.ones((size, size), np.int8).tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [size, size])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, [size, size])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    images = np.ones((size, size), np.uint8)
    return lambda: session.run(None, {"a": images})


def _fastest(run: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of the runs that fit into `seconds`; the first warms up."""
    run()
    fastest = float("inf")
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        begin = time.perf_counter()
        run()
        fastest = min(fastest, time.perf_counter() - begin)
    return fastest


if __name__ == "__main__":
    print(json.dumps(measure_here(int(sys.argv[1])).to_dict()))
