"""How far two runs of one network disagree on the same images."""

from typing import Any, Protocol

import numpy as np

BATCH = 64


class Runs(Protocol):
    """A session, or anything else that gives logits for images."""

    def run(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]: ...


def compare(first: Runs, second: Runs, images: np.ndarray[Any, Any]) -> dict[str, Any]:
    """top1_agreement (fraction of images with the same answer), differing_answers, max_abs_difference (of logits).

    images: uint8 (N, height, width, channels), at least one.
    """
    agreements, difference = 0, 0.0
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        logits, others = first.run(batch), second.run(batch)
        agreements += int((logits.argmax(1) == others.argmax(1)).sum())
        difference = max(difference, float(np.abs(logits - others).max()))
    return {
        "top1_agreement": agreements / len(images),
        "differing_answers": len(images) - agreements,
        "max_abs_difference": difference,
    }
