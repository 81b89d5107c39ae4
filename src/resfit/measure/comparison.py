"""Several artifacts, and other libraries' way of running the same network, timed against each other here."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, final

from resfit.errors import UsageError
from resfit.measure.artifact import percentile, request_for, run_child
from resfit.measure.energy import energy_meter
from resfit.measure.machine import usable_cores
from resfit.measure.peers import PeerRequest
from resfit.measure.request import Report

ROUNDS = 3


class Contestant(Protocol):
    """What takes part: how it is called in the table, and one measurement in a process of its own."""

    @property
    def engine(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def batch_size(self) -> int: ...

    def measure(self, threads: int | None) -> Report: ...


@final
@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An artifact file, the engine that runs it, and how many images a run has."""

    artifact: Path
    engine: str
    precision: str
    batch_size: int = 1

    def measure(self, threads: int | None) -> Report:
        """Latency, memory, and energy where there is a meter."""
        energy = ("energy_mj",) if _has_meter() else ()
        request = request_for(
            self.artifact,
            engine=self.engine,
            threads=threads,
            precision=self.precision,
            quantities=("latency_ms", "memory_bytes", *energy),
            batch_size=self.batch_size,
        )
        return run_child(request)


@final
@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another library running the network of this name, or this file, in its own way (see `measure.peers`)."""

    engine: str
    network: str
    num_classes: int
    artifact: Path
    image_shape: tuple[int, int, int]
    batch_size: int = 1
    precision: str = "own"

    def measure(self, threads: int | None) -> Report:
        """Latency and memory."""
        request = PeerRequest(
            peer=self.engine,
            network=self.network,
            num_classes=self.num_classes,
            artifact=str(self.artifact.resolve()),
            threads=threads or usable_cores(),
            image_shape=self.image_shape,
            batch_size=self.batch_size,
        )
        return run_child(request, "resfit.measure.peers")


@final
@dataclass(frozen=True, kw_only=True)
class _Timed:
    contestant: Contestant
    reports: list[Report] = field(default_factory=list)


def compare(contestants: Sequence[Contestant], *, threads: int | None = None) -> list[dict[str, Any]]:
    """A row for each contestant, in order: latency (p50, p99, quartiles, ms a run), images a second, memory, sizes.

    Each is measured in three processes of its own, with all others between them, so that a machine that slows
    down meanwhile slows all alike. ratio_to_best: latency over the lowest of the same batch size.
    latency_ms_rounds: the median of each process, in order. energy_mj is there where a meter is.
    """
    timed = [_Timed(contestant=contestant) for contestant in contestants]
    others_first = sorted(timed, key=lambda one: not isinstance(one.contestant, Peer))  # they may know no such network
    for _ in range(ROUNDS):
        for one in others_first:
            one.reports.append(one.contestant.measure(threads))
    rows = [_row(one) for one in timed]
    for row in rows:
        same = [other["latency_ms_p50"] for other in rows if other["batch_size"] == row["batch_size"]]
        row["ratio_to_best"] = row["latency_ms_p50"] / min(same)
    return rows


def _row(timed: _Timed) -> dict[str, Any]:
    reports, contestant = timed.reports, timed.contestant
    latencies = [value for report in reports for value in report.latencies_ms or ()]
    median = statistics.median(latencies)
    memory = [report.memory_bytes for report in reports if report.memory_bytes is not None]
    energy = [report.energy_mj for report in reports if report.energy_mj is not None]
    return {
        "engine": contestant.engine,
        "peer": isinstance(contestant, Peer),
        "precision": reports[0].precision or contestant.precision,
        "batch_size": contestant.batch_size,
        "threads": reports[0].threads,
        "runs": len(latencies),
        "latency_ms_p50": median,
        "latency_ms_p99": percentile(latencies, 99),
        "latency_ms_quartiles": [percentile(latencies, 25), percentile(latencies, 75)],
        "latency_ms_rounds": [statistics.median(report.latencies_ms or (median,)) for report in reports],
        "images_per_second": contestant.batch_size * 1000.0 / median,
        "load_ms": statistics.median(report.load_ms or 0.0 for report in reports),
        "memory_bytes": max(memory),
        "file_bytes": reports[0].file_bytes,
        **({"energy_mj": statistics.median(energy)} if energy else {}),
    }


def _has_meter() -> bool:
    try:
        energy_meter()
    except UsageError:
        return False
    return True
