"""What `resfit inspect --couplings` tells: which channels go together when a network is pruned."""

import re
from typing import Any

NAMED = 3  # operations shown one by one; more that differ in their block alone are counted


def couplings_of(spec: Any) -> list[dict[str, Any]]:
    """A row a coupling: name, channels (how many), written_by[], read_by[], groups, block_can_go."""
    from resfit.compression.couplings import couplings

    return [
        {
            "name": coupling.name,
            "channels": len(coupling.channels),
            "written_by": list(coupling.writers),
            "read_by": list(coupling.readers),
            "groups": coupling.runs,
            "block_can_go": coupling.droppable,
        }
        for coupling in couplings(spec)
    ]


def couplings_table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines for a person: a coupling each, long lists of operations shortened."""
    shown = [
        (row["name"], f"{row['channels']:,} channels", _shortened(row["written_by"]), _shortened(row["read_by"]), row)
        for row in rows
    ]
    widths = [max(len(line[column]) for line in shown) for column in range(3)]
    return [
        f"{name:<{widths[0]}}  {count:>{widths[1]}}  written by {written:<{widths[2]}}  read by {read}{_added(row)}"
        for name, count, written, read, row in shown
    ]


def _shortened(names: list[str]) -> str:
    """The names where they are few; else how many of each kind there are in which stage."""
    if len(names) <= NAMED:
        return ", ".join(names)
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(re.sub(r"^(layer\d+)\.\d+\.", r"\1 ", name), []).append(name)
    return ", ".join(of[0] if len(of) == 1 else f"{len(of)} x {kind}" for kind, of in kinds.items())


def _added(row: dict[str, Any]) -> str:
    parts = [f"in {row['groups']} equal groups"] * (row["groups"] > 1) + ["the block can go"] * row["block_can_go"]
    return f"  ({', '.join(parts)})" if parts else ""
