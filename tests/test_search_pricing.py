"""The ladder and what its networks cost."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resfit.budget import Budget, Measurement
from resfit.data.preprocessing import Preprocessing
from resfit.measure.macs import macs
from resfit.search.ladder import Candidate, candidates
from resfit.search.pricing import (
    Point,
    Pricing,
    binding_budgets,
    nearest_points,
    price_all,
    quantities_for,
    spread_order,
)

SHAPE = Preprocessing(height=16, width=16, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
LABELS = ("a", "b", "c")


@pytest.mark.parametrize("side", [8, 16, 32, 40, 64, 80, 128, 224])
def test_a_ladder_has_a_dozen_networks_of_rising_cost(side: int) -> None:
    ladder = candidates(side, side, channels=3, num_classes=5)
    assert len(ladder) >= 12
    assert len({candidate.name for candidate in ladder}) == len(ladder)
    costs = [macs(candidate.spec, side, side) for candidate in ladder]
    assert costs[-1] > 100 * costs[0]
    assert sum(after < before for before, after in itertools.pairwise(costs)) <= len(costs) // 3


@given(st.integers(0, 60))
def test_spread_order_visits_all_once_ends_first(count: int) -> None:
    order = spread_order(count)
    assert sorted(order) == list(range(count))
    assert set(order[:2]) == {0, max(count - 1, 0)} or count == 0


def pricing(budget: Budget, folder: Path) -> Pricing:
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    return Pricing(
        budget=budget,
        preprocessing=SHAPE,
        labels=LABELS,
        images=images,
        engine="onnxruntime",
        threads=1,
        folder=folder,
        quantities=quantities_for(budget),
    )


def small() -> Candidate:
    return candidates(16, 16, channels=3, num_classes=3)[0]


def test_float32_that_fits_is_the_only_point(tmp_path: Path) -> None:
    (point,) = pricing(Budget(latency_ms=1e4, file_bytes=1e9), tmp_path).price(small())
    assert point.fits
    assert point.precision == "fp32"
    assert point.measurement.file_bytes == (tmp_path / f"{point.candidate.name}-fp32.onnx").stat().st_size
    assert point.measurement.latency_ms is not None


def test_int8_is_tried_where_float32_is_too_large(tmp_path: Path) -> None:
    candidate = candidates(16, 16, channels=3, num_classes=3)[4]
    full = pricing(Budget(file_bytes=1e9), tmp_path).price(candidate)[0].measurement.file_bytes
    assert full is not None
    points = pricing(Budget(file_bytes=full * 0.6), tmp_path).price(candidate)
    assert [point.precision for point in points] == ["fp32", "int8"]
    assert points[0].reason.startswith("file_kb")
    assert points[0].measurement.latency_ms is None
    assert points[1].fits or "slower" in points[1].reason
    assert points[1].measurement.latency_ms is not None


def test_what_time_leaves_out_says_so(tmp_path: Path) -> None:
    ladder = candidates(16, 16, channels=3, num_classes=3)[:4]
    points = price_all(pricing(Budget(), tmp_path), ladder, deadline=time.monotonic() - 1)
    assert [point.candidate.name for point in points] == [candidate.name for candidate in ladder]
    assert points[0].fits
    assert all("no time" in point.reason for point in points[1:])


def point(**measured: float) -> Point:
    return Point(candidate=small(), precision="fp32", measurement=Measurement(**measured), reason="over")


def test_binding_is_what_no_point_keeps() -> None:
    points = [point(latency_ms=1.0, file_bytes=9000), point(latency_ms=4.0, file_bytes=5000)]
    assert binding_budgets(points, Budget(latency_ms=2, file_bytes=1000)) == ["file_kb"]
    assert binding_budgets(points, Budget(latency_ms=2, file_bytes=6000)) == ["latency_ms", "file_kb"]


def test_nearest_misses_by_the_smallest_factor_first() -> None:
    points = [point(file_bytes=9000), point(file_bytes=3000), point(file_bytes=5000)]
    assert [row["file_kb"] for row in nearest_points(points, Budget(file_bytes=1000), 2)] == [3.0, 5.0]
