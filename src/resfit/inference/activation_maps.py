"""Where a network looked: class activation maps (Zhou et al. 2016, "Learning Deep Features for
Discriminative Localization").

The mean of a feature map over its pixels times the classifier's weights is a logit, so that the same sum
before the mean says what each place gives to it.
"""

from typing import TYPE_CHECKING

import numpy as np

from resfit.engines.session import check_images

if TYPE_CHECKING:
    from resfit.model.model import Model  # brings torch

BATCH_SIZE = 8
FLAT = 1e-5  # of its largest value: a map that varies less holds nothing but rounding


def class_evidence(model: "Model", images: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
    """What each place of the feature map before pooling adds to a class's logit: float32 (N, rows, columns).

    images: uint8 (N, height, width, channels) of the model's size; EngineError otherwise.
    classes: int (N,), the class to ask about in each image; by default the one the network answers.
    The mean of an image's evidence plus the classifier's bias is that class's logit. ValueError for classes
    that do not exist or are not one an image.
    """
    import torch

    check_images(images, model.preprocessing)
    wanted = None if classes is None else _checked_classes(classes, len(images), len(model.labels))
    network = model.module()
    seen: list[torch.Tensor] = []
    network.get_submodule("avgpool").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    weight = model.weights["fc.weight"]
    shape = (1, -1, 1, 1)
    mean = torch.tensor(model.preprocessing.mean).reshape(shape)
    std = torch.tensor(model.preprocessing.std).reshape(shape)
    parts = []
    for start in range(0, len(images), BATCH_SIZE):
        batch = np.ascontiguousarray(images[start : start + BATCH_SIZE])
        with torch.inference_mode():
            x = torch.from_numpy(batch).permute(0, 3, 1, 2).float()
            logits = network(((x / 255 - mean) / std).to(weight.dtype).contiguous())
            asked = logits.argmax(1) if wanted is None else torch.from_numpy(wanted[start : start + BATCH_SIZE])
            parts.append(torch.einsum("nchw,nc->nhw", seen.pop(), weight[asked]).float().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 1, 1), np.float32)


def activation_maps(model: "Model", images: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
    """Where each image speaks for a class: float32 (N, height, width), 0 the least and 1 the most of an image.

    Arguments and errors are those of `class_evidence`; its map is enlarged to the image bilinearly and
    stretched to 0..1, as the authors do. An image whose places all say the same has a map of zeros.
    """
    import torch

    evidence = class_evidence(model, images, classes)
    if not len(evidence):
        return np.zeros(images.shape[:3], np.float32)
    height, width = images.shape[1:3]
    enlarged = torch.nn.functional.interpolate(
        torch.from_numpy(evidence)[:, None], size=(height, width), mode="bilinear", align_corners=False
    )
    maps = enlarged[:, 0].numpy()
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    span = high - low
    tells = span > FLAT * np.abs(maps).max(axis=(1, 2), keepdims=True)
    return np.divide(maps - low, span, out=np.zeros_like(maps), where=tells)


def _checked_classes(classes: np.ndarray, count: int, num_classes: int) -> np.ndarray:
    classes = np.asarray(classes, dtype=np.int64)
    if classes.shape != (count,):
        raise ValueError(f"classes {classes.shape}: one an image expected, ({count},)")
    if count and not (classes.min() >= 0 and classes.max() < num_classes):
        raise ValueError(f"classes outside 0..{num_classes - 1}")
    return classes
