"""Which channels to remove for a network to cost so many times less: from scores, couplings and costs alone."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from resfit.compression.couplings import Coupling, Wire, couplings, wires
from resfit.compression.removal import kept_after, pruned_spec
from resfit.errors import BudgetNotMet, UsageError
from resfit.measure.macs import macs_by_operation
from resfit.nn import plan as layout
from resfit.nn.spec import ResNetSpec

# What one more operation counts besides its arithmetic, in multiply-accumulates, where steps are compared. In ONNX
# Runtime one costs the time of 1,300,000 whatever its width (ResNet-32: 12 us, where a million take 9 us); the whole of
# it would leave few and wide blocks, whose answers were further from the original's
OPERATION_MACS = 100_000


def chosen(
    spec: ResNetSpec, scores: np.ndarray, *, height: int, width: int, speedup: float, multiple: int = 8
) -> dict[str, list[int]]:
    """What to remove, by coupling, for the network to cost so many times less.

    scores: float64, what is lost with each channel, by its number. Taken is what loses least for what it saves, until
    the cost is reached; then what fits after all is given back. BudgetNotMet where the network cannot be that small.
    """
    allocation = _Allocation(spec, scores, height, width, multiple)
    most = allocation.macs() / speedup
    while allocation.macs() > most:
        if not allocation.step():
            reached = np.floor(100 * allocation.total / allocation.macs()) / 100  # what is named can be asked for
            raise BudgetNotMet(
                f"a speedup of {speedup:g} is out of reach: removing channels makes this network cost at most "
                f"{reached:.2f} times less",
                hint=_way_out(reached, multiple),
            )
    allocation.give_back(most)
    return allocation.removed()


def _way_out(reached: float, multiple: int) -> str:
    less = f"ask for a speedup of at most {reached:.2f}" if reached > 1 else "leave the speedup out"
    return less if multiple == 1 else f"{less}, or let widths be multiples of less than {multiple} (--width-multiple)"


@dataclass(frozen=True, kw_only=True)
class _Cost:
    """Multiply-accumulates of one operation, given which channels are kept."""

    reads: np.ndarray
    writes: np.ndarray | None  # None where it has a cost for a channel, not for a pair of them
    each: float
    block: tuple[int, int] | None

    @classmethod
    def of(cls, name: str, wire: Wire, macs: int) -> "_Cost":
        first, *rest = name.split(".")
        block = (int(first.removeprefix("layer")) - 1, int(rest[0])) if first.startswith("layer") else None
        paired = not isinstance(wire.operation, layout.SqueezeExcite)
        return cls(
            reads=np.array(wire.reads),
            writes=np.array(wire.writes) if paired else None,
            each=macs / (len(wire.reads) * (len(wire.writes) if paired else 1)),
            block=block,
        )

    def __call__(self, kept: np.ndarray) -> float:
        pairs = int(kept[self.reads].sum())
        return self.each * (pairs if self.writes is None else pairs * int(kept[self.writes].sum()))

    def touches(self, coupling: Coupling) -> bool:
        """Whether the cost depends on the coupling's channels, or on the block that they are inside of."""
        if self.block is not None and self.block == coupling.block:
            return True
        ends = self.reads if self.writes is None else np.concatenate([self.reads, self.writes])
        return bool(np.isin(ends, coupling.channels).any())


