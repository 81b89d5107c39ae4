"""The network as a picture, from its plan: a row a stage, convolutions as boxes, shortcuts as lines over them.

Blocks that follow one another and are alike are drawn once, with how many there are.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from resfit.measure.macs import stages
from resfit.nn.plan import Operation, Residual, plan
from resfit.nn.plan import Sequence as PlanSequence
from resfit.reporting.block_drawing import Drawing, block, chain
from resfit.reporting.charts import SHAPES, both
from resfit.reporting.content import NetworkLayout
from resfit.reporting.svg import element, picture
from resfit.reporting.wording import number

if TYPE_CHECKING:
    from resfit.model.model import Model

SIDE = 210  # pixels on the left of a wide page's rows, for their names
GAP = 18  # pixels between two blocks
ROW_HEIGHT = 76  # of one line of blocks, its shortcuts included
MOST_DRAWN = 12  # different blocks of a stage; a pruned deep network may have a hundred


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Lane:
    """One row: a name, two lines of facts, and drawings from left to right, with a note where some are left out."""

    name: str
    facts: tuple[str, str]
    drawings: tuple[Drawing, ...]
    note: str = ""


def layout_of(model: "Model") -> NetworkLayout:
    """What to draw of a model."""
    return NetworkLayout(spec=model.spec, height=model.preprocessing.height, width=model.preprocessing.width)


def network_picture(network: NetworkLayout) -> Markup:
    """Stem, stages and head of a network at its input size."""
    lanes = _lanes(network)

    def draw(shape: str) -> Markup:
        width, _ = SHAPES[shape]
        parts: list[Markup] = []
        top = 0.0
        for index, lane in enumerate(lanes):
            if index:
                parts.append(element("line", class_="grid", x1=0, x2=width, y1=top, y2=top))
            drawn, height = _lane_parts(lane, width, top, wide=shape == "wide")
            parts += drawn
            top += height
        return picture(width, top, f"The network: {_described(network)}", parts, class_=f"plot {shape}")

    return both(draw)


def _described(network: NetworkLayout) -> str:
    spec = network.spec
    return f"{sum(spec.depths)} {spec.block} blocks in {len(spec.depths)} stages"


def _lanes(network: NetworkLayout) -> list[_Lane]:
    operations = plan(network.spec)
    rows = stages(network.spec, network.height, network.width)
    named = [item for item in operations if item.name.startswith("layer") and isinstance(item, PlanSequence)]
    first, last = operations.index(named[0]), operations.index(named[-1])
    input_words = f"image {network.spec.in_channels} × {network.height} × {network.width}"
    lanes = [_lane(rows[0], (chain(operations[:first]),), name=f"stem, {input_words}")]
    for row, stage in zip(rows[1:-1], named, strict=True):
        drawings, note = _stage_drawings(stage.operations)
        lanes.append(_lane(row, drawings, name=row["name"], note=note))
    lanes.append(_lane(rows[-1], (chain(operations[last + 1 :]),), name="head"))
    return lanes


def _lane(row: dict[str, Any], drawings: tuple[Drawing, ...], *, name: str, note: str = "") -> _Lane:
    shape = " × ".join(map(str, row["output_shape"]))
    size = f"{_millions(row['parameters'], 1_000_000)} weights, {_millions(row['macs'], 100_000)} MACs"
    words = f"{shape} logits" if len(row["output_shape"]) == 1 else f"out {shape}"
    return _Lane(name=name, facts=(words, size), drawings=drawings, note=note)


def _millions(count: int, least: int) -> str:
    """A count, from `least` on in millions."""
    return f"{number(count / 1e6)} M" if count >= least else f"{count:,}"


def _stage_drawings(blocks: Sequence[Operation]) -> tuple[tuple[Drawing, ...], str]:
    """Each run of like blocks once, and a sentence on those left out."""
    runs: list[tuple[Residual, int]] = []
    for item in blocks:
        assert isinstance(item, Residual)
        alike = dataclasses.replace(item, name="", drop_path=0.0, zero_gamma=False)
        if runs and runs[-1][0] == alike:
            runs[-1] = (alike, runs[-1][1] + 1)
        else:
            runs.append((alike, 1))
    shown = runs[:MOST_DRAWN]
    left_out = sum(count for _, count in runs[MOST_DRAWN:])
    note = f"and {left_out} more blocks of other widths" if left_out else ""
    return tuple(block(item, count) for item, count in shown), note


def _lane_parts(lane: _Lane, width: float, top: float, *, wide: bool) -> tuple[list[Markup], float]:
    """What to draw of a lane whose upper edge is at `top`, and its height."""
    parts = [element("text", lane.name, class_="name", x=2, y=top + 22)]
    if wide:
        parts += [element("text", words, x=2, y=top + 40 + 17 * index) for index, words in enumerate(lane.facts)]
        left, y = float(SIDE), top
    else:
        parts.append(element("text", " · ".join(lane.facts), x=2, y=top + 39))
        left, y = 0.0, top + (46 if any(drawing.arched for drawing in lane.drawings) else 28)
    x = left
    for drawing in lane.drawings:
        if x > left and x + drawing.width > width:
            x, y = left, y + ROW_HEIGHT
        parts.append(element("g", *drawing.parts, transform=f"translate({x:g} {y:g})"))
        x += drawing.width + GAP
    y += ROW_HEIGHT
    if lane.note:
        parts.append(element("text", lane.note, x=left + 2, y=y + 8))
        y += 18
    return parts, y - top
