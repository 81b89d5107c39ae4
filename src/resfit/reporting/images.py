"""Test images for a page: as data URIs, and with where the network looked laid over them."""

import base64
import io

import numpy as np
from PIL import Image

IMAGE_EDGE = 160  # pixels; larger images are made smaller, smaller ones are enlarged by the page without smoothing
OVERLAY_EDGE = 96  # least, so that the map over a small image is smooth
PHOTO_EDGE = 48  # from here on JPEG, which shows nothing at this quality and is a quarter of the bytes
JPEG_QUALITY = 85
OPACITY = 0.62  # of the map where it is 1
# Colours of 0, 1/3, 2/3 and 1: dark to light, so that the order survives grey and colour blindness
RAMP = np.array([[38, 16, 92], [160, 36, 108], [242, 104, 52], [254, 220, 86]], dtype=np.float64)


def picture_uri(pixels: np.ndarray) -> str:
    """A data URI of uint8 pixels, height x width x (1 or 3), brought to at most IMAGE_EDGE."""
    return _uri(_smaller(_image(pixels)))


def overlay_uri(pixels: np.ndarray, looked: np.ndarray) -> str:
    """The image in grey under the colours of `looked`, float (h, w) from 0 to 1 in any resolution."""
    image = _smaller(_image(pixels)).convert("L")
    larger = max(1, -(-OVERLAY_EDGE // max(image.size)))
    image = image.resize((image.width * larger, image.height * larger), Image.Resampling.NEAREST)
    clean = np.clip(np.nan_to_num(np.asarray(looked, dtype=np.float32)), 0, 1)
    heat = np.asarray(Image.fromarray(clean).resize(image.size, Image.Resampling.BICUBIC), dtype=np.float64)
    heat = np.clip(heat, 0, 1)
    stops = np.linspace(0, 1, len(RAMP))
    colours = np.stack([np.interp(heat, stops, RAMP[:, channel]) for channel in range(3)], axis=-1)
    opacity = (OPACITY * (0.45 + 0.55 * heat))[..., None]
    grey = np.asarray(image, dtype=np.float64)[..., None]
    return _uri(Image.fromarray((grey * (1 - opacity) + colours * opacity).round().astype(np.uint8)))


def _image(pixels: np.ndarray) -> Image.Image:
    pixels = np.asarray(pixels)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _smaller(image: Image.Image) -> Image.Image:
    if max(image.size) > IMAGE_EDGE:
        image.thumbnail((IMAGE_EDGE, IMAGE_EDGE))
    return image


def _uri(image: Image.Image) -> str:
    """PNG for small images, which every pixel of matters; JPEG for the others."""
    photo = max(image.size) > PHOTO_EDGE
    buffer = io.BytesIO()
    if photo:
        image.save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    else:
        image.save(buffer, format="PNG", optimize=True)
    kind = "jpeg" if photo else "png"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
