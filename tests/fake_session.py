"""A session that wraps a function, for tests of what is done with sessions."""

from collections.abc import Callable

import numpy as np

from resfit.data.preprocessing import Preprocessing

RGB_8 = Preprocessing(height=8, width=8, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)


class FakeSession:
    """Answers with `logits(images)`, and keeps the images of each run."""

    engine = "fake"
    threads = 1
    precision = "fp32"

    def __init__(
        self,
        logits: Callable[[np.ndarray], np.ndarray],
        *,
        labels: tuple[str, ...] = ("dark", "bright"),
        preprocessing: Preprocessing = RGB_8,
    ):
        self._logits = logits
        self.labels = labels
        self.preprocessing = preprocessing
        self.runs: list[np.ndarray] = []

    def run(self, images: np.ndarray) -> np.ndarray:
        """Logits (N, classes) of uint8 images (N, height, width, channels)."""
        self.runs.append(images)
        return self._logits(images)


def brightness(images: np.ndarray) -> np.ndarray:
    """Logits of (dark, bright): the mean pixel, about the middle, in sixteenths of the range."""
    level = (images.reshape(len(images), -1).mean(axis=1) - 127.5) / 16
    return np.stack([-level, level], axis=1).astype(np.float32)
