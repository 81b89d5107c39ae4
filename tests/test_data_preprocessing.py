"""Image files of every kind, friendly and hostile, to one uint8 array."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import grey_tiff
from PIL import Image, ImageOps

from resfit.data.preprocessing import Preprocessing, decode, fit_image
from resfit.errors import DataError, UsageError


def shape(height=8, width=8, channels=3, fit="crop"):
    return Preprocessing(
        height=height, width=width, channels=channels, mean=(0.5,) * channels, std=(0.2,) * channels, fit=fit
    )


def chunk(kind, content):
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(height, width, channels=3, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return pixels[:, :, 0] if channels == 1 else pixels


def test_an_image_of_the_right_size_is_untouched():
    pixels = noise(8, 8)
    assert (decode(encoded(Image.fromarray(pixels)), shape()) == pixels).all()


def test_resize_is_pillows_fit():
    image = Image.fromarray(noise(50, 33))
    expected = np.asarray(ImageOps.fit(image, (12, 20), method=Image.Resampling.BILINEAR))
    assert (fit_image(image, shape(height=20, width=12)) == expected).all()


def test_a_wide_image_loses_its_sides_not_its_centre():
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20] = 200
    assert (fit_image(Image.fromarray(pixels), shape(height=10, width=10)) == 200).all()


def test_exif_orientation_is_applied():
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:, :4] = 255  # bright left half as stored
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown rotated by 90 degrees clockwise
    upright = decode(encoded(Image.fromarray(pixels), "PNG", exif=exif), shape())
    assert (upright[:4] == 255).all()
    assert (upright[4:] == 0).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_in_every_format(kind, orientation):
    """Stored turned by the inverse, so that all show the same picture: bright at the top left only."""
    upright = np.zeros((16, 24, 3), dtype=np.uint8)
    upright[:8, :8] = 255
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1), 7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif)
    shown = decode(content, shape(height=16, width=24))
    assert (np.abs(shown.astype(int) - upright) < 60).all()  # JPEG and WebP lose a little


def test_letterbox_keeps_all_and_adds_bars():
    pixels = np.full((10, 30, 3), 200, dtype=np.uint8)
    pixels[:, :10], pixels[:, 20:] = 20, 240
    boxed = fit_image(Image.fromarray(pixels), shape(height=12, width=12, fit="letterbox"))
    assert (boxed[[0, 1, 2, 3, 8, 9, 10, 11]] == 128).all()
    assert (boxed[4:8, 0] == 20).all()
    assert (boxed[4:8, -1] == 240).all()
    grey = fit_image(Image.fromarray(pixels[:, :, 0]), shape(height=12, width=12, channels=1, fit="letterbox"))
    assert (grey[0] == 128).all()
    assert (grey[5, 0], grey[5, -1]) == (20, 240)


def test_squash_stretches_to_the_corners():
    pixels = np.zeros((10, 40, 3), dtype=np.uint8)
    pixels[:, 20:] = 200
    squashed = fit_image(Image.fromarray(pixels), shape(height=10, width=10, fit="squash"))
    assert (squashed[:, :4] == 0).all()
    assert (squashed[:, 6:] == 200).all()


@settings(max_examples=80, deadline=None)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    target=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.sampled_from([1, 3]),
    fit=st.sampled_from(["crop", "letterbox", "squash"]),
)
def test_every_fit_gives_the_size_and_invents_no_level(size, target, channels, fit):
    image = Image.new("RGB", size, (90, 90, 90))
    fitted = fit_image(image, shape(height=target[0], width=target[1], channels=channels, fit=fit))
    assert fitted.shape == (*target, channels)
    assert fitted.dtype == np.uint8
    bars = {128} if fit == "letterbox" else set()
    assert {90} <= set(np.unique(fitted)) <= {90} | bars


def test_a_picture_as_thin_as_a_thread_fits_in_a_box():
    boxed = fit_image(Image.new("L", (5000, 1), 10), shape(channels=1, fit="letterbox"))
    assert (boxed == 10).sum() == 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_gives_uint8_of_the_asked_channels(mode, channels):
    grey = np.tile(np.array([0, 255], dtype=np.uint8), (8, 4))
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    pixels = decode(encoded(image, kind), shape(channels=channels))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (8, 8, channels)
    assert (pixels == grey[:, :, None]).all()


def test_sixteen_bits_keep_their_top_eight():
    pixels = np.tile(np.array([0x00FF, 0x8001, 0x7FFF, 0xFF00], dtype=np.uint16), (8, 2))
    decoded = decode(encoded(Image.fromarray(pixels)), shape(channels=1))
    assert decoded[0, :4, 0].tolist() == [0x00, 0x80, 0x7F, 0xFF]


@pytest.mark.parametrize(("bits", "top"), [(1, 1), (2, 3), (4, 15), (8, 255), (12, 4095), (16, 65535)])
@pytest.mark.parametrize("photometric", [0, 1])
def test_grey_tiffs_of_every_depth(bits, top, photometric):
    """Black, white, black: whatever the bits, and where 0 stands for white too."""
    levels = [0, top, 0, top] if photometric else [top, 0, top, 0]
    if bits == 12 and not photometric:
        with pytest.raises(DataError, match="not an image"):  # Pillow reads no such file
            decode(grey_tiff(levels, bits=bits, photometric=photometric), shape(height=1, width=4, channels=1))
        return
    decoded = decode(grey_tiff(levels, bits=bits, photometric=photometric), shape(height=1, width=4, channels=1))
    assert decoded.ravel().tolist() == [0, 255, 0, 255]


def test_twelve_bits_keep_their_top_eight():
    content = grey_tiff([0, 0x7FF, 0x800, 0xFFF], bits=12)
    assert decode(content, shape(height=1, width=4, channels=1)).ravel().tolist() == [0, 0x7F, 0x80, 0xFF]


@pytest.mark.parametrize(
    ("bits", "colour_type"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (16, 4), (16, 6)]
)
def test_pngs_of_every_depth(bits, colour_type):
    """Black then white, in grey, RGB, and both with alpha (which is dropped)."""
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    top = 2**bits - 1
    packed = sum(level << (bits * place) for place, level in enumerate([top] * samples + [0] * samples))
    row = b"\0" + (packed << (-bits * samples * 2 % 8)).to_bytes(-(-bits * samples * 2 // 8), "big")
    header = struct.pack(">IIBBBBB", 2, 1, bits, colour_type, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    # packed holds white in its low bits: the first pixel is black
    assert decode(content, shape(height=1, width=2)).reshape(2, 3).tolist() == [[0, 0, 0], [255, 255, 255]]


def test_a_cmyk_jpeg_of_adobes_kind_is_not_inverted():
    """Adobe stores the four inks inverted and says so in a marker; paper without ink is white."""
    inks = np.zeros((8, 8, 4), dtype=np.uint8)
    inks[:, 4:, 3] = 255  # black on the right
    content = encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=95)
    assert b"Adobe" in content
    for channels in (1, 3):
        decoded = decode(content, shape(channels=channels))
        assert (decoded[:, :3] > 240).all()
        assert (decoded[:, 5:] < 15).all()


def test_a_palette_with_transparency_warns_nobody():
    image = Image.fromarray(noise(8, 8)).quantize(8)
    image.info["transparency"] = bytes([0, 128, 255])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(encoded(image, transparency=bytes([0, 128, 255])), shape()).shape == (8, 8, 3)


def test_pixels_without_a_known_range_are_refused():
    for pixels in (np.full((8, 8), 0.5, dtype=np.float32), np.full((8, 8), 70000, dtype=np.int32)):
        with pytest.raises(DataError, match="known range"):
            decode(encoded(Image.fromarray(pixels), "TIFF"), shape())


def bomb():
    """A PNG that declares 60,000 x 60,000 pixels and holds almost none."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
