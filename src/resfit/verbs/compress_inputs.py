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
from resfit.verbs.model_and_data import cut_notes, load_for, own_max_unreadable, own_split_seed, with_split_seed


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """original: as it is to be compressed; splits: train and validation, which every choice is made on.

    roles: of all three, for results. max_unreadable: a share of all images; test_unreadable: one of the test images
    that those left out of them are within. notes: what a user should know of the model and the cut.
    """

    original: Model
    splits: Splits
    roles: dict[str, Any]
    split_seed: int
    max_unreadable: float
    test_unreadable: float
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
    share = max_unreadable if max_unreadable is not None else own_max_unreadable(source)
    # The test images too, as in training: what the proof would refuse is refused before the work, not after
    opened = open_data(data, preprocessing=loaded.preprocessing, split_seed=seed, max_unreadable=share)
    opened = match_splits(opened, loaded.labels)
    labelled = dataclasses.replace(loaded, labels=opened.labels)
    return Inputs(
        original=with_split_seed(labelled, seed if own is None else own),
        splits=_without_test(opened),
        roles=opened.roles(),
        split_seed=seed,
        max_unreadable=share,
        test_unreadable=_test_unreadable(opened),
        notes=notes,
    )


def _without_test(splits: Splits) -> Splits:
    """The splits that choices are made on, so that the test images' memory is free while they are."""
    return Splits(
        train=splits.train,
        validation=splits.validation,
        test=None,
        labels=splits.labels,
        sources={role: source for role, source in splits.sources.items() if role != "test"},
        preprocessing=splits.preprocessing,
        skipped=[image for image in splits.skipped if image.role != "test"],
    )


def _test_unreadable(splits: Splits) -> float:
    """A share of the test images, opened alone, that allows those left out of them and not one more."""
    left_out = sum(image.role == "test" for image in splits.skipped)
    return (left_out + 0.5) / (left_out + len(splits.role("test"))) if left_out else 0.0


def _artifact_notes(source: str) -> tuple[str, ...]:
    if not Path(source).is_dir() or (artifact := artifact_of(source)) is None:
        return ()
    return (f"what is compressed is the network of {source}, not its artifact {artifact.name}",)
