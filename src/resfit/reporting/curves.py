"""Curves over the epochs, of one training or of several in the same axes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from resfit.reporting.charts import SHAPES, axis_number, axis_percent, both
from resfit.reporting.content import Epoch
from resfit.reporting.svg import Axis, element, frame, picture, spread

PANEL_HEIGHT = 232  # pixels, titles and ticks included
LETTER = 6.9  # average width of a letter of a legend


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line: its style's class, its name in the legend, and points (epoch, value)."""

    style: str
    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes; floor: the least value that can be, so that no axis goes below it."""

    title: str
    series: tuple[Series, ...]
    word: Callable[[float], str] = axis_number
    floor: float = 0.0
    legend: bool = False


def training_picture(curve: Sequence[Epoch]) -> Markup | None:
    """Validation accuracy, losses, learning rate and speed of one training; None for fewer than two epochs."""
    panels = [
        _panel("validation accuracy", {"": ("validation", "validation_accuracy", curve)}, word=axis_percent),
        _panel(
            "loss",
            {"validation": ("validation", "validation_loss", curve), "training": ("training", "loss", curve)},
            legend=True,
        ),
        _panel("learning rate", {"": ("rate", "lr", curve)}),
        _panel("training images a second", {"": ("rate", "images_per_second", curve)}),
    ]
    return _drawn(panels, "Training curves")


def comparison_picture(curves: Mapping[str, Sequence[Epoch]]) -> Markup | None:
    """The same panels for several trainings, by name, a colour each in their order."""

    def lines(field: str) -> dict[str, tuple[str, str, Sequence[Epoch]]]:
        return {name: (f"run{index}", field, curve) for index, (name, curve) in enumerate(curves.items())}

    panels = [
        _panel("validation accuracy", lines("validation_accuracy"), word=axis_percent),
        _panel("validation loss", lines("validation_loss")),
        _panel("training loss", lines("loss")),
        _panel("learning rate", lines("lr")),
    ]
    return _drawn(panels, "Training curves, compared")


def _panel(
    title: str,
    lines: Mapping[str, tuple[str, str, Sequence[Epoch]]],
    *,
    word: Callable[[float], str] = axis_number,
    legend: bool = False,
) -> Panel:
    series = []
    for name, (style, field, curve) in lines.items():
        found = [(float(item.epoch), getattr(item, field)) for item in curve]
        points = tuple((epoch, value) for epoch, value in found if value is not None and math.isfinite(value))
        if len(points) > 1:
            series.append(Series(style=style, name=name, points=points))
    return Panel(title=title, series=tuple(series), word=word, legend=legend and len(series) > 1)


def _drawn(panels: Sequence[Panel], label: str) -> Markup | None:
    filled = [panel for panel in panels if panel.series]
    if not filled:
        return None

    def draw(shape: str) -> Markup:
        width, _ = SHAPES[shape]
        columns = 2 if shape == "wide" and len(filled) > 1 else 1
        parts: list[Markup] = []
        for index, panel in enumerate(filled):
            row, column = divmod(index, columns)
            left = column * width / columns
            parts += _panel_parts(panel, left, left + width / columns, row * PANEL_HEIGHT)
        height = math.ceil(len(filled) / columns) * PANEL_HEIGHT
        return picture(width, height, label, parts, class_=f"plot {shape}")

    return both(draw)


def _panel_parts(panel: Panel, left: float, right: float, top: float) -> list[Markup]:
    epochs = [epoch for series in panel.series for epoch, _ in series.points]
    values = [value for series in panel.series for _, value in series.points]
    low, high = spread(values, at_least=0.01 * (max(map(abs, values)) or 1.0))
    x = Axis(low=min(epochs), high=max(epochs), start=left + 52, end=right - 12)
    y = Axis(low=max(low, panel.floor - 0.02 * (high - low)), high=high, start=top + 188, end=top + 36)
    parts = frame(x, y, x_title="epoch", y_title=panel.title, x_word=axis_number, y_word=panel.word)
    for series in reversed(panel.series):  # the first on top
        path = " ".join(f"{x(epoch):.1f},{y(value):.1f}" for epoch, value in series.points)
        title = element("title", series.name) if series.name else ""
        parts.append(element("polyline", title, class_=f"curve {series.style}", points=path))
    return parts + (_legend(panel, x.end, y.end - 12) if panel.legend else [])


def _legend(panel: Panel, end: float, height: float) -> list[Markup]:
    """Names with a piece of their line, right-aligned in the panel's title line."""
    parts = []
    for series in reversed(panel.series):
        start = end - LETTER * len(series.name)
        parts.append(element("text", series.name, class_="key", x=end, y=height, text_anchor="end"))
        line = {"x1": start - 24, "x2": start - 6, "y1": height - 4, "y2": height - 4}
        parts.append(element("line", class_=f"curve {series.style}", **line))
        end = start - 38
    return parts
