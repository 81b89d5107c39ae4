"""What a compression begins with: the model, and images whose classes are the model's."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resfit.data.dataset import Splits
from resfit.data.labels import match_splits
from resfit.data.sources import open_data
from resfit.inference.opening import artifact_of
from resfit.model.model import Model
from resfit.verbs.model_and_data import cut_notes, load_for, own_split_seed, with_split_seed
from resfit.verbs.request import opening_of_the_run


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """original: as it is to be compressed; splits: train and validation, which every choice is made on.

    roles: of all three, for results. notes: what a user should know of the model and the cut.
    """

    original: Model
    splits: Splits
    roles: dict[str, Any]
    split_seed: int
    max_unreadable: float
    notes: tuple[str, ...]


def open_inputs(
    source: str,
    data: str,
    *,
    img_size: int | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    split_seed: int | None,
    max_unreadable: float | None,
) -> Inputs:
    """The model and its images; what cannot be used of either is an error here, before anything is tried.

    split_seed, max_unreadable: None is what the model's own training was asked for, else 0.
    """
    loaded = load_for(source, data, img_size=img_size, mean=mean, std=std)
    own = own_split_seed(source, loaded)
    notes = (*loaded.provenance.notes, *_artifact_notes(source), *cut_notes(own, split_seed))
    seed = split_seed if split_seed is not None else own or 0
    share = max_unreadable
    if share is None:
        share = float((opening_of_the_run(source) or {}).get("max_unreadable") or 0.0)
    opening: dict[str, Any] = {"preprocessing": loaded.preprocessing, "split_seed": seed, "max_unreadable": share}
    # As the proof will open them, and then let go: what it would refuse is refused before the work, not after
    test = match_splits(open_data(data, roles=("test",), **opening), loaded.labels)
    splits = match_splits(open_data(data, roles=("train", "validation"), **opening), loaded.labels)
    original = with_split_seed(dataclasses.replace(loaded, labels=splits.labels), seed)
    return Inputs(
        original=original,
        splits=splits,
        roles={**splits.roles(), **test.roles()},
        split_seed=seed,
        max_unreadable=share,
        notes=notes,
    )


def _artifact_notes(source: str) -> tuple[str, ...]:
    if not Path(source).is_dir() or (artifact := artifact_of(source)) is None:
        return ()
    return (f"what is compressed is the network of {source}, not its artifact {artifact.name}",)
