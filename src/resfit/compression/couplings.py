"""Which channels of a network go together, from its plan alone: what is pruned in one place must go in all.

A channel is followed through the plan from the convolution that writes it. A sum makes one channel of the two it
adds, a zero-pad shortcut carries channels on under another position, and a spec has one width for all sums of a
stage; what such ties hold together is kept or removed as one. No network is built or run.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from resfit.nn import plan as layout
from resfit.nn.spec import BLOCK_CONVOLUTIONS, ResNetSpec

KEPT_RESULTS = 8  # networks whose wires are remembered: choosing what to prune asks for the same again and again
IDEMPOTENT = ("relu", "relu6", "identity")  # twice is as once: what has been activated passes unchanged


@dataclass(frozen=True, kw_only=True)
class Wire:
    """One operation and the channels at its two ends, by number; an operation on maps of one width has both equal."""

    operation: layout.Operation
    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """Channels that are alike: each is written, and read, by the same operations.

    name: the convolution that writes them ("layer2.0.conv1"), or the first sum that they are part of ("layer2.sum").
    channels: their numbers, in the order of the first tensor that holds them.
    writers, readers: names of convolutions and of the classifier; a zero-pad shortcut is none.
    runs: grouped convolutions split the channels into so many equal runs, which must stay equal.
    block: (stage, block) of the branch whose inside they are; None for those of sums and of the stem.
    droppable: the block would pass its input on unchanged were its branch removed, so that all may go.
    """

    name: str
    channels: tuple[int, ...]
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    runs: int = 1
    block: tuple[int, int] | None = None
    droppable: bool = False


@functools.lru_cache(maxsize=KEPT_RESULTS)
def wires(spec: ResNetSpec) -> Mapping[str, Wire]:
    """Every operation without parts of its own, by its full name, in state-dict order.

    Channels have the same number where they must be kept or removed together.
    """
    return MappingProxyType(_Walk(spec).wires)


@functools.lru_cache(maxsize=KEPT_RESULTS)
def couplings(spec: ResNetSpec) -> tuple[Coupling, ...]:
    """Everything that may be pruned, in the order in which the network computes it.

    The input image's channels and the classes are not among them. A network whose pruned channels a group norm
    normalised together keeps its shape, but not exactly its function.
    """
    found = wires(spec)
    fixed = {*found[next(iter(found))].reads, *found["fc"].writes}
    ends: dict[int, list[tuple[str, str]]] = {}
    for name, wire in found.items():
        if isinstance(wire.operation, layout.Convolution | layout.Linear):
            for end, numbers in (("reads", wire.reads), ("writes", wire.writes)):
                for number in dict.fromkeys(numbers):
                    ends.setdefault(number, []).append((name, end))
    alike: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for number in _in_order(found.values()):
        if number not in fixed:
            alike.setdefault(tuple(ends[number]), []).append(number)
    return tuple(_coupling(spec, found, members, numbers) for members, numbers in alike.items())


def _coupling(
    spec: ResNetSpec, found: Mapping[str, Wire], members: tuple[tuple[str, str], ...], numbers: list[int]
) -> Coupling:
    writers = tuple(name for name, end in members if end == "writes")
    readers = tuple(name for name, end in members if end == "reads")
    inside = _inside(writers, readers)
    operations = [found[name].operation for name in (*writers, *readers)]
    ending = next((name for name in writers if name in _branch_ends(spec)), None)
    return Coupling(
        name=writers[0] if ending is None else f"{ending.split('.')[0]}.sum",
        channels=tuple(numbers),
        writers=writers,
        readers=readers,
        runs=max(operation.groups if isinstance(operation, layout.Convolution) else 1 for operation in operations),
        block=inside,
        droppable=inside is not None and _droppable(spec, *inside),
    )


def _inside(writers: tuple[str, ...], readers: tuple[str, ...]) -> tuple[int, int] | None:
    """(stage, block) of a branch's inner channels: one convolution writes them, the next one of the branch reads."""
    if len(writers) != 1 or len(readers) != 1 or not writers[0].startswith("layer"):
        return None
    block, _, convolution = writers[0].rpartition(".")
    if readers[0].rpartition(".")[0] != block or not convolution.startswith("conv"):
        return None
    stage, index = block.removeprefix("layer").split(".")
    return int(stage) - 1, int(index)


