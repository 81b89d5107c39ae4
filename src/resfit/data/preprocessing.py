"""From an image file of any kind to the uint8 array a network reads: the one way, used by all rooms.

Training, evaluation, prediction and the generated `classify.py` all resize with Pillow as done here, so that
an exported network sees what the trained one saw. Normalisation (mean, std) happens inside the network's
graph; this module only carries its numbers.
"""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import ExifTags, Image, ImageOps

from resfit.data.listing import read_file
from resfit.errors import DataError, UsageError

# Formats Pillow decodes in its own process; others (EPS) would start an outside program on hostile input.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
MAX_SIDE = 4096
Fit = Literal["crop", "letterbox", "squash"]
Decoding = Literal["exact", "scaled"]
SCALED_REST = 2  # how much larger than the network's image a scaled JPEG stays, so that the resize still averages
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF 2.3, tag 274: what brings the stored image upright
BAR_LEVEL = 128  # of a letterbox's bars: the middle of the range, close to what normalisation makes zero
BITS_A_SAMPLE, PHOTOMETRIC = 258, 262  # tags of TIFF 6.0, section 8; photometric 0: the value 0 is white


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The image a network reads: size in pixels, channels (1 grey, 3 RGB), its normalisation, its fit.

    `mean` and `std` hold one value a channel as fractions of 255: the network computes
    `(pixel / 255 - mean) / std`. `fit` says how an image of another shape comes to the size: "crop" covers it
    and cuts the sides off, "letterbox" keeps all and adds grey bars, "squash" stretches. UsageError for values
    no network can have.
    """

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        for name in ("height", "width"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= MAX_SIDE:
                raise UsageError(f"{name} {value!r}: a whole number of pixels from 1 to {MAX_SIDE} expected")
        if self.channels not in (1, 3):
            raise UsageError(f"channels {self.channels!r}: 1 (grey) or 3 (RGB) expected")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != self.channels or not np.isfinite(values).all():
                raise UsageError(f"{name} {values}: {self.channels} finite values expected, one a channel")
        if min(self.std) <= 0:
            raise UsageError(f"std {self.std}: values above 0 expected")
        if self.fit not in get_args(Fit):
            raise UsageError(f"fit {self.fit!r}: {', '.join(get_args(Fit))} expected")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`; DataError names missing and unknown fields.

        Files written before there was a choice carry no `fit`: they mean "crop".
        """
        known = set(cls.__dataclass_fields__)
        if set(values) | {"fit"} != known:
            raise DataError(
                f"preprocessing with the fields {', '.join(sorted(values)) or 'none'}:"
                f" {', '.join(sorted(known))} expected"
            )
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


