"""Scikit-learn's handwritten digits, embedded: 1,797 real grey images of 8x8 pixels in ten classes.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository
(1998), CC BY 4.0, the test part, as scikit-learn's `load_digits` gives it. The 17 grey levels are scaled to
bytes: round(level * 255 / 16).
"""

import hashlib
from importlib.resources import files

import numpy as np

from resfit.data.listing import Listing


def list_digits() -> Listing:
    """All 1,797 digits, each as the bytes of a PGM image, so that they pass the same decoder as any file."""
    with files("resfit.data").joinpath("digits.npz").open("rb") as stored:
        arrays = np.load(stored, allow_pickle=False)
        images, targets = arrays["images"], arrays["targets"].astype(np.int64)
    height, width = images.shape[1:]
    encoded = [b"P5 %d %d 255\n" % (width, height) + image.tobytes() for image in images]
    return Listing(
        names=tuple(f"digits/{index:04d}" for index in range(len(encoded))),
        keys=tuple(hashlib.sha256(content).hexdigest() for content in encoded),
        targets=targets,
        labels=tuple(str(digit) for digit in range(10)),
        read=encoded.__getitem__,
    )