class _Allocation:
    """What is removed so far, and the next step: fewer channels of the coupling that loses least for what it saves."""

    def __init__(self, spec: ResNetSpec, scores: np.ndarray, height: int, width: int, multiple: int):
        self.spec, self.scores, self.multiple = spec, scores, multiple
        self.couplings = couplings(spec)
        self.taken: list[tuple[Coupling, list[int]]] = []
        self.kept = np.ones(len(scores), dtype=bool)
        self.dropped: set[tuple[int, int]] = set()
        costs = macs_by_operation(spec, height, width)
        found = wires(spec)
        self.operations = [_Cost.of(name, found[name], macs) for name, macs in costs.items()]
        self.touched = {
            coupling.name: [cost for cost in self.operations if cost.touches(coupling)] for coupling in self.couplings
        }
        self.ranked = {coupling.name: _ranked(coupling, scores) for coupling in self.couplings}
        self.total = self.macs()
        self.stuck: set[str] = set()

    def macs(self) -> float:
        """Multiply-accumulates of what is kept."""
        return _sum(self.operations, self.kept, self.dropped, 0.0)

    def removed(self) -> dict[str, list[int]]:
        """The channels taken so far, by coupling."""
        removed: dict[str, list[int]] = {}
        for coupling, taken in self.taken:
            removed.setdefault(coupling.name, []).extend(taken)
        return removed

    def give_back(self, most: float) -> None:
        """Undoes each coupling's last step, the latest first, where the cost stays within `most`."""
        last = {step[0].name: step for step in self.taken}
        for step in reversed([step for step in self.taken if last[step[0].name] is step]):
            fewer = [other for other in self.taken if other is not step]
            kept, dropped = np.ones_like(self.kept), set[tuple[int, int]]()
            for coupling, taken in fewer:
                kept[taken] = False
                if coupling.block is not None and not kept[self.ranked[coupling.name]].any():
                    dropped.add(coupling.block)
            if _sum(self.operations, kept, dropped, 0.0) <= most and self._describable(fewer):
                self.taken, self.kept, self.dropped = fewer, kept, dropped

    def step(self) -> bool:
        """Takes the best step; False where there is none left."""
        steps = []
        for coupling in self.couplings:
            taken = self._taken(coupling)
            if taken:
                steps.append((self.scores[taken].sum() / self._saved(coupling, taken), coupling.name, coupling, taken))
        for _, _, coupling, taken in sorted(steps, key=lambda step: step[:2]):
            if coupling.block is not None or self._describable([*self.taken, (coupling, taken)]):
                self.kept, self.dropped = self._after(coupling, taken)
                self.taken.append((coupling, taken))
                return True
            self.stuck.add(coupling.name)
        return False

    def _saved(self, coupling: Coupling, taken: list[int]) -> float:
        touched = self.touched[coupling.name]
        before = _sum(touched, self.kept, self.dropped, OPERATION_MACS)
        return before - _sum(touched, *self._after(coupling, taken), OPERATION_MACS)

    def _taken(self, coupling: Coupling) -> list[int]:
        """The channels that the coupling's next step removes: those of least score down to the next multiple."""
        ranked = self.ranked[coupling.name]
        left = int(self.kept[ranked].sum())
        if not left or coupling.block in self.dropped or coupling.name in self.stuck:
            return []
        unit = int(np.lcm(self.multiple, coupling.runs))
        target = (left - 1) // unit * unit
        if target == 0 and not self._may_end(coupling):
            return []
        size = len(coupling.channels) // coupling.runs
        first, last = size - left // coupling.runs, size - target // coupling.runs
        return [int(number) for number in ranked[:, first:last].flatten()]

    def _may_end(self, coupling: Coupling) -> bool:
        if coupling.block is None:  # `_describable` knows whether its tensors have other channels too
            return True
        stage, _ = coupling.block
        gone = sum(block[0] == stage for block in self.dropped)
        return coupling.droppable and gone + 1 < self.spec.depths[stage]

    def _after(self, coupling: Coupling, taken: list[int]) -> tuple[np.ndarray, set[tuple[int, int]]]:
        kept = self.kept.copy()
        kept[taken] = False
        if coupling.block is None or kept[list(coupling.channels)].any():
            return kept, self.dropped
        return kept, self.dropped | {coupling.block}

    def _describable(self, steps: list[tuple[Coupling, list[int]]]) -> bool:
        """Whether a spec can say what these steps leave; inside of blocks it always can."""
        if all(coupling.block is not None for coupling, _ in steps):
            return True
        removed: dict[str, list[int]] = {}
        for coupling, taken in steps:
            removed.setdefault(coupling.name, []).extend(taken)
        try:
            pruned_spec(self.spec, kept_after(self.spec, removed))
        except UsageError:
            return False
        return True


def _sum(operations: Iterable[_Cost], kept: np.ndarray, dropped: set[tuple[int, int]], each: float) -> float:
    return sum(cost(kept) + each for cost in operations if cost.block not in dropped)


def _ranked(coupling: Coupling, scores: np.ndarray) -> np.ndarray:
    """Channel numbers (runs, channels of each), the least score first."""
    runs = np.array(coupling.channels).reshape(coupling.runs, -1)
    return np.take_along_axis(runs, np.argsort(scores[runs], axis=1, kind="stable"), axis=1)
