"""Budgets refuse nonsense by the flag's name, and verdicts speak in the flags' units."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resfit.budget import Budget, Measurement
from resfit.errors import UsageError

FLAGS = {
    "latency_ms": "--latency-ms",
    "file_kb": "--file-kb",
    "memory_mb": "--memory-mb",
    "macs_m": "--macs-m",
    "energy_mj": "--energy-mj",
    "min_accuracy": "--min-accuracy",
}


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", FLAGS)
def test_limits_that_mean_nothing_name_their_flag(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"^{FLAGS[name]} is ") as caught:
        Budget.from_flags(**{name: value})
    assert FLAGS[name] in str(caught.value.hint)


@pytest.mark.parametrize(("value", "meant"), [(95, "did you mean 0.95?"), (1.5, "0.015"), (950, "0.9")])
def test_an_accuracy_in_percent_is_told_so(value: float, meant: str) -> None:
    with pytest.raises(UsageError, match="accuracies are fractions") as caught:
        Budget(min_accuracy=value)
    assert meant in str(caught.value.hint)


@pytest.mark.parametrize("value", ["5", True, [1.0]])
def test_limits_are_numbers(value: object) -> None:
    with pytest.raises(UsageError, match=r"--latency-ms is .*expected a number"):
        Budget(latency_ms=value)  # type: ignore[arg-type]


def test_only_set_limits_are_judged_in_the_units_of_the_flags() -> None:
    budget = Budget.from_flags(latency_ms=5, file_kb=300, min_accuracy=0.8, macs_m=50, memory_mb=100)
    assert budget.limits() == {
        "latency_ms": 5,
        "file_bytes": 300_000,
        "memory_bytes": 100e6,
        "macs": 50e6,
        "min_accuracy": 0.8,
    }
    measured = Measurement(
        latency_ms=4.3,
        file_bytes=300_001,
        macs=50_000_000,
        energy_mj=1e9,
        accuracy=0.8,
        basis={"latency_ms": "median of 100"},
    )
    verdicts = {verdict.name: verdict for verdict in budget.check(measured)}
    assert list(verdicts) == ["latency_ms", "file_kb", "memory_mb", "macs_m", "min_accuracy"]
    assert verdicts["file_kb"].to_dict() == {
        "name": "file_kb",
        "limit": 300.0,
        "measured": 300.001,
        "holds": False,
        "basis": "",
    }
    assert verdicts["latency_ms"].holds
    assert verdicts["latency_ms"].basis == "median of 100"
    assert verdicts["macs_m"].holds
    assert verdicts["min_accuracy"].holds
    assert (verdicts["memory_mb"].measured, verdicts["memory_mb"].holds) == (None, False)
    assert verdicts["memory_mb"].basis == "not measured"


def test_a_failed_measurement_does_not_hold() -> None:
    (verdict,) = Budget(latency_ms=5).check(Measurement(latency_ms=math.nan))
    assert not verdict.holds


def test_an_empty_budget_judges_nothing() -> None:
    assert Budget().limits() == {}
    assert Budget().check(Measurement(latency_ms=1)) == ()


@given(
    limit=st.floats(1e-6, 1e12),
    measured=st.floats(0, 1e12),
)
def test_an_upper_limit_holds_exactly_up_to_it(limit: float, measured: float) -> None:
    (verdict,) = Budget(latency_ms=limit).check(Measurement(latency_ms=measured))
    assert verdict.holds == (measured <= limit)


@given(file_kb=st.floats(1e-3, 1e9), accuracy=st.floats(1e-3, 1))
def test_flags_come_back(file_kb: float, accuracy: float) -> None:
    flags = Budget.from_flags(file_kb=file_kb, min_accuracy=accuracy).to_flags()
    assert flags == pytest.approx({"file_kb": file_kb, "min_accuracy": accuracy})
