"""The energy meter, on a made-up powercap tree."""

from pathlib import Path

import pytest

from resfit.errors import UsageError
from resfit.measure.energy import energy_meter


def add_zone(powercap: Path, zone: str, *, name: str, microjoules: int, span: int = 1_000_000) -> Path:
    folder = powercap / zone
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{span}\n")
    return folder


def test_packages_are_added_up_and_their_parts_and_psys_are_not(tmp_path):
    add_zone(tmp_path, "intel-rapl:0", name="package-0", microjoules=10)
    add_zone(tmp_path, "intel-rapl:0:0", name="core", microjoules=20)
    add_zone(tmp_path, "intel-rapl:1", name="package-1", microjoules=30)
    add_zone(tmp_path, "intel-rapl:2", name="psys", microjoules=40)
    assert energy_meter(tmp_path).read() == (10, 30)


def test_millijoules_survive_a_counter_that_wraps_around(tmp_path):
    first = add_zone(tmp_path, "intel-rapl:0", name="package-0", microjoules=999_000)
    second = add_zone(tmp_path, "intel-rapl:1", name="package-1", microjoules=5_000, span=2_000_000)
    meter = energy_meter(tmp_path)
    before = meter.read()
    (first / "energy_uj").write_text("1500\n")
    (second / "energy_uj").write_text("9000\n")
    assert meter.millijoules(before, meter.read()) == pytest.approx(2.5 + 4.0)


def test_a_machine_without_a_meter_is_a_usage_error_with_the_way_out(tmp_path):
    with pytest.raises(UsageError, match="this machine has no energy meter") as caught:
        energy_meter(tmp_path)
    assert "estimate" in caught.value.hint


def test_a_counter_that_cannot_be_read_is_named(tmp_path):
    zone = add_zone(tmp_path, "intel-rapl:0", name="package-0", microjoules=1)
    (zone / "energy_uj").unlink()
    with pytest.raises(UsageError, match=r"intel-rapl:0/energy_uj cannot be read"):
        energy_meter(tmp_path)
