"""The pictures of a report, each drawn for a wide and for a narrow page."""

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from resfit.reporting.content import Candidate, ProvenAccuracy
from resfit.reporting.svg import Axis, element, frame, picture, spread
from resfit.reporting.wording import number, percent, quantity, size

SHAPES = {"wide": (880, 430), "narrow": (360, 330)}
LETTER = 6.6  # average width of a label's letter, for telling whether labels collide


def both(draw: Callable[[str], Markup]) -> Markup:
    """The same picture in each shape; the page's style shows the one that suits its width."""
    return Markup("").join(draw(shape) for shape in SHAPES)


def candidates_picture(
    candidates: Sequence[Candidate],
    *,
    latency_limit_ms: float | None = None,
    file_limit_bytes: float | None = None,
    min_accuracy: float | None = None,
) -> Markup | None:
    """Validation accuracy over latency; area is file size. None where no raced network has a latency.

    Networks dropped before the race have no accuracy and are ticks on the axis.
    """
    raced = [item for item in candidates if item.latency_ms and item.accuracies]
    if not raced:
        return None
    untried = [item for item in candidates if item.latency_ms and not item.accuracies]

    def draw(shape: str) -> Markup:
        x, y = _candidate_axes(shape, raced, untried, latency_limit_ms, min_accuracy)
        parts = frame(
            x,
            y,
            x_title="latency, ms",
            y_title="validation accuracy",
            x_word=axis_number,
            y_word=axis_percent,
        )
        parts += _limits(x, y, latency_limit_ms, min_accuracy)
        parts += [_untried(x, y, item) for item in untried]
        parts.append(_front(x, y, raced))
        largest = max(item.file_bytes or 0 for item in raced)
        biggest = 15 if shape == "wide" else 11
        for item in sorted(raced, key=lambda item: -(item.file_bytes or 0)):
            parts.append(_point(x, y, item, largest, biggest, file_limit_bytes))
        parts += _point_labels(x, y, raced, biggest)
        width, height = SHAPES[shape]
        return picture(width, height, "Candidates: accuracy over latency", parts, class_=f"plot {shape}")

    return both(draw)


def _candidate_axes(
    shape: str,
    raced: Sequence[Candidate],
    untried: Sequence[Candidate],
    latency_limit_ms: float | None,
    min_accuracy: float | None,
) -> tuple[Axis, Axis]:
    latencies = [item.latency_ms for item in (*raced, *untried) if item.latency_ms]
    if latency_limit_ms:
        latencies.append(latency_limit_ms)
    heights = [item.accuracies[-1] for item in raced]
    if min_accuracy is not None:
        heights.append(min_accuracy)
    low, high = spread(heights, at_least=0.02)
    x = _area(shape, min(latencies) / 1.2, max(latencies) * 1.35, horizontal=True)
    return x, _area(shape, max(low, -0.01), min(high, 1.02))


def _area(shape: str, low: float, high: float, *, horizontal: bool = False) -> Axis:
    width, height = SHAPES[shape]
    if horizontal:
        return Axis(low=low, high=high, start=48, end=width - 10, logarithmic=True)
    return Axis(low=low, high=high, start=height - 46, end=34)


def axis_number(value: float) -> str:
    """A tick of plain numbers."""
    return f"{value:.4g}"


def axis_percent(fraction: float) -> str:
    """A tick of fractions, shown in percent."""
    return f"{100 * fraction:.4g} %"


def _limits(x: Axis, y: Axis, latency_ms: float | None, accuracy: float | None) -> list[Markup]:
    parts = []
    if latency_ms is not None:
        place = x(latency_ms)
        parts.append(element("line", class_="limit", x1=place, x2=place, y1=y.start, y2=y.end))
        words = f"limit {number(latency_ms)} ms"
        parts.append(element("text", words, class_="limit-name", x=place - 5, y=y.end + 12, text_anchor="end"))
    if accuracy is not None:
        height = y(accuracy)
        parts.append(element("line", class_="limit", x1=x.start, x2=x.end, y1=height, y2=height))
        words = f"at least {percent(accuracy)}"
        parts.append(element("text", words, class_="limit-name", x=x.start + 5, y=height - 5))
    return parts


def _untried(x: Axis, y: Axis, item: Candidate) -> Markup:
    place = x(item.latency_ms or x.low)
    title = element("title", f"{item.name}: {number(item.latency_ms or 0)} ms; {item.reason}")
    return element("line", title, class_="untried", x1=place, x2=place, y1=y.start - 10, y2=y.start)


