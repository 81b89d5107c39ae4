"""The measuring process, `python -m resfit.measure.child`: a Request on standard input, a Report on output.

Both are JSON. It imports the engine it measures and nothing heavier, so that its memory is the engine's.
"""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import numpy as np

from resfit.engines.artifact import ENGINES, artifact_bytes, open_session
from resfit.engines.compare import Runs
from resfit.engines.session import Session
from resfit.errors import ResfitError
from resfit.measure.energy import POWERCAP, energy_meter
from resfit.measure.memory import peak_memory_bytes
from resfit.measure.request import Report, Request
from resfit.metrics.classification import accuracy, softmax
from resfit.storage import sha256_file

TURNS = 16
ENERGY_SECONDS = 2.0
BATCH_VALUES = 1 << 24


def measure_here(request: Request) -> Report:
    """Everything the request asks, in this process.

    The order matters: the idle reading comes before the file is opened, single-image latency before the large
    batches of an accuracy run, which grow the engine's buffers.
    """
    before = sha256_file(Path(request.artifact))
    import_module(ENGINES[request.engine][0])
    batches = _timed_batches(request)
    idle = peak_memory_bytes() if "memory_bytes" in request.quantities else None
    begin = time.perf_counter()
    session = open_session(
        request.artifact, engine=request.engine, threads=request.threads, precision=request.precision
    )
    load_ms = (time.perf_counter() - begin) * 1000
    latencies = timed_runs(session, batches, request)
    energy = None
    if "energy_mj" in request.quantities:
        energy = _energy(session, batches, Path(request.powercap or POWERCAP))
    peak = peak_memory_bytes() if idle is not None else None
    return Report(
        sha256_before=before,
        engine=session.engine,
        threads=session.threads,
        precision=session.precision,
        load_ms=load_ms,
        latencies_ms=latencies,
        idle_bytes=idle,
        peak_bytes=peak,
        energy_mj=energy[0] if energy else None,
        energy_images=energy[1] if energy else None,
        accuracy=_accuracy(session, request),
        file_bytes=artifact_bytes(request.artifact),
        sha256_after=sha256_file(Path(request.artifact)),
    )


def timed_runs(session: Runs, batches: np.ndarray, request: Request) -> tuple[float, ...]:
    """Milliseconds of each run from uint8 images to probabilities, the batches turn about, warm.

    batches: uint8 (turns, batch, height, width, channels).
    """
    started = time.perf_counter()
    for turn in range(request.warmup):
        softmax(session.run(batches[turn % len(batches)]))
        if time.perf_counter() - started > request.max_seconds / 2:
            break
    latencies: list[float] = []
    started = time.perf_counter()
    elapsed = 0.0
    while (len(latencies) < request.repeats or elapsed < request.min_seconds) and elapsed < request.max_seconds:
        batch = batches[len(latencies) % len(batches)]
        begin = time.perf_counter()
        softmax(session.run(batch))
        end = time.perf_counter()
        latencies.append((end - begin) * 1000.0)
        elapsed = end - started
    return tuple(latencies)


def logits_in_batches(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Logits (N, classes) of uint8 NHWC images, in batches small enough for any machine."""
    size = max(1, min(128, BATCH_VALUES // max(1, math.prod(images.shape[1:]) * 4)))
    starts = range(0, len(images), size)
    return np.concatenate([run(np.ascontiguousarray(images[start : start + size])) for start in starts])


def _timed_batches(request: Request) -> np.ndarray:
    """Different images turn about, real ones where given, so that no cache flatters the timing."""
    if request.images is None:
        return noise_batches(request)
    size = request.batch_size
    images = np.load(request.images, mmap_mode="r")
    turns = max(1, min(TURNS, len(images) // size))
    return images[np.arange(turns * size).reshape(turns, size) % len(images)]


def noise_batches(request: Request) -> np.ndarray:
    """A few batches of random images, uint8 (turns, batch, height, width, channels)."""
    size = request.batch_size
    turns = TURNS if size == 1 else 2
    noise = np.random.default_rng(0)
    return noise.integers(0, 256, (turns, size, *request.image_shape), dtype=np.uint8)


def _energy(session: Session, batches: np.ndarray, powercap: Path) -> tuple[float, int]:
    """(millijoules an image, images run), over long enough for a counter that ticks every millisecond."""
    meter = energy_meter(powercap)
    count = 0
    before = meter.read()
    started = time.perf_counter()
    while time.perf_counter() - started < ENERGY_SECONDS:
        session.run(batches[count % len(batches)])
        count += 1
    images = count * batches.shape[1]
    return meter.millijoules(before, meter.read()) / images, images


def _accuracy(session: Session, request: Request) -> float | None:
    if request.labels is None or request.images is None:
        return None
    logits = logits_in_batches(session.run, np.load(request.images, mmap_mode="r"))
    if request.logits is not None:
        np.save(request.logits, logits)
    return accuracy(logits, np.load(request.labels))


@contextlib.contextmanager
def _standard_output_kept() -> Iterator[int]:
    """Native libraries print where they like: until the report, standard output is standard error."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield kept
    finally:
        os.close(kept)


def answer_on_standard_output(measured: Callable[[], Report]) -> int:
    """Print a report, or the error that was raised in its place, as JSON; the exit code."""
    with _standard_output_kept() as output:
        try:
            answer = measured().to_json()
            code = 0
        except ResfitError as error:
            answer = json.dumps({"error": {"code": error.code, "message": error.message, "hint": error.hint}})
            code = error.exit_code
        os.write(output, answer.encode())
    return code


def main() -> int:
    """Read one request, print one report or one error; 0 when measured."""
    return answer_on_standard_output(lambda: measure_here(Request.from_json(sys.stdin.read())))


if __name__ == "__main__":
    sys.exit(main())
