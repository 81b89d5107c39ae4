"""The proof of one artifact: reopened in a new process, everything measured on one file."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from resfit.budget import Measurement
from resfit.data.images import Images, save_images
from resfit.errors import DataError, EngineError
from resfit.measure.artifact import check_quantities, measurement, request_for, run_child
from resfit.measure.energy import POWERCAP


@final
@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was proven of one file: costs and accuracy, the logits (N, classes), and the one sha256."""

    measurement: Measurement
    logits: np.ndarray
    sha256: str


def prove(
    artifact: str | Path,
    images: Images,
    labels: np.ndarray,
    *,
    engine: str = "onnxruntime",
    threads: int | None = None,
    quantities: Sequence[str] = ("latency_ms", "file_bytes", "memory_bytes"),
    powercap: Path = POWERCAP,
) -> Proof:
    """Accuracy on `images` (uint8 NHWC) and every quantity, in new processes that only have the file.

    One process measures latency, energy and accuracy; memory is measured in another, which loads no images.
    EngineError if the file was not one and the same, by sha256, before and after each.
    """
    check_quantities(quantities, powercap)
    if not len(images) or len(images) != len(labels):
        raise DataError(f"a proof needs as many labels as images, and at least one: {len(images)}, {len(labels)}")
    alone = [name for name in quantities if name == "memory_bytes"]
    together = [name for name in quantities if name != "memory_bytes"]
    with tempfile.TemporaryDirectory(prefix="resfit-proof-") as folder:
        inside = Path(folder)
        save_images(inside / "images.npy", images)
        np.save(inside / "labels.npy", np.asarray(labels, dtype=np.int64))
        request = request_for(
            artifact,
            engine=engine,
            threads=threads,
            quantities=together,
            images=str(inside / "images.npy"),
            labels=str(inside / "labels.npy"),
            logits=str(inside / "logits.npy"),
            powercap=str(powercap),
        )
        report = run_child(request)
        logits = np.load(inside / "logits.npy")
    memory_report = None
    if alone:
        memory_report = run_child(request_for(artifact, engine=engine, threads=threads, quantities=alone))
        if memory_report.sha256_before != report.sha256_before:
            raise EngineError(f"{artifact} changed while it was measured")
    measured = measurement(
        artifact,
        quantities,
        report,
        memory_report=memory_report,
        accuracy_basis=f"{len(images)} images, {report.engine}, in a new process that opened the file",
    )
    return Proof(measurement=measured, logits=logits, sha256=report.sha256_before)