def _front(x: Axis, y: Axis, raced: Sequence[Candidate]) -> Markup:
    """A line through the networks that no network at most as slow beats."""
    points: list[str] = []
    best = -1.0
    for item in sorted(raced, key=lambda item: (item.latency_ms or 0, -item.accuracies[-1])):
        if item.accuracies[-1] > best:
            best = item.accuracies[-1]
            points.append(f"{x(item.latency_ms or x.low):.1f},{y(best):.1f}")
    return element("polyline", class_="front", points=" ".join(points))


def _point(x: Axis, y: Axis, item: Candidate, largest: int, biggest: float, file_limit_bytes: float | None) -> Markup:
    share = (item.file_bytes or 0) / largest if largest else 0.0
    radius = 4 + (biggest - 4) * math.sqrt(share)
    facts = [percent(item.accuracies[-1]), quantity("latency_ms", item.latency_ms)]
    if item.file_bytes is not None:
        facts.append(size(item.file_bytes))
    hollow = file_limit_bytes is not None and (item.file_bytes or 0) > file_limit_bytes
    class_ = " ".join(["point", item.outcome, *(["hollow"] if hollow else [])])
    title = element("title", f"{item.name}: {', '.join(facts)}")
    place, height = x(item.latency_ms or x.low), y(item.accuracies[-1])
    return element("circle", title, class_=class_, cx=place, cy=height, r=radius)


def _point_labels(x: Axis, y: Axis, raced: Sequence[Candidate], biggest: float) -> list[Markup]:
    """Names beside points, the winner's first, then by accuracy; one that would collide is left out."""
    taken = [_box(x(item.latency_ms or x.low), y(item.accuracies[-1]), biggest / 2) for item in raced]
    parts = []
    order = sorted(raced, key=lambda item: (item.outcome != "won", -item.accuracies[-1]))
    for item in order:
        place, height = x(item.latency_ms or x.low), y(item.accuracies[-1])
        length = LETTER * len(item.name)
        for left in (place + biggest + 5, place - biggest - 5 - length):
            box = (left, height - 8, left + length, height + 8)
            free = all(
                box[2] < other[0] or other[2] < box[0] or box[3] < other[1] or other[3] < box[1] for other in taken
            )
            if free and x.start <= box[0] and box[2] <= x.end:
                taken.append(box)
                class_ = "label won" if item.outcome == "won" else "label"
                parts.append(element("text", item.name, class_=class_, x=left, y=height + 4))
                break
    return parts


def _box(x: float, y: float, reach: float) -> tuple[float, float, float, float]:
    return x - reach, y - reach, x + reach, y + reach


def interval_picture(test: ProvenAccuracy, min_accuracy: float | None) -> Markup:
    """The accuracy, its interval and the limit on one line."""
    values = [test.low, test.high, *([min_accuracy] if min_accuracy is not None else [])]
    low, high = spread(values, margin=0.3, at_least=0.04)

    def draw(shape: str) -> Markup:
        width = SHAPES[shape][0]
        x = Axis(low=max(low, 0.0), high=min(high, 1.0), start=10, end=width - 10)
        parts = [element("line", class_="axis", x1=x.start, x2=x.end, y1=26.0, y2=26.0)]
        for value in x.ticks(5):
            parts.append(element("line", class_="axis", x1=x(value), x2=x(value), y1=23.0, y2=29.0))
            anchor = "start" if x(value) < 30 else "end" if x(value) > width - 30 else "middle"
            parts.append(element("text", axis_percent(value), class_="tick", x=x(value), y=46, text_anchor=anchor))
        parts.append(element("line", class_="interval", x1=x(test.low), x2=x(test.high), y1=26.0, y2=26.0))
        parts.append(element("circle", class_="point won", cx=x(test.accuracy), cy=26.0, r=6))
        if min_accuracy is not None and x.low <= min_accuracy <= x.high:
            place = x(min_accuracy)
            parts.append(element("line", class_="limit", x1=place, x2=place, y1=10.0, y2=36.0))
            words = f"at least {percent(min_accuracy)}"
            anchor = "end" if place > width / 2 else "start"
            shift = -5 if anchor == "end" else 5
            parts.append(element("text", words, class_="limit-name", x=place + shift, y=14, text_anchor=anchor))
        return picture(width, 52, "Accuracy with its 95 % interval", parts, class_=f"plot {shape}")

    return both(draw)
