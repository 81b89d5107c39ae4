"""JPEGs decoded at a fraction of their size: nearly the pixels of training, and the same part of the picture."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from resfit.data.preprocessing import Preprocessing, decode
from resfit.errors import DataError
from resfit.inference.inputs import file_picture
from resfit.inference.opening import session_for
from resfit.inference.predict import predict_rows

MEAN_LEVELS, MOST_LEVELS = 1.5, 48  # of 255, what docs/running.md states for photographs
BLOTS_MEAN_LEVELS = 2.5  # small made-up pictures are rougher than photographs


def shape(height=32, width=32, channels=3, fit="crop"):
    return Preprocessing(
        height=height, width=width, channels=channels, mean=(0.5,) * channels, std=(0.2,) * channels, fit=fit
    )


def picture(width, height, *, mode="RGB", seed=0):
    """Coloured blots with soft and hard edges, as a photograph has them."""
    generator = np.random.default_rng(seed)
    rough = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height))
    hard = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    mixed = Image.blend(rough, hard.resize((width, height), Image.Resampling.NEAREST), 0.3)
    return mixed.filter(ImageFilter.GaussianBlur(1)).convert(mode)


def jpeg(image, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


def both(encoded, preprocessing):
    scaled = decode(encoded, preprocessing, decoding="scaled")
    return decode(encoded, preprocessing).astype(int), scaled.astype(int)


@pytest.fixture
def decoded_sizes(monkeypatch):
    """The size of each image that Pillow resizes, which is the one it was decoded to."""
    sizes = []
    resize = Image.Image.resize

    def noted(image, size, *arguments, **options):
        sizes.append(image.size)
        return resize(image, size, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", noted)
    return sizes


@pytest.mark.parametrize("fit", ["crop", "letterbox", "squash"])
@pytest.mark.parametrize(("side", "factor"), [(127, 1), (128, 2), (255, 2), (256, 4), (511, 4), (512, 8), (2000, 8)])
def test_what_remains_is_twice_the_networks_size(decoded_sizes, fit, side, factor):
    encoded = jpeg(picture(side, side))
    decoded_sizes.clear()
    decode(encoded, shape(fit=fit), decoding="scaled")
    assert decoded_sizes == [(-(-side // factor),) * 2]
    assert min(decoded_sizes[0]) >= 2 * 32 or factor == 1


@pytest.mark.parametrize(("fit", "factor"), [("crop", 4), ("letterbox", 8), ("squash", 4)])
def test_the_shorter_side_decides_unless_there_are_bars(decoded_sizes, fit, factor):
    encoded = jpeg(picture(600, 300))
    decoded_sizes.clear()
    decode(encoded, shape(fit=fit), decoding="scaled")
    assert decoded_sizes == [(600 // factor, -(-300 // factor))]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(64, 700),
    st.integers(64, 700),
    st.integers(8, 40),
    st.integers(8, 40),
    st.sampled_from(["crop", "letterbox", "squash"]),
    st.integers(1, 8),
    st.integers(0, 100),
)
def test_pixels_are_nearly_those_of_training(width, height, target_width, target_height, fit, orientation, seed):
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = jpeg(picture(width, height, seed=seed), exif=exif)
    exact, scaled = both(encoded, shape(target_height, target_width, fit=fit))
    assert np.abs(exact - scaled).mean() <= BLOTS_MEAN_LEVELS
    assert np.abs(exact - scaled).max() <= MOST_LEVELS


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fit", ["crop", "letterbox", "squash"])
def test_a_turned_picture_stands_upright(fit, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exact, scaled = both(jpeg(picture(803, 401, seed=3), exif=exif), shape(33, 24, fit=fit))
    assert exact.std() > 20
    assert np.abs(exact - scaled).mean() <= MEAN_LEVELS


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("L", 3), ("RGB", 1), ("CMYK", 3)])
def test_colours_are_nearly_those_of_training(mode, channels):
    exact, scaled = both(jpeg(picture(500, 400, mode=mode)), shape(channels=channels))
    assert exact.shape == scaled.shape == (32, 32, channels)
    assert 0 < np.abs(exact - scaled).mean() <= MEAN_LEVELS


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_other_formats_come_bit_for_bit(kind):
    stream = io.BytesIO()
    picture(700, 500).save(stream, kind)
    exact, scaled = both(stream.getvalue(), shape())
    assert (exact == scaled).all()


def test_a_small_jpeg_comes_bit_for_bit():
    exact, scaled = both(jpeg(picture(120, 90)), shape(48, 64))
    assert (exact == scaled).all()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_cut_file_is_named(share):
    encoded = jpeg(picture(900, 700))
    with pytest.raises(DataError, match="holiday"):
        decode(encoded[: int(len(encoded) * share)], shape(), name="holiday", decoding="scaled")


def test_on_real_photographs_pixels_and_answers_stay(shared):
    """120 photographs at 32 pixels, where all but one are decoded at a fraction of their size."""
    paths = sorted((shared / "jpegs").glob("*.JPEG"))
    distances = [np.abs(np.subtract(*both(path.read_bytes(), shape()))) for path in paths]
    assert sum(distance.any() for distance in distances) >= len(paths) - 1
    assert np.mean([distance.mean() for distance in distances]) <= 0.6
    assert max(distance.mean() for distance in distances) <= MEAN_LEVELS
    assert max(distance.max() for distance in distances) <= MOST_LEVELS
    with session_for(shared / "weights" / "resnet20-12fca82f.th", img_size=32) as opened:
        answers = [
            [row["label"] for row in predict_rows(opened.session, map(file_picture, paths), decoding=decoding)]
            for decoding in ("exact", "scaled")
        ]
    assert np.mean(np.equal(*answers)) >= 0.97
