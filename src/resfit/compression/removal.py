"""Channels and blocks taken out of a network: a spec of smaller widths, and the weights that remain.

Exact: where what is removed contributed nothing no answer changes, but for group norms, whose groups are then others.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from resfit.compression.couplings import Coupling, Wire, couplings, wires
from resfit.errors import UsageError, nearest
from resfit.model.model import Model
from resfit.nn import plan as layout
from resfit.nn.spec import BLOCK_CONVOLUTIONS, ResNetSpec

_PRUNED_FIELDS = ("inner_widths", "shortcut_pads", "stem_inner_widths", "se_widths")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What remains: channel numbers as couplings.wires gives them, and the blocks of each stage by their old index."""

    channels: frozenset[int]
    blocks: tuple[tuple[int, ...], ...]

    def positions(self, channels: Sequence[int]) -> list[int]:
        """Where among `channels` those are that remain."""
        return [position for position, number in enumerate(channels) if number in self.channels]

    def renamed(self, name: str) -> str | None:
        """An operation's name in the smaller network, None where it is in a block that is gone."""
        first, _, rest = name.partition(".")
        if not first.startswith("layer") or not rest:
            return name
        block, _, inside = rest.partition(".")
        blocks = self.blocks[int(first.removeprefix("layer")) - 1]
        if int(block) not in blocks:
            return None
        return ".".join(part for part in (first, str(blocks.index(int(block))), inside) if part)


def remove(model: Model, removed: Mapping[str, Collection[int]]) -> Model:
    """The network without these channels: by a coupling's name, numbers out of its `channels`.

    A coupling inside a block that loses its last channel takes the block along where the block is droppable. The
    weights stay in their types; encodings and activation ranges, which speak of the larger tensors, are left out.
    UsageError for an unknown coupling or channel, and where what remains is no network a spec can describe.
    """
    kept = kept_after(model.spec, removed)
    spec = pruned_spec(model.spec, kept)
    return dataclasses.replace(model, spec=spec, weights=_sliced(model, kept), encodings={}, activation_ranges={})


def kept_after(spec: ResNetSpec, removed: Mapping[str, Collection[int]]) -> Kept:
    """What remains once the couplings lose these channels; UsageError as from `remove`."""
    found = {coupling.name: coupling for coupling in couplings(spec)}
    gone: set[int] = set()
    dropped: set[tuple[int, int]] = set()
    for name, numbers in removed.items():
        if name not in found:
            raise UsageError(f"there is no coupling {name!r}", hint=nearest(name, found))
        coupling = found[name]
        _check(coupling, numbers)
        gone.update(numbers)
        if coupling.droppable and coupling.block is not None and gone.issuperset(coupling.channels):
            dropped.add(coupling.block)
    for coupling in found.values():
        if coupling.block in dropped:
            gone.update(coupling.channels)
    blocks = tuple(
        tuple(block for block in range(depth) if (stage, block) not in dropped)
        for stage, depth in enumerate(spec.depths)
    )
    every = {number for wire in wires(spec).values() for number in (*wire.reads, *wire.writes)}
    return Kept(channels=frozenset(every - gone), blocks=blocks)


def pruned_spec(spec: ResNetSpec, kept: Kept) -> ResNetSpec:
    """The spec of what remains; UsageError where none can say it, as where a projection's two ends became alike."""
    found = {name: wire for name, wire in wires(spec).items() if kept.renamed(name) is not None}
    for stage, blocks in enumerate(kept.blocks):
        if not blocks:
            raise UsageError(f"no block of layer{stage + 1} would remain", hint="keep at least one")
    for name, wire in found.items():
        if not kept.positions(wire.writes):
            raise UsageError(f"no channel of {name} would remain", hint="keep at least one")
    pruned = _without_defaults(dataclasses.replace(spec, **_fields(spec, found, kept)))
    expected = {kept.renamed(name) for name, wire in found.items() if not isinstance(wire.operation, layout.ZeroPad)}
    missing = sorted(name for name in expected - dict(layout.walk(layout.plan(pruned))).keys() if name is not None)
    if missing:
        raise UsageError(f"a network of these widths has no {missing[0]}", hint="keep another number of channels")
    return pruned


