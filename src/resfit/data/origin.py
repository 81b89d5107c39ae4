"""Where images come from, before the three roles are assigned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from resfit.data.listing import Listing

WHOLE = "whole"  # the name of a set that declares no split


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a path declares: `listings` by role (or `WHOLE`), read when called; `where` names each for people.

    `basis` says what a hash-seeded cut goes by, such as "file names".
    """

    labels: tuple[str, ...]
    listings: Mapping[str, Callable[[], Listing]]
    where: Mapping[str, str]
    basis: str


# What folders and files of a split are called, in any case.
SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