def fit_image(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """The image as uint8 (height, width, channels): upright, in eight bits, brought to the size by its fit.

    EXIF orientation is applied first. Alpha is dropped. Grey of 12 or 16 bits keeps its top 8 bits; ValueError
    for pixels without a known range (floating point, integers below 0 or beyond 16 bits).
    """
    tags = getattr(image, "tag_v2", {})  # TIFF's; asked before the image is copied without them
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # asked first: it copies the image either way
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; store 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _eight_bits(image, bits=tags.get(BITS_A_SAMPLE, (16,))[0], white_is_zero=tags.get(PHOTOMETRIC) == 0)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow's own advice: straight to RGB warns and guesses
    mode = "L" if preprocessing.channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    pixels = np.asarray(_sized(image, (preprocessing.width, preprocessing.height), preprocessing.fit))
    return pixels[:, :, None] if preprocessing.channels == 1 else pixels


def _eight_bits(image: Image.Image, *, bits: int, white_is_zero: bool) -> Image.Image:
    """Grey of 12 or 16 bits (or 16 bits in 32-bit integers) as mode L."""
    pixels = np.asarray(image)
    if pixels.size and not 0 <= pixels.min() <= pixels.max() <= 65535:
        raise ValueError(f"pixels from {pixels.min()} to {pixels.max()} have no known range; store 8 or 16 bits")
    top = (pixels >> (4 if bits == 12 else 8)).astype(np.uint8)
    return Image.fromarray(255 - top if white_is_zero else top)


def _sized(image: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """The image at (width, height), resampled linearly over all source pixels a target pixel covers."""
    if image.size == size:
        return image
    if fit == "crop":
        return ImageOps.fit(image, size, method=Image.Resampling.BILINEAR)
    if fit == "squash":
        return image.resize(size, Image.Resampling.BILINEAR)
    return _boxed(image.resize(_inner_size(image.size, size), Image.Resampling.BILINEAR), size)


def _inner_size(size: tuple[float, float], target: tuple[int, int]) -> tuple[int, int]:
    """What an image of `size` becomes within a letterbox of the size `target`; both (width, height)."""
    scale = min(target[0] / size[0], target[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _boxed(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    boxed = Image.new(image.mode, size, (BAR_LEVEL,) * len(image.getbands()))
    boxed.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return boxed


def fit_scaled(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """As `fit_image`, a large JPEG decoded at a half, a quarter or an eighth of its size (the inverse DCT of fewer
    coefficients) which leaves it at least SCALED_REST times the network's.

    `image` is as `open_image` gives it, not yet decoded. The same part of the picture is shown, to a fraction of
    a pixel; pixels differ by little (tests hold how much). Images that are no JPEG, or too small to be scaled,
    come from `fit_image`, bit for bit.
    """
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    turn = TURNS.get(orientation)
    upright = preprocessing.width, preprocessing.height
    target = upright[::-1] if turn is not None and orientation >= 5 else upright
    factor = _scale_factor(image.size, target, preprocessing.fit)
    drafted = None
    if factor > 1 and image.format in ("JPEG", "MPO"):
        drafted = image.draft(None, (image.width // factor, image.height // factor))
    if drafted is None:
        return fit_image(image, preprocessing)
    _, (_, _, width, height) = drafted  # fractions of a pixel: the last row and column may be covered in part
    letterbox = preprocessing.fit == "letterbox"
    small = image.convert("L" if preprocessing.channels == 1 else "RGB").resize(
        _inner_size((width, height), target) if letterbox else target,
        Image.Resampling.BILINEAR,
        box=_centre(width, height, target[0] / target[1]) if preprocessing.fit == "crop" else (0, 0, width, height),
    )
    small = small if turn is None else small.transpose(turn)
    pixels = np.asarray(_boxed(small, upright) if letterbox else small)
    return pixels[:, :, None] if preprocessing.channels == 1 else pixels


def _scale_factor(size: tuple[int, int], target: tuple[int, int], fit: Fit) -> int:
    """The most a JPEG of `size` may shrink while it is decoded: 1, 2, 4 or 8 (what every libjpeg offers)."""
    ratios = size[0] / target[0], size[1] / target[1]
    spare = (max(ratios) if fit == "letterbox" else min(ratios)) / SCALED_REST
    return next((factor for factor in (8, 4, 2) if factor <= spare), 1)


def _centre(width: float, height: float, ratio: float) -> tuple[float, float, float, float]:
    """The largest part of that width-to-height ratio in the middle, as left, upper, right, lower."""
    wide, high = min(width, height * ratio), min(height, width / ratio)
    return (width - wide) / 2, (height - high) / 2, (width + wide) / 2, (height + high) / 2


def open_image(source: bytes) -> Image.Image:
    """The image behind encoded bytes, header read and pixels not yet decoded; raises what Pillow raises."""
    if not source:
        raise ValueError("the file is empty")
    return Image.open(io.BytesIO(source), formats=FORMATS)


def decode(
    source: Path | str | bytes,
    preprocessing: Preprocessing,
    *,
    name: str | None = None,
    decoding: Decoding = "exact",
) -> np.ndarray:
    """A path or encoded bytes as uint8 (height, width, channels).

    decoding: "exact" gives the pixels that training sees, "scaled" nearly those (`fit_scaled`), in less time.
    DataError names the file (or `name`, for bytes) whatever is wrong with it: missing, empty, truncated, not
    an image, or so large that decoding would exhaust memory (Pillow's decompression-bomb limit).
    """
    name = name or ("image bytes" if isinstance(source, bytes) else str(source))
    try:
        encoded = source if isinstance(source, bytes) else read_file(Path(source))
        with open_image(encoded) as image:
            return fit_scaled(image, preprocessing) if decoding == "scaled" else fit_image(image, preprocessing)
    # Pillow's decoders raise many kinds on hostile bytes (struct.error, KeyError, ...): all mean a bad file.
    except Exception as error:
        raise DataError(f"{name}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Why an image cannot be read, in a few words without the in-memory address Pillow's messages hold."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "a folder, not an image file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image this program can read"
    if isinstance(error, Image.DecompressionBombError):
        return f"too large to decode safely ({error})"
    return f"cannot be decoded ({str(error) or type(error).__name__})"