WHOLE = encoded(Image.fromarray(noise(64, 64)), "JPEG")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"not an image at all", "not an image"),
        (WHOLE[: len(WHOLE) // 2], "truncated"),
        (WHOLE[:3], "not an image"),
        (bomb(), "too large"),
        (POSTSCRIPT, "not an image"),  # a format that would start another program
    ],
)
def test_a_bad_file_is_named_with_its_reason(tmp_path, content, reason):
    path = tmp_path / "odd name.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        decode(path, shape())
    assert str(path) in str(caught.value)
    assert "0x" not in str(caught.value)  # no memory address


def test_a_file_of_several_pictures_gives_the_first(tmp_path):
    """Phones store such JPEGs (MPO); Pillow opens them through its JPEG reader."""
    first, second = Image.fromarray(noise(8, 8)), Image.fromarray(noise(8, 8, seed=1))
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    first.save(tmp_path / "plain.jpg", "JPEG")
    assert (decode(tmp_path / "phone.jpg", shape()) == decode(tmp_path / "plain.jpg", shape())).all()


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.png: no such file"):
        decode(tmp_path / "absent.png", shape())
    with pytest.raises(DataError, match="a folder"):
        decode(tmp_path, shape())


@pytest.mark.parametrize("seed", range(20))
def test_damaged_bytes_never_raise_anything_else(seed):
    """Any byte flipped or cut: an image comes out or a DataError does."""
    generator = np.random.default_rng(seed)
    for kind in ("PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG"):
        content = bytearray(encoded(Image.fromarray(noise(16, 16)), kind))
        for place in generator.integers(0, len(content), 8):
            content[place] = generator.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pixels = decode(bytes(content), shape())
            except DataError:
                continue
            assert pixels.shape == (8, 8, 3)


def test_round_trip_and_unknown_fields():
    for fit in ("crop", "letterbox", "squash"):
        spec = shape(height=4, channels=1, fit=fit)
        assert Preprocessing.from_dict(spec.to_dict()) == spec
    older = {key: value for key, value in spec.to_dict().items() if key != "fit"}
    assert Preprocessing.from_dict(older).fit == "crop"
    with pytest.raises(DataError, match="crop"):
        Preprocessing.from_dict({**spec.to_dict(), "crop": 1})
    with pytest.raises(DataError, match="std"):
        Preprocessing.from_dict({key: value for key, value in spec.to_dict().items() if key != "std"})


@pytest.mark.parametrize(
    "values",
    [
        {"height": 0},
        {"width": 10**6},
        {"channels": 4},
        {"mean": (0.5,)},
        {"std": (0.2, 0.0, 0.2)},
        {"mean": (0.1, float("nan"), 0.1)},
        {"fit": "stretch"},
    ],
)
def test_impossible_preprocessing_is_refused(values):
    good = {"height": 8, "width": 8, "channels": 3, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    with pytest.raises(UsageError, match=next(iter(values))):
        Preprocessing(**{**good, **values})
