"""Which images play which role: as the data declares, or cut by hashes where it declares too little."""

from collections.abc import Callable

import numpy as np

from resfit.data.dataset import ROLES
from resfit.data.listing import Listing
from resfit.data.origin import WHOLE, Origin
from resfit.data.splitting import cut_test, cut_validation
from resfit.errors import DataError


def assign_roles(
    origin: Origin, *, needed: set[str], wanted: tuple[str, ...], seed: int
) -> tuple[dict[str, Listing], dict[str, str]]:
    """Role -> listing for `needed` roles (those of `wanted` must exist), and role -> where it came from.

    Train with one more split: that is the test, and validation is cut from train. All three: each as it says.
    One set alone is cut in three.
    """
    declared, where = origin.listings, origin.where
    whole = next((name for name in (WHOLE, "train") if tuple(declared) == (name,)), None)
    listings: dict[str, Listing] = {}
    sources: dict[str, str] = {}
    if whole is not None:
        rest, test = _cut(declared[whole](), cut_test, seed)
        listings["train"], listings["validation"] = _cut(rest, cut_validation, seed)
        listings["test"] = test
        sources = _cut_sentences(where[whole], origin.basis, seed)
        sources["test"] = f"20 % of {where[whole]}, a class at a time, chosen by hashes of {origin.basis}"
    elif set(declared) == set(ROLES) or "train" not in declared:
        sources = dict(where)
        listings = {role: declared[role]() for role in declared if role in needed}
        if len(declared) == 1:  # validation images alone can only serve as a test
            only = next(iter(declared))
            listings, sources = {"test": declared[only]()}, {"test": where[only]}
    else:
        other = next(role for role in declared if role != "train")
        sources = _cut_sentences(where["train"], origin.basis, seed) | {"test": where[other]}
        if needed & {"train", "validation"}:
            listings["train"], listings["validation"] = _cut(declared["train"](), cut_validation, seed)
        if "test" in needed:
            listings["test"] = declared[other]()
    for role in wanted:
        if role not in listings or not len(listings[role]):
            raise DataError(f"there are no {role} images in this data (splits: {', '.join(where.values())})")
    if "train" in listings and "train" in wanted:
        _refuse_untaught(listings["train"])
    return listings, sources


def _cut(listing: Listing, how: Callable[..., tuple[np.ndarray, np.ndarray]], seed: int) -> tuple[Listing, Listing]:
    kept, cut_off = how(listing.keys, listing.targets, seed=seed)
    return listing.subset(kept), listing.subset(cut_off)


def _cut_sentences(where: str, basis: str, seed: int) -> dict[str, str]:
    return {
        "train": f"{where}, without what is cut off for other roles",
        "validation": (
            f"10 % of the training images of {where} (at most 2,500), a class at a time,"
            f" chosen by hashes of {basis} (split seed {seed})"
        ),
    }


def _refuse_untaught(train: Listing) -> None:
    counts = np.bincount(train.targets, minlength=len(train.labels))
    untaught = [train.labels[target] for target in np.flatnonzero(counts == 0)]
    if untaught:
        raise DataError(f"classes without a training image: {', '.join(untaught[:10])}")
