"""What a user wants of a smaller file, and whether a point that was tried keeps it."""

import math
from dataclasses import dataclass

from resfit.compression.agreement import allowed_estimate
from resfit.compression.points import Point


@dataclass(frozen=True, kw_only=True)
class Wish:
    """max_drop: percentage points of accuracy; file_bytes: of the file; None is no limit."""

    max_drop: float | None
    file_bytes: int | None

    @property
    def allowed(self) -> float:
        """Estimated percentage points that a point may lose."""
        return math.inf if self.max_drop is None else allowed_estimate(self.max_drop)

    def drop_holds(self, point: Point) -> bool:
        """Whether the point loses few enough answers, as far as can be told."""
        return point.agreement.estimated_drop <= self.allowed

    def size_holds(self, point: Point) -> bool:
        """Whether the file is small enough."""
        return self.file_bytes is None or point.file_bytes <= self.file_bytes


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """chosen: None where no point keeps the wish; binding then names the limits in the way, nearest the best points."""

    chosen: Point | None
    binding: tuple[str, ...]
    nearest: tuple[Point, ...]


def outcome(tried: list[Point], wish: Wish) -> Outcome:
    """The smallest file that keeps the wish, or, where accuracy has no limit, the truest."""
    keeping = [point for point in tried if wish.drop_holds(point) and wish.size_holds(point)]
    if keeping:
        chosen = min(keeping, key=_size if wish.max_drop is not None else _disagreement)
        return Outcome(chosen=chosen, binding=(), nearest=())
    true_enough = [point for point in tried if wish.drop_holds(point)]
    small_enough = [point for point in tried if wish.size_holds(point)]
    binding = ["max_drop"] * (not true_enough) + ["file_kb"] * bool(true_enough or not small_enough)
    truest = min(true_enough, key=_size) if true_enough else min(tried, key=_disagreement)
    smallest = min(small_enough, key=_disagreement) if small_enough else min(tried, key=_size)
    nearest = (truest,) if truest is smallest else (truest, smallest)
    return Outcome(chosen=None, binding=tuple(binding), nearest=nearest)


def _disagreement(point: Point) -> tuple[int, int]:
    return point.agreement.disagreements, point.file_bytes


def _size(point: Point) -> tuple[int, int]:
    return point.file_bytes, point.agreement.disagreements