def _branch_ends(spec: ResNetSpec) -> tuple[str, ...]:
    """The last convolution of each stage's first branch, which writes to the stage's sums."""
    return tuple(f"layer{stage + 1}.0.conv{BLOCK_CONVOLUTIONS[spec.block]}" for stage in range(len(spec.depths)))


def _droppable(spec: ResNetSpec, stage: int, block: int) -> bool:
    """Whether the block has an identity shortcut, and its end does nothing to what comes along it."""
    before, after = spec.block_channels(stage, block)
    unchanged = before == after and spec.block_stride(stage, block) == 1
    passes = spec.order != "post" or spec.activation in IDEMPOTENT
    return unchanged and passes and spec.shortcut not in ("none", "projection_always")


def _in_order(found: Iterable[Wire]) -> Iterator[int]:
    return iter(dict.fromkeys(number for wire in found for number in (*wire.reads, *wire.writes)))


class _Walk:
    """Follows channels through a plan; `wires` is what it leaves, with the ties resolved."""

    def __init__(self, spec: ResNetSpec):
        self._tied: list[int] = []  # by channel: another one it is tied to, or itself
        self._wires: dict[str, Wire] = {}
        self._stage_sums: tuple[int, ...] | None = None
        self._operations(layout.plan(spec), self._new(spec.in_channels), "")
        roots = [self._root(number) for number in range(len(self._tied))]
        self.wires = {
            name: Wire(
                operation=wire.operation,
                reads=tuple(roots[number] for number in wire.reads),
                writes=tuple(roots[number] for number in wire.writes),
            )
            for name, wire in self._wires.items()
        }

    def _new(self, count: int) -> tuple[int, ...]:
        start = len(self._tied)
        self._tied += range(start, start + count)
        return tuple(range(start, start + count))

    def _root(self, number: int) -> int:
        while self._tied[number] != number:
            self._tied[number] = self._tied[self._tied[number]]
            number = self._tied[number]
        return number

    def _tie(self, left: Iterable[int], right: Iterable[int]) -> None:
        for one, other in zip(left, right, strict=True):
            first, second = sorted((self._root(one), self._root(other)))
            self._tied[second] = first

    def _operations(
        self, operations: Iterable[layout.Operation], channels: tuple[int, ...], prefix: str
    ) -> tuple[int, ...]:
        for operation in operations:
            channels = self._operation(operation, channels, prefix + operation.name)
        return channels

    def _operation(self, operation: layout.Operation, channels: tuple[int, ...], name: str) -> tuple[int, ...]:
        match operation:
            case layout.Sequence():
                if name.startswith("layer") and "." not in name:
                    self._stage_sums = None
                return self._operations(operation.operations, channels, f"{name}.")
            case layout.Residual():
                return self._residual(operation, channels, f"{name}.")
            case layout.Convolution(out_channels=count) | layout.Linear(out_features=count):
                written = self._new(count)
            case layout.ZeroPad(before=before, after=after):
                written = (*self._new(before), *channels, *self._new(after))
            case _:
                written = channels
        self._wires[name] = Wire(operation=operation, reads=channels, writes=written)
        return written

    def _residual(self, operation: layout.Residual, channels: tuple[int, ...], prefix: str) -> tuple[int, ...]:
        activated = self._operations(operation.pre, channels, prefix)
        branch = self._operations(operation.branch, activated, prefix)
        if not operation.plain:
            shortcut = activated if operation.shortcut_reads_pre else channels
            if operation.shortcut is not None:
                shortcut = self._operations((operation.shortcut,), shortcut, prefix)
            self._tie(shortcut, branch)
        if self._stage_sums is not None:  # a spec has one width for all blocks of a stage
            self._tie(self._stage_sums, branch)
        self._stage_sums = branch
        return self._operations(operation.post, branch, prefix)
