"""The reliability diagram: is the network right as often as its probabilities say (DeGroot and Fienberg 1983)?"""

import math
from collections.abc import Sequence

from markupsafe import Markup

from resfit.reporting.charts import SHAPES, axis_percent, both
from resfit.reporting.content import Calibration, ConfidenceBin
from resfit.reporting.svg import Axis, element, frame, picture
from resfit.reporting.wording import number, percent

FEW = 10  # a bin of fewer answers says little, and is drawn pale
STANDARD_95 = 1.96  # of the normal distribution: two-sided 95 %


def calibration_words(calibration: Calibration) -> str:
    """The error in words, and in which direction it goes on average."""
    words = f"Expected calibration error {number(100 * calibration.ece)} points"
    filled = _filled(calibration)
    images = sum(item.count for item in filled)
    if not images:
        return f"{words}."
    confidence = sum(item.count * (item.confidence or 0.0) for item in filled) / images
    right = sum(item.count * (item.accuracy or 0.0) for item in filled) / images
    compared = f"its mean probability is {percent(confidence)}, and it is right in {percent(right)}"
    if abs(confidence - right) <= STANDARD_95 * math.sqrt(right * (1 - right) / images):
        return f"{words}: {compared}, a difference within chance at 95 %."
    return f"{words}: on average it is too {'sure' if confidence > right else 'unsure'}, as {compared}."


def reliability_picture(calibration: Calibration) -> Markup | None:
    """Share of right answers over their probability, and how many answers each bin has; None without answers.

    A bar that ends below the diagonal was too sure: what it lacks to the bin's mean probability is shaded; what
    it has too much in another colour.
    """
    filled = _filled(calibration)
    if not filled:
        return None

    def draw(shape: str) -> Markup:
        width, _ = SHAPES[shape]
        wide = shape == "wide"
        middle = width * 0.55 if wide else width
        parts = _diagram(filled, left=0, right=middle, top=26)
        left, top = (middle, 26) if wide else (0, 358)
        parts += _counts(filled, left=left, right=width, top=top, height=264 if wide else 150)
        return picture(width, 334 if wide else 560, "Reliability of the probabilities", parts, class_=f"plot {shape}")

    return both(draw)


def _filled(calibration: Calibration) -> list[ConfidenceBin]:
    return [item for item in calibration.bins if item.count]


def _words(item: ConfidenceBin) -> str:
    return (
        f"probability {percent(item.low)} to {percent(item.high)}: {item.count:,} answers, "
        f"{percent(item.accuracy or 0.0)} right at a mean probability of {percent(item.confidence or 0.0)}"
    )


def _diagram(filled: Sequence[ConfidenceBin], *, left: float, right: float, top: float) -> list[Markup]:
    x = Axis(low=0.0, high=1.0, start=left + 48, end=right - 22)
    y = Axis(low=0.0, high=1.0, start=top + 264, end=top + 8)
    parts = frame(
        x, y, x_title="probability it gave", y_title="share that was right", x_word=axis_percent, y_word=axis_percent
    )
    for item in filled:
        accuracy, confidence = item.accuracy or 0.0, item.confidence or 0.0
        low, high = sorted((y(accuracy), y(confidence)), reverse=True)
        start, end = x(item.low) + 1, x(item.high) - 1
        few = " few" if item.count < FEW else ""
        gap = "over" if confidence > accuracy else "under"
        parts.append(_bar(item, f"share{few}", start, end, low, y.start))
        parts.append(_bar(item, f"{gap}{few}", start, end, high, low))
    parts.append(element("line", class_="diagonal", x1=x.start, y1=y.start, x2=x.end, y2=y.end))
    return parts


def _counts(filled: Sequence[ConfidenceBin], *, left: float, right: float, top: float, height: float) -> list[Markup]:
    most = max(item.count for item in filled)
    images = sum(item.count for item in filled)
    x = Axis(low=0.0, high=1.0, start=left + 56, end=right - 22)
    y = Axis(low=0.0, high=most / images * 1.05, start=top + height, end=top + 8)
    parts = frame(
        x, y, x_title="probability it gave", y_title="share of all answers", x_word=axis_percent, y_word=axis_percent
    )
    for item in filled:
        height_of = y(item.count / images)
        parts.append(_bar(item, "count", x(item.low) + 1, x(item.high) - 1, height_of, y.start))
    return parts


def _bar(item: ConfidenceBin, style: str, left: float, right: float, top: float, bottom: float) -> Markup:
    title = element("title", _words(item))
    return element(
        "rect", title, class_=f"column {style}", x=left, y=top, width=right - left, height=max(bottom - top, 0.0)
    )
