"""Where images come from, before the three roles are assigned."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from resfit.data.listing import Listing
from resfit.errors import DataError, ModelError
from resfit.texts import labels_of

WHOLE = "whole"  # the name of a set that declares no split


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a path declares: `listings` by role (or `WHOLE`), read when called; `where` names each for people.

    `basis` says what a hash-seeded cut goes by, such as "file names". DataError for labels that a model's files
    could not tell again.
    """

    labels: tuple[str, ...]
    listings: Mapping[str, Callable[[], Listing]]
    where: Mapping[str, str]
    basis: str

    def __post_init__(self) -> None:
        try:
            labels_of(self.labels, what="class names")
        except ModelError as error:
            raise DataError(f"{next(iter(self.where.values()))}: {error.message}", hint=error.hint) from error


# What folders and files of a split are called, in any case.
SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
MAX_NAMED = 10


def declared_split(name: str) -> str | None:
    """The role a file's name declares in one of its parts (`train-00000`, `x_test`), or None; the first counts."""
    parts = re.split(r"[-_. ]+", name.lower())
    return next((SPLIT_NAMES[part] for part in parts if part in SPLIT_NAMES), None)


def common_labels(found: Mapping[str, Collection[str]], *, hint: str | None = None) -> tuple[str, ...]:
    """Class names in target order, whole numbers by value and all else in string order.

    `found` holds the classes of each split, by what people call it. DataError for fewer than two classes, and
    naming the classes that a split lacks and another has.
    """
    every = set().union(*found.values())
    for where, labels in found.items():
        missing = sorted(every - set(labels))
        if missing:
            raise DataError(
                f"{where} lacks classes that other splits have: {', '.join(missing[:MAX_NAMED])}",
                hint=hint or "splits must hold the same classes, named alike",
            )
    if len(every) < 2:
        raise DataError(
            f"{next(iter(found))} holds {f'one class only, {next(iter(every))}' if every else 'no class'}:"
            " two or more expected",
            hint=hint,
        )
    return tuple(sorted(every, key=int) if all(map(_is_whole_number, every)) else sorted(every))


def _is_whole_number(text: str) -> bool:
    return re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", text) is not None
