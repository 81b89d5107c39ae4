"""A small writer of inline SVG: elements, axes, ticks. Colours are CSS classes, so a page's themes apply."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup, escape


def element(tag: str, *content: object, **attributes: object) -> Markup:
    """One element; content and attribute values are escaped, `class_` is class, `text_anchor` text-anchor."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(escape(item) for item in content)
    return Markup(f"<{tag}{written}>{inside}</{tag}>")  # every part is escaped above


def _text(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A scale from values to pixels: `low` lies at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (
            (math.log(self.low), math.log(self.high), math.log(value))
            if self.logarithmic
            else (self.low, self.high, value)
        )
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """At most `most` round values inside the scale."""
        return _log_ticks(self.low, self.high, most) if self.logarithmic else self._linear_ticks(most)

    def _linear_ticks(self, most: int) -> list[float]:
        for step in _round_steps((self.high - self.low) / most):
            first = math.ceil(self.low / step - 1e-9)
            values = [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]
            if len(values) <= most:
                return values
        return []


def _round_steps(least: float) -> list[float]:
    power = 10.0 ** math.floor(math.log10(least))
    return [power * factor for factor in (1, 2, 2.5, 5, 10, 20, 50) if power * factor >= least * 0.999]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        values = [10.0**power * factor for power in powers for factor in factors if low <= 10.0**power * factor <= high]
        if len(values) <= most:
            return values
    return values[:: math.ceil(len(values) / most)]


def spread(values: list[float], *, margin: float = 0.08, at_least: float = 0.0) -> tuple[float, float]:
    """A range a little wider than the values, never empty."""
    low, high = min(values), max(values)
    widening = max((high - low) * margin, (at_least - (high - low)) / 2, 1e-9)
    return low - widening, high + widening


def frame(
    x: Axis,
    y: Axis,
    *,
    x_title: str,
    y_title: str,
    x_word: Callable[[float], str],
    y_word: Callable[[float], str],
) -> list[Markup]:
    """Grid lines, tick words and titles of a plot area; y.start is its bottom."""
    parts = []
    for value in y.ticks(6):
        height = y(value)
        parts.append(element("line", class_="grid", x1=x.start, x2=x.end, y1=height, y2=height))
        parts.append(element("text", y_word(value), class_="tick", x=x.start - 7, y=height + 4, text_anchor="end"))
    for value in x.ticks(max(3, int((x.end - x.start) / 70))):
        place = x(value)
        parts.append(element("line", class_="grid", x1=place, x2=place, y1=y.start, y2=y.end))
        parts.append(element("text", x_word(value), class_="tick", x=place, y=y.start + 18, text_anchor="middle"))
    parts.append(element("line", class_="axis", x1=x.start, x2=x.end, y1=y.start, y2=y.start))
    parts.append(element("text", x_title, class_="name", x=x.end, y=y.start + 36, text_anchor="end"))
    parts.append(element("text", y_title, class_="name", x=x.start, y=y.end - 12))
    return parts


def picture(width: float, height: float, label: str, parts: list[Markup], *, class_: str) -> Markup:
    """The svg element, as wide as its container and described to screen readers."""
    return element("svg", *parts, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label, class_=class_)
