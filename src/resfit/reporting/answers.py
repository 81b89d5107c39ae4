"""Test images and what a network said of them, from the rows of an evaluation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from resfit.data.dataset import ArrayDataset
from resfit.reporting.content import Answer

Look = Callable[[np.ndarray, np.ndarray], np.ndarray]  # images, classes -> maps (N, h, w) from 0 to 1


def answers_of(rows: Sequence[Mapping[str, Any]], test: ArrayDataset, look: Look | None = None) -> tuple[Answer, ...]:
    """Answers with their pictures, and with the maps that `look` gives for the predicted classes.

    rows: index, label, predicted, probability; `index` counts in `test`.
    """
    if not rows:
        return ()
    places = np.array([row["index"] for row in rows], dtype=np.int64)
    images = test.images[places]
    classes = np.array([test.labels.index(row["predicted"]) for row in rows], dtype=np.int64)
    maps = [None] * len(rows) if look is None else look(images, classes)
    return tuple(
        Answer(
            pixels=images[position],
            name=test.name(int(places[position])),
            label=row["label"],
            predicted=row["predicted"],
            probability=row["probability"],
            looked=maps[position],
        )
        for position, row in enumerate(rows)
    )
