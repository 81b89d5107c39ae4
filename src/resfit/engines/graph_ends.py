"""Both ends of a graph: what its file takes for images, and logits from what it gives; numpy alone."""

from typing import Any

import numpy as np

from resfit.engines.metadata import Metadata
from resfit.engines.session import check_images

LEAST_PROBABILITY = np.finfo(np.float32).tiny  # so that the logarithm of a probability of zero is finite

Array = np.ndarray[Any, Any]


def network_input(images: Array, metadata: Metadata) -> Array:
    """Decoded images, uint8 (N, height, width, channels), as the graph of this metadata reads them.

    The images themselves, or normalised float32 (N, channels, height, width). Other images are an EngineError.
    """
    check_images(images, metadata.preprocessing)
    if metadata.input == "pixels":
        return images
    mean, std = (
        np.asarray(values, dtype=np.float64).reshape(-1, 1, 1)
        for values in (metadata.preprocessing.mean, metadata.preprocessing.std)
    )
    pixels = images.transpose(0, 3, 1, 2).astype(np.float32)
    pixels *= (1 / (255 * std)).astype(np.float32)
    pixels += (-mean / std).astype(np.float32)
    return np.ascontiguousarray(pixels)


def as_logits(output: Array, metadata: Metadata) -> Array:
    """Logits, float32 (N, classes), of a graph's output.

    Of probabilities their logarithms, whose softmax gives the probabilities back: logits up to a constant.
    """
    if metadata.output == "logits":
        return output
    return np.log(np.maximum(output, LEAST_PROBABILITY))
