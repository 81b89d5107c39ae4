"""The rows of a benchmark as one picture: images a second, their spread, and what the machine allows."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from resfit.reporting.svg import Axis, element, picture
from resfit.reporting.wording import number

WIDTH, ROW_HEIGHT, TOP, LABELS = 880, 30, 58, 190
NUMBER_WIDTH = 50
STYLE = """
svg { font: 13px system-ui, sans-serif; background: #fff; color: #222 }
text { fill: currentColor } .tick, .name { fill: #666 } .grid { stroke: #ddd }
.own { fill: #2f6f9f } .other { fill: #b9bec4 } .spread { stroke: #111; stroke-width: 1.5 }
.limit { stroke: #c2410c; stroke-width: 2 } .limit-name { fill: #c2410c }
@media (prefers-color-scheme: dark) {
  svg { background: #16181c; color: #e6e6e6 } .grid { stroke: #333 } .tick, .name { fill: #aaa }
  .own { fill: #6bb1e0 } .other { fill: #5b6168 } .spread { stroke: #fff }
  .limit { stroke: #fb923c } .limit-name { fill: #fb923c }
}
"""


def benchmark_plot(rows: Sequence[dict[str, Any]], *, title: str) -> str:
    """A standalone SVG file's text: a bar a row, its middle half as a whisker, a mark at the roofline.

    rows: as `measure.comparison.compare` gives them, with `roofline_ms` where that is known.
    """
    limits = [row["batch_size"] * 1000 / row["roofline_ms"] for row in rows if row.get("roofline_ms")]
    most = max([*(row["images_per_second"] for row in rows), *limits])
    x = Axis(low=0.0, high=most * 1.08, start=LABELS, end=WIDTH - 70)
    height = TOP + ROW_HEIGHT * len(rows) + 40
    parts: list[Markup] = [element("style", Markup(STYLE))]
    parts.append(element("text", title, x=12, y=24, font_size=16, font_weight="bold"))
    parts.append(element("text", "images a second; whisker: middle half of all runs", class_="name", x=12, y=44))
    if limits:
        parts.append(element("text", "| most this machine allows", class_="limit-name", x=340, y=44))
    for value in x.ticks(7):
        parts.append(element("line", class_="grid", x1=x(value), x2=x(value), y1=TOP, y2=height - 34))
        parts.append(element("text", f"{value:g}", class_="tick", x=x(value), y=height - 16, text_anchor="middle"))
    for index, row in enumerate(rows):
        parts += _bar(x, TOP + ROW_HEIGHT * index + ROW_HEIGHT / 2, row)
    drawn = picture(WIDTH, height, title, parts, class_="benchmark")
    return str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def _bar(x: Axis, middle: float, row: dict[str, Any]) -> list[Markup]:
    size = row["batch_size"]
    label = f"{row['engine']} {row['precision']}, batch {size}"
    class_ = "other" if row.get("peer") else "own"
    speed = row["images_per_second"]
    parts = [
        element("text", label, x=LABELS - 8, y=middle + 4, text_anchor="end"),
        element("rect", class_=class_, x=x.start, y=middle - 9, width=max(1.0, x(speed) - x.start), height=18),
    ]
    ends = [speed]
    if row.get("latency_ms_quartiles"):
        ends = [size * 1000 / latency for latency in row["latency_ms_quartiles"]]
        low, high = (x(min(value, x.high)) for value in ends)
        parts.append(element("line", class_="spread", x1=low, x2=high, y1=middle, y2=middle))
    end = x(min(max(speed, *ends), x.high))
    if row.get("roofline_ms"):
        place = x(size * 1000 / row["roofline_ms"])
        parts.append(element("line", class_="limit", x1=place, x2=place, y1=middle - 12, y2=middle + 12))
        if end <= place < end + NUMBER_WIDTH:  # the number would stand on the mark
            end = place
    parts.append(element("text", number(speed), x=end + 6, y=middle + 4))
    return parts
