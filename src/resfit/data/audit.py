"""What is wrong, or looks wrong, with labelled images: everything is listed, nothing is changed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resfit.data.class_names import name_differences, written_twice
from resfit.data.examination import Examination, examine
from resfit.data.inventory import Inventory
from resfit.data.near_duplicates import describe, grouped, near_pairs
from resfit.data.suspects import suspect_labels
from resfit.data.thumbnails import Thumbnails

SMALLEST = 8  # pixels: under this nothing can be told, whatever the others measure
TINY_SHARE = 3  # tiny: at most a third of the usual shorter side
ENLARGED = 4  # or so small that --img-size would enlarge it by more than this
LEAST_COMPARED = 16  # pixels: smaller images look alike without being one picture; only equal bytes count
ONE_COLOUR_RANGE = 8  # grey levels: what JPEG and a camera's noise leave of a plain surface


@dataclass(frozen=True, kw_only=True)
class Audit:
    """All findings, as plain values; each field is a key of the JSON.

    Paths are as the data names them; split names are train, validation, test, or "whole" where none is declared.
    `duplicates` groups paths of one picture and `duplicate_kinds` says of each group whether its files are equal
    byte for byte ("exact") or look the same ("near"). Nothing here stops a training by itself; `refusal` is why
    training would refuse the data as a whole.
    """

    num_images: int
    splits: dict[str, int]
    refusal: str
    corrupt: list[dict[str, str]]
    empty: list[str]
    empty_classes: list[dict[str, str]]
    ignored: list[str]
    duplicates: list[list[str]]
    duplicate_kinds: list[str]
    leaks: list[dict[str, Any]]
    label_conflicts: list[dict[str, Any]]
    tiny: list[dict[str, Any]]
    one_colour: list[str]
    suspect_labels: list[dict[str, Any]]
    class_counts: dict[str, dict[str, int]]
    imbalance: dict[str, float | None]
    class_names: list[dict[str, Any]]
    class_names_twice: list[list[str]]
    notes: list[str] = field(default_factory=list)


def audit_inventory(inventory: Inventory, *, img_size: int | None = None) -> Audit:
    """Look at every image listed; `img_size` (pixels) is what training would bring them to.

    Bad images, classes and splits are findings, never errors.
    """
    targets = inventory.listing.targets
    with Thumbnails(len(targets)) as thumbnails:
        seen = examine(inventory.listing, thumbnails)
        plain = seen.usable & (seen.ranges <= ONE_COLOUR_RANGE)
        telling = seen.usable & ~plain
        comparable = telling & (seen.sizes.min(axis=1) >= LEAST_COMPARED)
        pairs, complete = near_pairs(describe(thumbnails, comparable))
        groups = _groups(seen, pairs)
        suspects = suspect_labels(
            thumbnails, targets, num_classes=len(inventory.listing.labels), usable=telling, groups=groups
        )
    return _report(inventory, seen, groups, suspects, plain, img_size=img_size, complete=complete)


def _report(
    inventory: Inventory,
    seen: Examination,
    groups: np.ndarray,
    suspects: list[tuple[int, int, float]],
    plain: np.ndarray,
    *,
    img_size: int | None,
    complete: bool,
) -> Audit:
    listing, names = inventory.listing, inventory.listing.names
    members = list(_members(groups, seen.usable))
    counts = _class_counts(inventory)
    notes = [] if complete else ["most images are copies of a few; the search for near duplicates was cut short"]
    return Audit(
        num_images=len(listing),
        splits={split: int((inventory.split_of == place).sum()) for place, split in enumerate(inventory.splits)},
        refusal=inventory.refusal,
        corrupt=[{"path": names[index], "reason": seen.failures[index]} for index in sorted(seen.failures)],
        empty=[names[index] for index in sorted(seen.failures) if _is_empty(seen.failures[index])],
        empty_classes=[
            {"split": split, "class": label} for split, found in counts.items() for label, n in found.items() if not n
        ],
        ignored=list(inventory.ignored),
        duplicates=[[names[index] for index in group] for group in members],
        duplicate_kinds=[_kind(seen, group) for group in members],
        leaks=[leak for group in members if (leak := _leak(inventory, seen, group))],
        label_conflicts=[conflict for group in members if (conflict := _conflict(inventory, group))],
        tiny=_tiny(inventory, seen, img_size),
        one_colour=[names[index] for index in np.flatnonzero(plain)],
        suspect_labels=[
            {
                "path": names[index],
                "label": listing.labels[listing.targets[index]],
                "suggested": listing.labels[suggested],
                "score": round(score, 3),
            }
            for index, suggested, score in suspects
        ],
        class_counts=counts,
        imbalance={split: _imbalance(found) for split, found in counts.items()},
        class_names=name_differences(inventory.declared),
        class_names_twice=written_twice(inventory.declared),
        notes=notes,
    )


def _is_empty(reason: str) -> bool:
    return "file is empty" in reason


def _groups(seen: Examination, pairs: np.ndarray) -> np.ndarray:
    """int64 (N,): the first image of the group of each, over equal bytes and near pairs together."""
    rows = np.ascontiguousarray(seen.digests).view("V32").reshape(-1)
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    same = np.stack([first[inverse], np.arange(len(rows))], axis=1)[seen.usable]
    return grouped(len(rows), np.concatenate([pairs, same]))


def _members(groups: np.ndarray, usable: np.ndarray) -> Iterator[list[int]]:
    """Groups of two or more, ordered by their first image."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        if stop - start > 1 and usable[order[start]]:
            yield order[start:stop].tolist()


