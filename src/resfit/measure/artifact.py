"""What an artifact costs, measured in a process of its own that does nothing else."""

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from resfit.budget import Measurement
from resfit.engines.artifact import ENGINES, artifact_bytes, describe
from resfit.errors import DataError, EngineError, ModelError, ResfitError, UsageError, nearest
from resfit.measure.energy import POWERCAP, energy_meter
from resfit.measure.macs import macs
from resfit.measure.request import MEASURED_IN_CHILD, Report, Request

QUANTITIES = ("latency_ms", "file_bytes", "memory_bytes", "macs", "energy_mj")
TIMEOUT_SECONDS = 600
NOISY_SPREAD = 0.1


class MeasuringRequest(Protocol):
    """What a measuring process is asked, as it reads it."""

    @property
    def artifact(self) -> str: ...

    def to_json(self) -> str: ...


_ERRORS: dict[str, type[ResfitError]] = {kind.code: kind for kind in (UsageError, DataError, ModelError, EngineError)}


def measure(
    artifact: str | Path,
    *,
    engine: str = "onnxruntime",
    threads: int | None = None,
    quantities: Sequence[str] = ("latency_ms", "file_bytes", "memory_bytes"),
    images: str | Path | None = None,
    warmup: int = 5,
    repeats: int = 50,
    powercap: Path = POWERCAP,
) -> Measurement:
    """The quantities of one artifact file, each with its basis: how it was measured.

    quantities: of latency_ms, file_bytes, memory_bytes, macs, energy_mj; the rest stay None.
    images: a .npy file of uint8 NHWC images to time on; without it, random ones.
    Latency is the median of at least `repeats` warm single-image runs and at least 0.3 s of them.
    EngineError when the engine cannot open or run the file, UsageError for an unknown quantity or for energy
    on a machine without a meter.
    """
    check_quantities(quantities, powercap)
    request = request_for(
        artifact,
        engine=engine,
        threads=threads,
        quantities=quantities,
        images=None if images is None else os.fspath(images),
        warmup=warmup,
        repeats=repeats,
        powercap=os.fspath(powercap),
    )
    report = run_child(request) if request.quantities else None
    return measurement(artifact, quantities, report)


def check_quantities(quantities: Sequence[str], powercap: Path = POWERCAP) -> None:
    """UsageError for an unknown quantity, and for energy where nothing measures it."""
    for name in quantities:
        if name not in QUANTITIES:
            raise UsageError(f"{name!r} is not a quantity that can be measured", hint=nearest(name, QUANTITIES))
    if "energy_mj" in quantities:
        energy_meter(powercap)


def request_for(
    artifact: str | Path,
    *,
    engine: str,
    threads: int | None,
    quantities: Sequence[str],
    precision: str | None = None,
    batch_size: int = 1,
    images: str | None = None,
    labels: str | None = None,
    logits: str | None = None,
    warmup: int = 5,
    repeats: int = 50,
    powercap: str | None = None,
) -> Request:
    """The request for one measuring process; reads the image size from the artifact's metadata."""
    if engine not in ENGINES:
        raise UsageError(f"there is no engine {engine!r}", hint=nearest(engine, ENGINES))
    preprocessing = describe(artifact).preprocessing
    return Request(
        artifact=os.fspath(Path(artifact).resolve()),
        engine=engine,
        threads=threads,
        precision=precision,
        image_shape=(preprocessing.height, preprocessing.width, preprocessing.channels),
        quantities=tuple(name for name in quantities if name in MEASURED_IN_CHILD),
        batch_size=batch_size,
        images=images,
        labels=labels,
        logits=logits,
        warmup=warmup,
        repeats=repeats,
        powercap=powercap,
    )


def run_child(request: MeasuringRequest, module: str = "resfit.measure.child") -> Report:
    """Run one measuring process; its errors are raised here, a crash or a changed file is an EngineError."""
    # -P keeps the user's working folder, and whatever numpy.py lies in it, off the child's import path.
    command = [sys.executable, "-P", "-m", module]
    try:
        done = subprocess.run(
            command,
            input=request.to_json(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"measuring {request.artifact} took more than {TIMEOUT_SECONDS} s") from error
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise EngineError(f"the process measuring {request.artifact} {_end(done.returncode, done.stderr)}") from None
    if "error" in answer:
        kind = _ERRORS.get(answer["error"]["code"], EngineError)
        raise kind(answer["error"]["message"], hint=answer["error"]["hint"])
    report = Report.from_dict(answer)
    if report.sha256_before != report.sha256_after:
        raise EngineError(f"{request.artifact} changed while it was measured")
    return report


def measurement(
    artifact: str | Path,
    quantities: Sequence[str],
    report: Report | None,
    *,
    memory_report: Report | None = None,
    accuracy_basis: str | None = None,
) -> Measurement:
    """A child's report as a Measurement: the asked quantities, and a basis sentence for each.

    memory_report: the report of the process that measured memory, where that was another one.
    """
    values: dict[str, Any] = dict.fromkeys((*QUANTITIES, "accuracy"))
    basis: dict[str, str] = {}
    for name in quantities:
        value, sentence = _quantity(name, artifact, (memory_report or report) if name == "memory_bytes" else report)
        values[name], basis[name] = value, sentence
    if report is not None and report.accuracy is not None and accuracy_basis is not None:
        values["accuracy"], basis["accuracy"] = report.accuracy, accuracy_basis
    return Measurement(**values, basis=basis)


def _quantity(name: str, artifact: str | Path, report: Report | None) -> tuple[float | int | None, str]:
    if name == "file_bytes":
        return artifact_bytes(artifact), "size of the artifact file"
    if name == "macs":
        described = describe(artifact)
        height, width = described.preprocessing.height, described.preprocessing.width
        return macs(described.spec, height, width), f"counted, convolutions and classifier at {height} x {width}"
    assert report is not None
    through = f"{report.engine}, {_threads(report.threads)}, own process"
    if name == "latency_ms":
        runs = report.latencies_ms or ()
        sentence = (
            f"median of {len(runs)} warm single-image runs, uint8 image to probabilities "
            f"(p99 {percentile(runs, 99):.3g} ms{_noise(runs)}); {through}"
        )
        return statistics.median(runs), sentence
    if name == "memory_bytes":
        return (
            report.memory_bytes,
            f"peak (VmHWM) once opened and run, less that with the engine idle; {through}",
        )
    sentence = f"processor package counters over {report.energy_images} images, idle power included; {through}"
    return report.energy_mj, sentence


def _noise(runs: Sequence[float]) -> str:
    """A warning when the middle half of the runs spreads by more than a tenth of their median."""
    spread = (percentile(runs, 75) - percentile(runs, 25)) / statistics.median(runs)
    return f", a busy machine: the middle half spreads over {spread:.0%} of it" if spread > NOISY_SPREAD else ""


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def _threads(count: int | None) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _end(code: int, stderr: str) -> str:
    lines = stderr.strip().splitlines()
    if code < 0:
        name = signal.Signals(-code).name
        return f"was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"failed: {lines[-1] if lines else f'exit code {code}'}"
