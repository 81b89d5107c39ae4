"""Classes are matched by name, never by position."""

import numpy as np

from resfit.data.dataset import ArrayDataset
from resfit.errors import DataError


class LabelMismatch(DataError):
    """The data's classes and the model's differ."""

    code = "label-mismatch"


def match_labels(dataset: ArrayDataset, labels: tuple[str, ...], *, num_classes: int) -> ArrayDataset:
    """The dataset with targets in the model's order of `labels`.

    A model without label names (an imported checkpoint) takes the data's order when its `num_classes` agrees.
    Classes of the model that the data lacks are fine; LabelMismatch names those of the data that the model
    lacks.
    """
    if not labels:
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
