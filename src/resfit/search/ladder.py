"""The candidates: a ladder of residual networks from tiny to large for one image size."""

from dataclasses import dataclass
from typing import Any

from resfit.nn.spec import ResNetSpec

# (channels of the first stage, blocks a stage), by rising cost
RUNGS = (
    (4, 1), (8, 1), (12, 1), (16, 1), (16, 2), (24, 1), (24, 2), (32, 1), (32, 2), (48, 1), (32, 3), (48, 2),
    (64, 1), (64, 2), (96, 1), (96, 2),
)  # fmt: skip
SMALL_IMAGE, MEDIUM_IMAGE = 40, 80  # pixels of the shorter side


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network of the ladder; its name tells depth and first width."""

    name: str
    spec: ResNetSpec


def candidates(height: int, width: int, *, channels: int, num_classes: int) -> tuple[Candidate, ...]:
    """At least a dozen networks for images of this size, from tiny to large.

    Images below 40 pixels keep their size in the first stage (He et al. 2015, 4.2); larger ones are halved in
    each stage, and above 80 pixels first by the stem, so that the last stage sees 4 to 8 pixels a side.
    """
    side = min(height, width)
    shape: dict[str, Any]
    if side <= SMALL_IMAGE:
        shape = {"stem": "cifar", "strides": (1, 2, 2)}
    elif side <= MEDIUM_IMAGE:
        shape = {"stem": "cifar", "strides": (2, 2, 2)}
    else:
        shape = {"stem": "imagenet", "strides": (1, 2, 2, 2)}
    return tuple(_candidate(first, blocks, shape, channels, num_classes) for first, blocks in RUNGS)


def _candidate(first: int, blocks: int, shape: dict[str, Any], channels: int, num_classes: int) -> Candidate:
    stages = len(shape["strides"])
    spec = ResNetSpec(
        depths=(blocks,) * stages,
        widths=tuple(first * 2**stage for stage in range(stages)),
        stem_width=first,
        num_classes=num_classes,
        in_channels=channels,
        **shape,
    )
    return Candidate(name=f"resnet{2 * blocks * stages + 2}-w{first}", spec=spec)
