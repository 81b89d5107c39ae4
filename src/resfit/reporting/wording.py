"""Numbers as a reader wants them: few digits, a unit, no false precision."""

from collections.abc import Mapping, Sequence

BUDGET_NAMES = {
    "latency_ms": "latency",
    "file_kb": "file size",
    "memory_mb": "memory",
    "macs_m": "multiply-accumulates",
    "energy_mj": "energy an image",
    "min_accuracy": "accuracy, at least",
}
_UNITS = {"latency_ms": "ms", "file_kb": "kB", "memory_mb": "MB", "macs_m": "M", "energy_mj": "mJ"}


def number(value: float) -> str:
    """At least three significant digits, thousands separated: 0.0123, 4.31, 287.4, 25,557."""
    size = abs(value)
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.1f}"
    if size >= 0.1:
        return f"{value:.2f}"
    return f"{value:.3g}"


def percent(fraction: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * fraction:.1f} %"


def size(num_bytes: float) -> str:
    """Bytes as kB (1,000 bytes) or MB."""
    if num_bytes >= 1e6:
        return f"{num_bytes / 1e6:.2f} MB"
    return f"{num_bytes / 1e3:.1f} kB"


def quantity(name: str, value: float | None) -> str:
    """A budgeted quantity in the unit that its name carries; an accuracy is a percentage."""
    if value is None:
        return "not measured"
    if name == "min_accuracy":
        return percent(value)
    unit = _UNITS.get(name)
    return f"{number(value)} {unit}" if unit else number(value)


def plain(value: object) -> str:
    """Any fact of a provenance table as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(item)}" for name, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain(item) for item in value)
    return str(value)
