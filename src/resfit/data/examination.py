"""One pass over all encoded images: digest, size, how much the pixels vary, and a small picture of each."""

import hashlib
from dataclasses import dataclass

import numpy as np

from resfit.data.decoding import each_image
from resfit.data.listing import Listing
from resfit.data.preprocessing import fit_image, open_image, reason
from resfit.data.thumbnails import EDGE, SMALL, Thumbnails
from resfit.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class Examination:
    """What was found of N images; zeros where one cannot be used.

    `failures` place -> reason; `digests` uint8 (N, 32), sha256 of the encoded bytes; `sizes` int32 (N, 2), width
    and height in pixels; `ranges` uint8 (N,), the largest difference of levels in any channel of the small picture.
    """

    failures: dict[int, str]
    digests: np.ndarray
    sizes: np.ndarray
    ranges: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """bool (N,): which images can be decoded."""
        usable = np.ones(len(self.sizes), dtype=bool)
        usable[list(self.failures)] = False
        return usable


def examine(listing: Listing, thumbnails: Thumbnails) -> Examination:
    """Decode every image once, small, and keep its picture in `thumbnails`; a bad image is no reason to stop.

    JPEGs are decoded at a fraction of their size where that still covers the small picture: all of the file is
    read and any fault in it is met, at a fifth of the time.
    """
    sizes = np.zeros((len(listing), 2), dtype=np.int32)
    ranges = np.zeros(len(listing), dtype=np.uint8)

    def one(index: int) -> bytes:
        encoded = _encoded(listing, index)
        try:
            with open_image(encoded) as image:
                size = image.size
                image.draft(None, (2 * EDGE, 2 * EDGE))
                small = fit_image(image, SMALL)
        # Pillow's decoders raise many kinds on hostile bytes (struct.error, KeyError, ...): all mean a bad file.
        except Exception as error:
            raise DataError(f"{listing.names[index]}: {reason(error)}") from error
        sizes[index] = size
        ranges[index] = np.ptp(small, axis=(0, 1)).max()
        thumbnails.write(index, small)
        return hashlib.sha256(encoded).digest()

    found = each_image(listing, one, "examining images")
    return Examination(failures=dict(found.failures), digests=found.digests, sizes=sizes, ranges=ranges)


def _encoded(listing: Listing, index: int) -> bytes:
    try:
        return listing.read(index)
    except OSError as error:
        raise DataError(f"{listing.names[index]}: {reason(error)}") from error
