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


def duration(seconds: float) -> str:
    """A time span in the two largest units that it has: 0.8 s, 47 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def exact(settings: Mapping[str, object]) -> dict[str, object]:
    """Settings by name with blanks for underscores; numbers keep every digit that was set."""
    return {name.replace("_", " "): _exact(value) for name, value in settings.items()}


OFF: tuple[object, ...] = (None, 0, "none", (), [], {})  # values that say that something is not done; False equals 0


def in_use(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that do something, as `exact` has them."""
    return exact({name: value for name, value in settings.items() if value not in OFF})


def _exact(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, Mapping):
        return exact(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_exact(item) for item in value]
    return value


def short_path(name: str) -> str:
    """The last folder and the file of a path."""
    parts = name.replace("\\", "/").rsplit("/", 2)
    return "/".join(parts[-2:])
