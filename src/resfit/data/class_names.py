"""Class names that differ between splits, and names of one split that look like one class written twice."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

ALIKE = 0.8  # of difflib's ratio: "gas_pump" and "gaspump" 0.93, "tench" and "trench" 0.91, "cat" and "car" 0.67


def name_differences(declared: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """For each class that some split lacks: {class, splits, missing_from, written_there}.

    `written_there` names classes of the lacking splits that differ only in case, spacing or a letter or two and
    that are not known to this class's own splits, hence are probably the same.
    """
    every = sorted({label for labels in declared.values() for label in labels})
    found = []
    for label in every:
        holders = [split for split, labels in declared.items() if label in labels]
        lacking = [split for split, labels in declared.items() if label not in labels]
        if lacking:
            own = {other for split in holders for other in declared[split]}
            others = sorted({other for split in lacking for other in declared[split]} - own)
            found.append(
                {
                    "class": label,
                    "splits": holders,
                    "missing_from": lacking,
                    "written_there": [other for other in others if _alike(label, other)],
                }
            )
    return found


def written_twice(declared: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Names within one split that differ only in case, spacing and punctuation: ["gas pump", "Gas_Pump"]."""
    groups: dict[tuple[str, str], list[str]] = {}
    for split, labels in declared.items():
        for label in labels:
            groups.setdefault((split, _plain(label)), []).append(label)
    several = {tuple(sorted(labels)) for labels in groups.values() if len(labels) > 1}
    return [list(labels) for labels in sorted(several)]


def _plain(label: str) -> str:
    return re.sub(r"[\W_]+", "", label.casefold()) or label


def _alike(label: str, other: str) -> bool:
    one, two = _plain(label), _plain(other)
    return one == two or difflib.SequenceMatcher(None, one, two).ratio() >= ALIKE