def _check(coupling: Coupling, numbers: Collection[int]) -> None:
    unknown = sorted(set(numbers) - set(coupling.channels))
    if unknown:
        raise UsageError(
            f"{coupling.name} has no channel {unknown[0]}", hint=f"known: {', '.join(map(str, coupling.channels[:20]))}"
        )
    size = len(coupling.channels) // coupling.runs
    counts = {
        sum(number in numbers for number in coupling.channels[start : start + size])
        for start in range(0, len(coupling.channels), size)
    }
    if len(counts) != 1:
        raise UsageError(
            f"{coupling.name} would lose different numbers of channels in its {coupling.runs} groups",
            hint="take equally many of each group",
        )


def _fields(spec: ResNetSpec, found: Mapping[str, Wire], kept: Kept) -> dict[str, Any]:
    def count(name: str) -> int:
        return len(kept.positions(found[name].writes))

    last = BLOCK_CONVOLUTIONS[spec.block]
    inside = [
        [[f"layer{stage + 1}.{block}.conv{number}" for number in range(1, last)] for block in blocks]
        for stage, blocks in enumerate(kept.blocks)
    ]
    sequential = bool(spec.stem_inner())
    return {
        "depths": tuple(map(len, kept.blocks)),
        "widths": tuple(count(f"layer{stage + 1}.{blocks[0]}.conv{last}") for stage, blocks in enumerate(kept.blocks)),
        "stem_width": count("conv1.6" if sequential else "conv1"),
        "inner_widths": tuple(tuple(tuple(map(count, names)) for names in stage) for stage in inside),
        "shortcut_pads": _pads(spec, found, kept) if spec.shortcut == "zero_pad" else None,
        "stem_inner_widths": (count("conv1.0"), count("conv1.3")) if sequential else None,
        "se_widths": tuple(map(spec.se_width, range(len(spec.depths)))) if spec.se_ratio else None,
    }


def _pads(spec: ResNetSpec, found: Mapping[str, Wire], kept: Kept) -> tuple[tuple[int, int], ...]:
    """[stage] zero channels that its shortcut still adds before and after."""
    pads = []
    for stage in range(len(spec.depths)):
        wire = found.get(f"layer{stage + 1}.0.downsample")
        if wire is None or not isinstance(wire.operation, layout.ZeroPad):
            pads.append((0, 0))
            continue
        before, after = wire.operation.before, wire.operation.after
        ends = wire.writes[:before], wire.writes[len(wire.writes) - after :]
        pads.append((len(kept.positions(ends[0])), len(kept.positions(ends[1]))))
    return tuple(pads)


def _without_defaults(spec: ResNetSpec) -> ResNetSpec:
    """The same network with None for what its other fields imply."""
    for field in _PRUNED_FIELDS:
        try:
            plainer = ResNetSpec.from_dict({**spec.to_dict(), field: None})
        except UsageError:  # its other fields alone are no network
            continue
        if layout.plan(plainer) == layout.plan(spec):
            spec = plainer
    return spec


def _sliced(model: Model, kept: Kept) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for name, wire in wires(model.spec).items():
        renamed = kept.renamed(name)
        if renamed is None:
            continue
        prefix = f"{name}."
        parts = {key.removeprefix(prefix): tensor for key, tensor in model.weights.items() if key.startswith(prefix)}
        for part, tensor in parts.items():
            weights[f"{renamed}.{part}"] = _part(wire, kept, part, tensor).clone(memory_format=torch.contiguous_format)
    return weights


def _part(wire: Wire, kept: Kept, part: str, tensor: Tensor) -> Tensor:
    """What remains of one tensor of an operation."""
    reads, writes = (torch.tensor(kept.positions(channels)) for channels in (wire.reads, wire.writes))
    match wire.operation:
        case layout.Convolution(groups=groups) if part == "weight" and groups > 1:
            return _grouped(tensor, reads, writes, groups, len(wire.reads) // groups)
        case layout.Convolution() | layout.Linear() if part == "weight":
            return tensor[writes][:, reads]
        case layout.Convolution() | layout.Linear():
            return tensor[writes]
        case layout.Norm() if tensor.ndim:
            return tensor[writes]
        case layout.SqueezeExcite() if part == "fc1.weight":
            return tensor[:, reads]
        case layout.SqueezeExcite() if part.startswith("fc2"):
            return tensor[writes]
        case _:
            return tensor


def _grouped(tensor: Tensor, reads: Tensor, writes: Tensor, groups: int, run: int) -> Tensor:
    """A grouped convolution's weights: each output reads its own run of inputs, of which each keeps as many."""
    inputs = (reads % run).reshape(groups, -1)
    outputs = writes.reshape(groups, -1)
    return torch.cat([tensor[outputs[group]][:, inputs[group]] for group in range(groups)])
