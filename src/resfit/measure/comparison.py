"""Several artifacts timed against each other on this machine."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from resfit.measure.artifact import percentile, request_for, run_child
from resfit.measure.request import Report

ROUNDS = 2


@final
@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An artifact file, the engine that runs it, and how many images a run has."""

    artifact: Path
    engine: str
    precision: str
    batch_size: int = 1


@final
@dataclass(frozen=True, kw_only=True)
class _Timed:
    candidate: Candidate
    reports: list[Report] = field(default_factory=list)


def compare(candidates: Sequence[Candidate], *, threads: int | None = None) -> list[dict[str, Any]]:
    """A row for each candidate, in order: latency (p50, p99, ms a run), images a second, memory, file size.

    Each is measured in two processes of its own, with all others between the two, so that a machine that
    slows down meanwhile slows all alike. ratio_to_best: latency over the lowest of the same batch size.
    """
    timed = [_Timed(candidate=candidate) for candidate in candidates]
    for _ in range(ROUNDS):
        for one in timed:
            request = request_for(
                one.candidate.artifact,
                engine=one.candidate.engine,
                threads=threads,
                quantities=("latency_ms", "memory_bytes"),
                batch_size=one.candidate.batch_size,
            )
            one.reports.append(run_child(request))
    rows = [_row(one) for one in timed]
    for row in rows:
        same = [other["latency_ms_p50"] for other in rows if other["batch_size"] == row["batch_size"]]
        row["ratio_to_best"] = row["latency_ms_p50"] / min(same)
    return rows


def _row(timed: _Timed) -> dict[str, Any]:
    latencies = [value for report in timed.reports for value in report.latencies_ms or ()]
    median = statistics.median(latencies)
    memory = [report.memory_bytes for report in timed.reports if report.memory_bytes is not None]
    return {
        "engine": timed.candidate.engine,
        "precision": timed.candidate.precision,
        "batch_size": timed.candidate.batch_size,
        "threads": timed.reports[0].threads,
        "runs": len(latencies),
        "latency_ms_p50": median,
        "latency_ms_p99": percentile(latencies, 99),
        "images_per_second": timed.candidate.batch_size * 1000.0 / median,
        "memory_bytes": max(memory),
        "file_bytes": timed.reports[0].file_bytes,
    }
