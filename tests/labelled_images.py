"""Small labelled images for tests of the ways data comes: noise, one content a number, encoded or as pixels."""

import io

import numpy as np
from PIL import Image


def pixels(number, *, size=(6, 6), channels=3):
    """uint8 (height, width, channels), or (height, width) for one channel, always the same for a number."""
    height, width = size
    noise = np.random.default_rng(number).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return noise[:, :, 0] if channels == 1 else noise


def encoded(number, kind="PNG", **options):
    """The same pixels as an image file."""
    stream = io.BytesIO()
    Image.fromarray(pixels(number, **options)).save(stream, kind)
    return stream.getvalue()


def place(path, number, kind="PNG", **options):
    """Write the image file of a number to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(number, kind, **options))
    return path


def sizes(splits):
    """Role -> number of images."""
    return {role: values["num_images"] for role, values in splits.roles().items()}


def labels_by_name(splits):
    """Name -> label of every image of every loaded role."""
    found = {}
    for role in splits.roles():
        part = splits.role(role)
        found |= {part.name(index): part.labels[part.targets[index]] for index in range(len(part))}
    return found
