"""Energy from the processor's own counters (RAPL), as Linux shows them under powercap."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from resfit.errors import UsageError

POWERCAP = Path("/sys/class/powercap")


@final
@dataclass(frozen=True, kw_only=True)
class EnergyMeter:
    """Counters of whole processor packages, idle power included; each wraps around at its own range.

    counters: the `energy_uj` files; ranges: microjoules after which each starts at 0 again.
    """

    counters: tuple[Path, ...]
    ranges: tuple[int, ...]

    def read(self) -> tuple[int, ...]:
        """Microjoules on every counter now."""
        return tuple(int(counter.read_text()) for counter in self.counters)

    def millijoules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Spent between two readings that are less than one turn of a counter apart."""
        spent = 0
        for start, end, span in zip(before, after, self.ranges, strict=True):
            spent += end - start if end >= start else end - start + span
        return spent / 1000.0


def energy_meter(powercap: Path = POWERCAP) -> EnergyMeter:
    """The machine's meter; UsageError where it has none, or none that may be read.

    Only package zones (`intel-rapl:0`, named package-0) are added up: their parts (`intel-rapl:0:0`) are
    counted in them already, and a psys zone counts the packages again.
    """
    counters: list[Path] = []
    ranges: list[int] = []
    unreadable: list[Path] = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        if zone.name.count(":") != 1:
            continue
        try:
            if not (zone / "name").read_text().strip().startswith("package"):
                continue
            span = int((zone / "max_energy_range_uj").read_text())
            int((zone / "energy_uj").read_text())
        except (OSError, ValueError):
            unreadable.append(zone / "energy_uj")
            continue
        counters.append(zone / "energy_uj")
        ranges.append(span)
    if unreadable:
        raise UsageError(
            f"the energy meter {unreadable[0]} cannot be read",
            hint="the counters are readable by root alone on most systems: grant read access, or leave "
            "the energy budget out",
        )
    if not counters:
        raise UsageError(
            f"this machine has no energy meter (no package counter under {powercap})",
            hint="leave the energy budget out; an estimate will be given only when asked for by name",
        )
    return EnergyMeter(counters=tuple(counters), ranges=tuple(ranges))
