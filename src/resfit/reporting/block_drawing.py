"""Operations and residual blocks as SVG, 76 pixels high, the signal running along the middle of their boxes."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from resfit.nn import plan as layout
from resfit.reporting.svg import element

LINE = 48.0  # height of the signal's line
HALF = 17.0  # half the height of a convolution's box
ARC = 12.0  # height of a shortcut's line
STEP = 5.0  # pixels between two operations
BOX = 46.0  # width of a convolution's box
BAR = 7.0  # width of a norm or activation
SUM = 8.0  # radius of a sum


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """SVG parts that lie between 0 and `width`; arched: a shortcut goes over them."""

    width: float
    arched: bool
    parts: tuple[Markup, ...]


class _Pen:
    """Places one operation after another."""

    def __init__(self, start: float = 4.0):
        self.x = start
        self.shapes: list[Markup] = []

    def add(self, operations: Sequence[layout.Operation]) -> None:
        for operation in operations:
            if isinstance(operation, layout.Sequence):
                self.add(operation.operations)
            else:
                self._add_one(operation)

    def _add_one(self, operation: layout.Operation) -> None:
        match operation:
            case layout.Convolution():
                self.box(_convolution_lines(operation), _convolution_words(operation), "conv")
            case layout.Norm(kind=kind, channels=channels):
                self._bar(f"{kind} norm of {channels} channels", "norm")
            case layout.Activation(kind=kind):
                self._bar(f"activation {kind}", "act")
            case layout.Dropout(rate=rate):
                self._bar(f"dropout of {rate:g}", "drop")
            case layout.MaxPool():
                self.box(("max", "3×3 /2"), "max pooling, 3 × 3, stride 2", "pool")
            case layout.AveragePool(kernel=kernel):
                self.box(("mean", f"/{kernel}"), f"average pooling by {kernel}", "pool")
            case layout.GlobalPool():
                self.box(("mean", "1×1"), "mean over all pixels", "pool")
            case layout.SqueezeExcite(channels=channels, reduced=reduced):
                self.box(("gate", str(reduced)), f"squeeze and excite: {channels} to {reduced} channels", "pool")
            case layout.Linear(in_features=before, out_features=after):
                self.box(("linear", str(after)), f"classifier: {before} features to {after} classes", "conv")

    def box(self, lines: tuple[str, str], words: str, style: str) -> None:
        """A box of two lines of text, described by `words`."""
        width = max(BOX, 7.0 * max(map(len, lines)) + 10)
        middle = self.x + width / 2
        self.shapes.append(
            element(
                "g",
                element("title", words),
                element("rect", class_=style, x=self.x, y=LINE - HALF, width=width, height=2 * HALF, rx=4),
                element("text", lines[0], class_="label", x=middle, y=LINE - 3, text_anchor="middle"),
                element("text", lines[1], x=middle, y=LINE + 12, text_anchor="middle"),
            )
        )
        self.x += width + STEP

    def _bar(self, words: str, style: str) -> None:
        title = element("title", words)
        place = {"x": self.x, "y": LINE - HALF, "width": BAR, "height": 2 * HALF, "rx": 2}
        self.shapes.append(element("rect", title, class_=style, **place))
        self.x += BAR + STEP

    def sum(self) -> float:
        """A circle with a plus; returns its middle."""
        middle = self.x + SUM
        self.shapes.append(element("circle", class_="sum", cx=middle, cy=LINE, r=SUM))
        strokes = f"M{middle - 4:g} {LINE:g}h8M{middle:g} {LINE - 4:g}v8"
        self.shapes.append(element("path", class_="flow", d=strokes))
        self.x += 2 * SUM + STEP
        return middle

    def finish(self, under: Sequence[Markup] = (), *, count: int = 1) -> Drawing:
        """Everything so far over its signal line, and after it how many times it follows itself."""
        end = self.x + 3
        line = element("path", class_="flow", d=f"M0 {LINE:g}H{end:g}")
        parts = [line, *under, *self.shapes]
        if count > 1:
            parts.append(element("text", f"× {count}", class_="times", x=end + 4, y=LINE + 5))
            end += 34.0
        return Drawing(width=end, arched=bool(under), parts=tuple(parts))


def chain(operations: Sequence[layout.Operation]) -> Drawing:
    """Operations one after another, as a stem or a head has them."""
    pen = _Pen()
    pen.add(operations)
    return pen.finish()


def block(item: layout.Residual, count: int) -> Drawing:
    """A residual block with its shortcut, and how many times it follows itself."""
    pen = _Pen(start=14.0)
    fork = 6.0
    pen.add(item.pre)
    if item.pre and item.shortcut_reads_pre:
        fork = pen.x + 2
        pen.x += 10
    pen.add(item.branch)
    under: list[Markup] = []
    if not item.plain:
        middle = pen.sum()
        under = _shortcut(item.shortcut, fork, middle)
    pen.add(item.post)
    return pen.finish(under, count=count)


def _shortcut(shortcut: layout.Sequence | layout.ZeroPad | None, fork: float, middle: float) -> list[Markup]:
    """A line from the fork up, over the branch and down to the sum, with what it does on the way."""
    path = f"M{fork:g} {LINE:g}V{ARC + 6:g}q0 -6 6 -6H{middle - 6:g}q6 0 6 6V{LINE - SUM:g}"
    words, style = "identity", "shortcut"
    if isinstance(shortcut, layout.ZeroPad):
        added = shortcut.before + shortcut.after
        words = f"/{shortcut.stride}, {added} zero channels" if shortcut.stride > 1 else f"{added} zero channels"
        style = "shortcut dashed"
    elif shortcut is not None:
        words = ", ".join(_shortcut_words(shortcut))
        style = "shortcut changed"
    line = element("path", element("title", f"shortcut: {words}"), class_=style, d=path)
    if shortcut is None:
        return [line]
    place = (fork + middle) / 2
    half = 3.3 * len(words) + 5
    plate = element("rect", class_="plate", x=place - half, y=ARC - 9, width=2 * half, height=18, rx=4)
    return [line, plate, element("text", words, class_="small", x=place, y=ARC + 4, text_anchor="middle")]


def _shortcut_words(shortcut: layout.Sequence) -> list[str]:
    words = []
    for operation in shortcut.operations:
        match operation:
            case layout.AveragePool(kernel=kernel):
                words.append(f"mean /{kernel}")
            case layout.Convolution(stride=stride):
                words.append("1×1" + (f" /{stride}" if stride > 1 else ""))
    return words


def _convolution_lines(operation: layout.Convolution) -> tuple[str, str]:
    kernel = f"{operation.kernel}×{operation.kernel}"
    return kernel + (f" /{operation.stride}" if operation.stride > 1 else ""), str(operation.out_channels)


def _convolution_words(operation: layout.Convolution) -> str:
    words = (
        f"{operation.name}: convolution {operation.kernel} × {operation.kernel}, "
        f"{operation.in_channels} to {operation.out_channels} channels"
    )
    if operation.stride > 1:
        words += f", stride {operation.stride}"
    if operation.groups > 1:
        words += f", {operation.groups} groups"
    return words
