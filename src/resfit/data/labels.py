"""Classes are matched by name; by position only where a model has mere numbers for them, as foreign checkpoints do."""

from collections.abc import Sequence

import numpy as np

from resfit.data.dataset import ArrayDataset, Splits
from resfit.errors import DataError


class LabelMismatch(DataError):
    """The data's classes and the model's differ."""

    code = "label-mismatch"


def match_labels(dataset: ArrayDataset, labels: tuple[str, ...], *, num_classes: int) -> ArrayDataset:
    """The dataset with targets in the model's order of `labels`.

    A model without label names (an imported checkpoint: none, or mere numbers) takes the data's order when its
    `num_classes` agrees, and no other data: an output 3 is not the folder "3". Of a model with names, classes that
    the data lacks are fine; LabelMismatch names those of the data that the model lacks.
    """
    if mere_numbers(labels):
        if len(dataset.labels) != num_classes:
            raise LabelMismatch(
                f"the model tells {num_classes} classes apart and carries no names;"
                f" the data has {len(dataset.labels)} ({', '.join(dataset.labels[:10])})"
            )
        return dataset
    if tuple(labels) == dataset.labels:
        return dataset
    place = {label: target for target, label in enumerate(labels)}
    unknown = [label for label in dataset.labels if label not in place]
    if unknown:
        lacking = [label for label in labels if label not in set(dataset.labels)]
        raise LabelMismatch(
            f"the data has classes the model does not know: {', '.join(unknown[:10])}"
            + (f"; the model knows {', '.join(lacking[:10])}" if lacking else ""),
            hint="rename the class folders as the model names them",
        )
    moved = np.array([place[label] for label in dataset.labels], dtype=np.int64)
    return ArrayDataset(
        images=dataset.images,
        targets=moved[dataset.targets],
        labels=tuple(labels),
        fingerprint=dataset.fingerprint,
        names=dataset.names,
        digests=dataset.digests,
    )


def match_splits(splits: Splits, labels: tuple[str, ...]) -> Splits:
    """The splits with each loaded role as `match_labels` gives it; their `labels` are those the model is to have."""
    loaded = {role: splits.role(role) for role in splits.roles()}
    matched = {role: match_labels(data, labels, num_classes=len(labels)) for role, data in loaded.items()}
    if all(matched[role] is data for role, data in loaded.items()):
        return splits
    return Splits(
        train=matched.get("train"),
        validation=matched.get("validation"),
        test=matched.get("test"),
        labels=next(iter(matched.values())).labels,
        sources=splits.sources,
        preprocessing=splits.preprocessing,
        skipped=splits.skipped,
    )


def numbered(num_classes: int) -> tuple[str, ...]:
    """The labels of classes without names: 0, 1, 2 and so on."""
    return tuple(map(str, range(num_classes)))


def named_after(labels: tuple[str, ...], data_labels: tuple[str, ...]) -> tuple[str, ...]:
    """The labels of a model, or, where they are mere numbers of as many classes, those of the data."""
    return data_labels if mere_numbers(labels) and len(labels) == len(data_labels) else labels


def mere_numbers(labels: Sequence[str]) -> bool:
    """Whether classes have no names, or mere numbers, as those of foreign checkpoints."""
    return tuple(labels) == numbered(len(labels))
