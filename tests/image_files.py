"""Image files that Pillow reads and cannot write."""

import struct

import numpy as np


def grey_tiff(levels, *, bits, photometric=1):
    """A row of grey levels as a TIFF of `bits` a sample, written by hand: Pillow writes 8 and 16 only."""
    packed = sum(int(level) << (bits * place) for place, level in enumerate(reversed(levels)))
    content = (packed << (-bits * len(levels) % 8)).to_bytes(-(-bits * len(levels) // 8), "big")
    if bits == 16:
        content = np.array(levels, dtype="<u2").tobytes()
    tags = [
        (256, 3, len(levels)), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
        (273, 4, 8 + 2 + 12 * 9 + 4), (277, 3, 1), (278, 3, 1), (279, 4, len(content)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + content
