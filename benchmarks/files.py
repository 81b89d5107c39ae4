"""What benchmarks measure of artifacts: accuracy in a new process, and times of several files turn about."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resfit.data.dataset import Splits
from resfit.measure.artifact import measure
from resfit.measure.proof import prove

TURNS = 5


def accuracy_of(file: Path, splits: Splits, *, engine: str = "onnxruntime") -> float:
    """Of the file, opened in a new process, on the test images."""
    assert splits.test is not None
    measured = prove(file, splits.test.images, splits.test.targets, engine=engine, quantities=()).measurement
    assert measured.accuracy is not None
    return measured.accuracy


def latencies(files: Mapping[str, Path], *, threads: int, engine: str = "onnxruntime") -> dict[str, Any]:
    """Milliseconds of one image, each in its own process: medians over turns; the first file's over the last one's."""
    rows: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(TURNS):
        for name, file in files.items():
            measured = measure(file, engine=engine, threads=threads, quantities=("latency_ms",)).latency_ms
            assert measured is not None
            rows[name].append(measured)
    first, *_, last = rows.values()
    ratios = [before / after for before, after in zip(first, last, strict=True)]
    return {
        **{name: statistics.median(values) for name, values in rows.items()},
        "ratio": statistics.median(ratios),
        "ratio_spread": [min(ratios), max(ratios)],
        "turns": rows,
        "threads": threads,
    }
