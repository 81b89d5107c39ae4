"""Augmentation of uint8 images: `draw` holds all the chance, `apply` and `mix` are pure."""

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from resfit.data.augmentations.colors import jittered
from resfit.data.augmentations.geometry import rotation, warped, windows
from resfit.data.augmentations.mixing import cut_out, mixed
from resfit.data.augmentations.trivial import OPERATIONS, STRENGTHS, trivially_augmented
from resfit.errors import UsageError
from resfit.randomness import rng

MAX_PADDING = 64
MAX_CUTOUT = 1024
_RANGES = {"rotate_degrees": 180, "color": 1, "mixup": 100, "cutmix": 100}


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is done to an image, in this order; zeros and False leave it alone.

    crop_padding: so many pixels are added around the image and a window of its size is cut out. They mirror
        the image: He et al. pad the mean-subtracted image with zeros, which is its mean colour; in uint8 a
        zero is black, a frame no test image has.
    flip: left and right change places in half of the images.
    rotate_degrees: turned by up to so much either way, 0 to 180, mirrored outside, bilinear.
    color: brightness, contrast and saturation each times 1 - color to 1 + color, 0 to 1.
    trivial: one operation of TrivialAugment.
    cutout: the side of a square, in pixels, that is blanked around a random place.
    mixup, cutmix: the image is blended with, or has a box of, the next image in the epoch's order; its share
        is drawn from Beta(alpha, alpha) with this number as alpha. Where both are set, each takes half of
        the images.
    UsageError for values out of range.
    """

    crop_padding: int = 0
    flip: bool = False
    rotate_degrees: float = 0.0
    color: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    trivial: bool = False

    def __post_init__(self) -> None:
        for name, highest in (("crop_padding", MAX_PADDING), ("cutout", MAX_CUTOUT)):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value <= highest:
                raise UsageError(f"{name.replace('_', ' ')} {value!r}: 0 to {highest} pixels expected")
        for name, highest in _RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= highest:
                raise UsageError(f"{name.replace('_', ' ')} {value!r}: a number from 0 to {highest} expected")

    @property
    def mixes(self) -> bool:
        """Whether two images are made one, so that a batch has partners and shares."""
        return bool(self.mixup or self.cutmix)

    @property
    def changes_images(self) -> bool:
        """Whether any image comes out other than it went in."""
        return any(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """What chance decided, for each image; None for what is not done at all.

    `top`, `left`: the window's corner in the padded image. `flipped` bool. `degrees` counter-clockwise.
    `factors` (N, 3): brightness, contrast, saturation. `operations`, `strengths`: see trivially_augmented.
    `holes`, `boxes` (N, 2): the middle of what cutout and cutmix cut, as shares of height and width.
    `shares`: what stays of the first image in a mixed one. `cut` bool: by cutmix.
    """

    top: np.ndarray
    left: np.ndarray
    flipped: np.ndarray
    degrees: np.ndarray | None = None
    factors: np.ndarray | None = None
    operations: np.ndarray | None = None
    strengths: np.ndarray | None = None
    holes: np.ndarray | None = None
    boxes: np.ndarray | None = None
    shares: np.ndarray | None = None
    cut: np.ndarray | None = None

    def take(self, indices: np.ndarray) -> "Draws":
        """The draws of the images at `indices`."""
        drawn = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: array[indices] for name, array in drawn.items() if array is not None})


def draw(augment: Augment, *, count: int, seed: int, epoch: int) -> Draws:
    """Draws for images 0..count-1 in one epoch; an image's own depend on (seed, epoch, its index) alone.

    One array an epoch, indexed by image, costs a hundredth of a generator an image. Each kind of draw has its
    own stream, so that switching one on leaves the others as they were.
    """
    offsets = (rng(seed, "augment", epoch).random((count, 2)) * (2 * augment.crop_padding + 1)).astype(np.int64)
    drawn: dict[str, np.ndarray] = {
        "top": offsets[:, 0],
        "left": offsets[:, 1],
        "flipped": _flipped(count, seed, epoch) if augment.flip else np.zeros(count, dtype=bool),
    }
    if augment.rotate_degrees:
        drawn["degrees"] = (2 * rng(seed, "rotate", epoch).random(count) - 1) * augment.rotate_degrees
    if augment.color:
        drawn["factors"] = 1 + (2 * rng(seed, "color", epoch).random((count, 3)) - 1) * augment.color
    if augment.trivial:
        chance = rng(seed, "trivial", epoch).random((count, 3))
        drawn["operations"] = (chance[:, 0] * len(OPERATIONS)).astype(np.int64)
        drawn["strengths"] = (chance[:, 1] * (STRENGTHS + 1)).astype(np.int64) * np.where(chance[:, 2] < 0.5, -1, 1)
    if augment.cutout:
        drawn["holes"] = rng(seed, "cutout", epoch).random((count, 2))
    if augment.mixes:
        drawn |= _mixing(augment, count, seed, epoch)
    return Draws(**drawn)


def _flipped(count: int, seed: int, epoch: int) -> np.ndarray:
    """Half of the images in one epoch, the other half in the next: two epochs show each image both ways.

    Flips drawn anew each epoch show many images the same way twice running. Jordan 2024 (arXiv 2404.00498)
    proposes such alternating flips and reports them to be at least as good wherever flips help at all.
    """
    return (rng(seed, "flip").random(count) < 0.5) ^ bool(epoch % 2)


def _mixing(augment: Augment, count: int, seed: int, epoch: int) -> dict[str, np.ndarray]:
    chance = rng(seed, "mix", epoch).random((count, 3))
    cut = chance[:, 2] < (0.5 if augment.mixup and augment.cutmix else bool(augment.cutmix))
    shares = np.empty(count)
    for name, chosen in (("mixup", ~cut), ("cutmix", cut)):
        alpha = getattr(augment, name)
        if alpha:
            shares[chosen] = rng(seed, name, epoch).beta(alpha, alpha, size=count)[chosen]
    return {"boxes": chance[:, :2], "cut": cut, "shares": shares}


def apply(images: np.ndarray, draws: Draws, augment: Augment) -> np.ndarray:
    """The images uint8 (N, height, width, channels), each by itself as drawn; what mixes them is `mix`.

    UsageError when the images are no larger than what cutout would blank.
    """
    if augment.cutout >= min(images.shape[1:3]):
        raise UsageError(
            f"cutout {augment.cutout}: no part of {images.shape[2]} x {images.shape[1]} images would be left",
            hint="half the image's side is usual",
        )
    if augment.crop_padding or augment.flip:
        images = windows(images, top=draws.top, left=draws.left, flipped=draws.flipped, padding=augment.crop_padding)
    if draws.degrees is not None:
        images = warped(images, rotation(draws.degrees))
    if draws.factors is not None:
        brightness, contrast, saturation = draws.factors.T
        images = jittered(images, brightness=brightness, contrast=contrast, saturation=saturation)
    if draws.operations is not None and draws.strengths is not None:
        images = trivially_augmented(images, operations=draws.operations, strengths=draws.strengths)
    if draws.holes is not None:
        images = cut_out(images, centers=draws.holes, size=augment.cutout)
    return images


def mix(images: np.ndarray, others: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Each image made one with its other as drawn for the first: images, and the first's shares float32 (N,)."""
    assert draws.shares is not None
    assert draws.cut is not None
    assert draws.boxes is not None
    return mixed(images, others, shares=draws.shares, cut=draws.cut, centers=draws.boxes)
