"""What each candidate costs, untrained, as the file and through the engine that would serve it."""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from resfit.budget import Budget, Measurement
from resfit.compression.quantise import quantise
from resfit.data.preprocessing import Preprocessing
from resfit.engines.artifact import build
from resfit.measure.artifact import measure
from resfit.measure.macs import macs
from resfit.model.load import untrained
from resfit.model.model import Model
from resfit.search.ladder import Candidate

HEADROOM = {"latency_ms": 0.92, "memory_bytes": 0.95, "energy_mj": 0.92}  # of limits measured with noise
SAME_SPEED = 1.03  # medians this close are one speed
CALIBRATION_IMAGES = 32  # timing alone depends on them, and not much


@dataclass(frozen=True, kw_only=True)
class Point:
    """A candidate at a precision: what was measured of its untrained artifact, and why it is out, if it is.

    close: out only because a measured limit holds without headroom for noise.
    """

    candidate: Candidate
    precision: str
    measurement: Measurement
    reason: str = ""
    close: bool = False

    @property
    def fits(self) -> bool:
        """Whether it can meet every budget but that of accuracy."""
        return not self.reason


@dataclass(frozen=True, kw_only=True)
class Pricing:
    """How candidates are measured: engine and threads that will serve, images to calibrate on."""

    budget: Budget
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    images: np.ndarray
    engine: str
    threads: int
    folder: Path
    quantities: tuple[str, ...]

    def price(self, candidate: Candidate) -> tuple[Point, ...]:
        """The candidate's points: in float32, and in int8 where float32 does not fit.

        int8 is out where it is slower than float32: it is stored only where it serves.
        """
        model = self._untrained(candidate)
        full = self._point(candidate, model, "fp32")
        if full.fits:
            return (full,)
        small = self._point(candidate, quantise(model, self.images), "int8")
        if not small.fits:
            return (full, small)
        slow = full.measurement.latency_ms
        if slow is None:
            slow = measure(
                self._path(candidate, "fp32"),
                engine=self.engine,
                threads=self.threads,
                quantities=("latency_ms",),
            ).latency_ms
        fast = small.measurement.latency_ms
        if slow is not None and fast is not None and fast > slow * SAME_SPEED:
            reason = f"int8 is slower than float32 ({fast:.3g} and {slow:.3g} ms), which does not fit"
            small = dataclasses.replace(small, reason=reason, close=False)
        return (full, small)

    def unpriced(self, candidate: Candidate) -> Point:
        """A candidate that the time left unmeasured: out, with its MACs alone."""
        count = macs(candidate.spec, self.preprocessing.height, self.preprocessing.width)
        return Point(
            candidate=candidate, precision="fp32", measurement=Measurement(macs=count),
            reason="not measured: no time was left",
        )  # fmt: skip

    def _untrained(self, candidate: Candidate) -> Model:
        return untrained(candidate.spec, preprocessing=self.preprocessing, labels=self.labels, source=candidate.name)

    def _path(self, candidate: Candidate, precision: str) -> Path:
        return self.folder / f"{candidate.name}-{precision}.onnx"

    def _point(self, candidate: Candidate, model: Model, precision: str) -> Point:
        artifact = build(model, self._path(candidate, precision), precision=precision)
        count = macs(candidate.spec, self.preprocessing.height, self.preprocessing.width)
        known = Measurement(
            file_bytes=artifact.file_bytes,
            macs=count,
            basis={"file_bytes": "size of the file", "macs": "counted from the network's layout"},
        )
        if not _excess(self.budget, known):
            known = measure(artifact.path, engine=self.engine, threads=self.threads, quantities=self.quantities)
        return Point(
            candidate=candidate,
            precision=precision,
            measurement=known,
            reason=_excess(self.budget, known, HEADROOM),
            close=not _excess(self.budget, known),
        )


def quantities_for(budget: Budget) -> tuple[str, ...]:
    """What is measured of each artifact: latency, size and MACs always, the rest where it is budgeted."""
    limits = budget.limits()
    optional = tuple(name for name in ("memory_bytes", "energy_mj") if name in limits)
    return ("latency_ms", "file_bytes", "macs", *optional)


def price_all(pricing: Pricing, ladder: Sequence[Candidate], *, deadline: float) -> tuple[Point, ...]:
    """The points of a ladder, in its order.

    Candidates are taken spread over the ladder, and finer and finer, so that what is known when the deadline (a
    time of time.monotonic()) comes still reaches from tiny to large; those it leaves out say so.
    """
    found: dict[str, tuple[Point, ...]] = {}
    for number in spread_order(len(ladder)):
        candidate = ladder[number]
        late = found and time.monotonic() > deadline
        found[candidate.name] = (pricing.unpriced(candidate),) if late else pricing.price(candidate)
    return tuple(point for candidate in ladder for point in found[candidate.name])


def spread_order(count: int) -> list[int]:
    """0 .. count - 1, both ends first, then every gap's middle, the widest gaps first."""
    order = [0, count - 1][: max(count, 0)] if count > 1 else list(range(count))
    gaps = [(0, count - 1)]
    while gaps:
        low, high = gaps.pop(0)
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return order


def nearest_points(points: Iterable[Point], budget: Budget, count: int = 3) -> list[dict[str, Any]]:
    """The points that miss the budgets by the smallest factor, best first, with what each costs."""

    def excess(point: Point) -> float:
        ratios = [
            verdict.measured / verdict.limit
            for verdict in budget.check(point.measurement)
            if verdict.measured is not None
        ]
        return max(ratios, default=0.0)

    measured = [point for point in points if point.measurement.file_bytes is not None]
    return [describe(point) for point in sorted(measured, key=excess)[:count]]


def binding_budgets(points: Iterable[Point], budget: Budget) -> list[str]:
    """The budgets that stand in the way: those no point keeps, else those of the nearest point."""
    points = list(points)
    verdicts = [
        {v.name: v.holds for v in budget.check(point.measurement) if v.measured is not None} for point in points
    ]
    names = [name for name in budget.to_flags() if name != "min_accuracy"]
    alone = [name for name in names if not any(row.get(name, False) for row in verdicts)]
    known_alone = [name for name in alone if any(name in row for row in verdicts)]
    if known_alone:
        return known_alone
    return [name for name in names if any(row.get(name) is False for row in verdicts)]


def describe(point: Point) -> dict[str, Any]:
    """A point as plain data, in the units of the flags."""
    measured = point.measurement
    return {
        "network": point.candidate.name,
        "precision": point.precision,
        "latency_ms": measured.latency_ms,
        "file_kb": None if measured.file_bytes is None else measured.file_bytes / 1000,
        "memory_mb": None if measured.memory_bytes is None else measured.memory_bytes / 1e6,
        "macs_m": None if measured.macs is None else measured.macs / 1e6,
        "energy_mj": measured.energy_mj,
    }


def _excess(budget: Budget, measured: Measurement, headroom: Mapping[str, float] = MappingProxyType({})) -> str:
    """A phrase for each limit, times its headroom, that is known to be missed; empty where none is."""
    limits = {name: limit * headroom.get(name, 1.0) for name, limit in budget.limits().items()}
    stated = budget.to_flags()
    return ", ".join(
        f"{verdict.name} {verdict.measured:.3g} over {stated[verdict.name]:g}"
        for verdict in Budget(**limits).check(measured)
        if verdict.measured is not None and not verdict.holds
    )