def _kind(seen: Examination, group: list[int]) -> str:
    return "exact" if len({seen.digests[index].tobytes() for index in group}) == 1 else "near"


def _leak(inventory: Inventory, seen: Examination, group: list[int]) -> dict[str, Any] | None:
    """The group, if its images lie in more than one split; exact where equal bytes do."""
    splits = sorted({int(inventory.split_of[index]) for index in group})
    if len(splits) < 2:
        return None
    held: dict[bytes, set[int]] = {}
    for index in group:
        held.setdefault(seen.digests[index].tobytes(), set()).add(int(inventory.split_of[index]))
    return {
        "paths": [inventory.listing.names[index] for index in group],
        "splits": [inventory.splits[split] for split in splits],
        "kind": "exact" if any(len(places) > 1 for places in held.values()) else "near",
    }


def _conflict(inventory: Inventory, group: list[int]) -> dict[str, Any] | None:
    """The group, if one picture carries several labels."""
    listing = inventory.listing
    labels = [listing.labels[listing.targets[index]] for index in group]
    if len(set(labels)) < 2:
        return None
    return {"paths": [listing.names[index] for index in group], "labels": labels}


def _tiny(inventory: Inventory, seen: Examination, img_size: int | None) -> list[dict[str, Any]]:
    """Images too small beside the others, or for the size that training would bring them to."""
    shorter = seen.sizes.min(axis=1)
    usable = seen.usable
    if not usable.any():
        return []
    limit = max(SMALLEST - 1, float(np.median(shorter[usable])) / TINY_SHARE)
    if img_size is not None:
        limit = max(limit, (img_size - 1) / ENLARGED)
    return [
        {
            "path": inventory.listing.names[index],
            "width": int(seen.sizes[index, 0]),
            "height": int(seen.sizes[index, 1]),
        }
        for index in np.flatnonzero(usable & (shorter <= limit))
    ]


def _class_counts(inventory: Inventory) -> dict[str, dict[str, int]]:
    """Images listed a class, for every split and every class that any split names."""
    listing = inventory.listing
    counts = {}
    for place, split in enumerate(inventory.splits):
        found = np.bincount(listing.targets[inventory.split_of == place], minlength=len(listing.labels))
        named = set(inventory.declared[split])
        counts[split] = {
            label: int(count) for label, count in zip(listing.labels, found, strict=True) if count or label in named
        }
    return counts


def _imbalance(counts: dict[str, int]) -> float | None:
    """Images of the largest class for one of the smallest that has any; None where there are no images."""
    present = [count for count in counts.values() if count]
    return round(max(present) / min(present), 3) if present else None
