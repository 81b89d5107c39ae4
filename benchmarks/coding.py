"""Bytes and speed of every codec on a published network's weights, rounded to about two bits each.

    python benchmarks/coding.py WEIGHTS

WEIGHTS is a checkpoint (the published ResNet-20's .th file). Its batch norms are folded and each layer is rounded to
steps in proportion to its spread: bytes say how a codec does on the same symbols, not how small the network can be.
Beside them stands the cost of an adaptive coder of order 0, each layer for itself. Decoding is timed in one thread,
five times, the median is kept; what compiling takes, with nothing kept from before, is measured in a new process.
Writes results/coding.json. Exit 0 when the range codec is 4 % below order 0 and decodes 10 MB of float weights a
second, 3 when not.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import RESULTS, run, write_result

from resfit.coding.codecs import CODECS
from resfit.model.fold import fold
from resfit.model.load import load

STEP = 0.9  # of a layer's standard deviation
LEAST_GAIN, LEAST_MEGABYTES_A_SECOND = 0.04, 10.0
REPEATS = 5
FIRST_USE = """
import time
import numpy as np
from resfit.coding.codecs import CODECS
start = time.perf_counter(), time.process_time()
CODECS["range"].encode([np.zeros((2, 2), np.int32)])
print(time.perf_counter() - start[0], time.process_time() - start[1])
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    arguments = parser.parse_args()
    model = fold(load(arguments.weights))
    kernels = [tensor.numpy() for name, tensor in model.weights.items() if name.endswith("weight")]
    tensors = [np.rint(kernel / (STEP * kernel.std())).astype(np.int32) for kernel in kernels]
    entropy = sum(_adaptive_bytes(tensor) for tensor in tensors)
    weights = sum(tensor.size for tensor in tensors)
    with tempfile.TemporaryDirectory(prefix="resfit-numba-") as folder:
        first, again = _first_use(folder), _first_use(folder)
    rows = {name: _row(name, tensors) for name in CODECS}
    gain = 1 - rows["range"]["bytes"] / entropy
    speed = rows["range"]["decoded_float_megabytes_per_second"]
    holds = gain >= LEAST_GAIN and speed >= LEAST_MEGABYTES_A_SECOND
    for name, row in rows.items():
        print(
            f"{name:8} {row['bytes']:8,} bytes  {row['decoded_float_megabytes_per_second']:8.1f} MB of floats a second"
        )
    print(f"order 0  {entropy:8,.0f} bytes; the range codec takes {100 * gain:.1f} % less")
    write_result(
        RESULTS / "coding.json",
        what="bytes and decoding speed of every codec on folded published weights at about two bits a weight",
        weights=weights,
        bits_a_weight_order_0=8 * entropy / weights,
        adaptive_order_0_bytes=round(entropy),
        rows=[{"codec": name, **row} for name, row in rows.items()],
        gain_over_order_0=gain,
        first_use_seconds=first,
        first_use_with_kept_code_seconds=again,
        goals={"gain": LEAST_GAIN, "megabytes_per_second": LEAST_MEGABYTES_A_SECOND, "met": holds},
    )
    return 0 if holds else 3


def _row(name: str, tensors: list[np.ndarray]) -> dict[str, float]:
    """Bytes, and medians of seconds, of one codec; what it decodes is compared."""
    codec, shapes = CODECS[name], [tensor.shape for tensor in tensors]
    weights = sum(tensor.size for tensor in tensors)
    encoding, decoding = [], []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        data, _ = codec.encode(tensors)
        middle = time.perf_counter()
        back = codec.decode(data, shapes, max_symbols=weights)
        encoding.append(middle - start)
        decoding.append(time.perf_counter() - middle)
    assert all(np.array_equal(one, other) for one, other in zip(tensors, back, strict=True))
    seconds = statistics.median(decoding[1:])
    return {
        "bytes": len(data),
        "encode_seconds": statistics.median(encoding[1:]),
        "decode_seconds": seconds,
        "decoded_float_megabytes_per_second": 4 * weights / seconds / 1e6,
    }


def _adaptive_bytes(tensor: np.ndarray) -> float:
    """What a coder pays that counts symbols as they come, each count beginning at 1/2."""
    counts = np.bincount((tensor - tensor.min()).ravel())
    cost = math.lgamma(len(counts) / 2 + counts.sum()) - math.lgamma(len(counts) / 2)
    cost -= sum(math.lgamma(count + 0.5) - math.lgamma(0.5) for count in counts)
    return cost / math.log(2) / 8


def _first_use(folder: str) -> dict[str, float]:
    """Seconds of the first symbols in a new process that keeps compiled code in the folder."""
    environment = {**os.environ, "XDG_CACHE_HOME": folder}
    result = subprocess.run(
        [sys.executable, "-c", FIRST_USE], capture_output=True, text=True, check=True, env=environment
    )
    wall, processor = (float(word) for word in result.stdout.split())
    return {"wall": wall, "processor": processor}


if __name__ == "__main__":
    run(main)
