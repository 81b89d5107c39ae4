"""A process of its own that loads made-up images through a cache folder, for tests of two processes at once.

Arguments: folder, number of images, side in pixels, what to do. Prints one JSON line about what it did.
"""

import hashlib
import json
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np

from resfit.data.cache import CacheOptions
from resfit.data.listing import Listing
from resfit.data.loading import load_roles
from resfit.data.preprocessing import Preprocessing

BATCH = 16


def pixels(index: int, side: int) -> np.ndarray:
    """Noise of its own for every image, uint8 (side, side, 3)."""
    return np.random.default_rng(index).integers(0, 256, (side, side, 3), dtype=np.uint8)


def encoded(index: int, side: int) -> bytes:
    """The image as PPM."""
    return b"P6 %d %d 255\n" % (side, side) + pixels(index, side).tobytes()


def made_up(count: int, side: int, read=None) -> Listing:
    """A listing of `count` images in two classes."""
    names = tuple(f"{index}.ppm" for index in range(count))
    read = read or (lambda index: encoded(index, side))
    return Listing(names=names, keys=names, targets=np.arange(count) % 2, labels=("a", "b"), read=read)


def preprocessing(side: int) -> Preprocessing:
    """Images as they are, RGB."""
    return Preprocessing(height=side, width=side, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


def high_water_bytes() -> int:
    """VmHWM of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


def main(folder: Path, count: int, side: int, what: str) -> None:
    """`race`: when the file `start` appears. `stop`: stands still amid writing. `memory`: nothing is cached.
    `full`: no file may grow. `cache`: through the cache."""
    reads = 0

    def read(index: int) -> bytes:
        nonlocal reads
        reads += 1
        if what == "race":
            time.sleep(0.002)  # long enough that both are at it together
        if what == "stop" and reads > 1.5 * count:
            print("amid", flush=True)
            time.sleep(600)
        return encoded(index, side)

    if what == "full":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    if what == "race":
        print("ready", flush=True)
        while not (folder / "start").exists():
            time.sleep(0.001)
    before = high_water_bytes()
    options = CacheOptions(folder=folder, memory_bytes=10**12 if what == "memory" else 0)
    images = (
        load_roles({"train": made_up(count, side, read)}, preprocessing(side), cache=options).datasets["train"].images
    )
    digest = hashlib.sha256()
    for start in range(0, count, BATCH):
        digest.update(images[start : start + BATCH].tobytes())
    report = {
        "kind": type(images).__name__,
        "reads": reads,
        "sha256": digest.hexdigest(),
        "grown_bytes": high_water_bytes() - before,
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
