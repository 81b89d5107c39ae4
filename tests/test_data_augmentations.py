"""Each augmentation against Pillow's or numpy's own, and what must hold of it for any image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from resfit.data.augmentations import colors, geometry
from resfit.data.augmentations.mixing import cut_out, mixed
from resfit.data.augmentations.parts import parts
from resfit.data.augmentations.trivial import OPERATIONS, STRENGTHS, trivially_augmented

NAMES = [name for name, _ in OPERATIONS]


def noise(count=1, height=20, width=20, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def smooth(side=32, channels=3):
    """A picture without sharp edges, where two interpolations should agree."""
    rows, columns = np.mgrid[:side, :side] / side
    planes = [128 + 100 * np.sin(3 * rows + k) * np.cos(2 * columns - k) for k in range(channels)]
    return np.stack(planes, axis=-1)[None].astype(np.uint8)


def by_pillow(images, change):
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in images])


def difference(one, other):
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def through(name, images, strength):
    count = len(images)
    operations, strengths = np.full(count, NAMES.index(name)), np.full(count, strength)
    return trivially_augmented(images, operations=operations, strengths=strengths)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "change"),
    [("stretch", ImageOps.autocontrast), ("equalize", ImageOps.equalize)],
    ids=["stretch", "equalize"],
)
def test_tone_curves_are_pillows(name, change, seed):
    images = (noise(3, seed=seed) // 3 + 60).astype(np.uint8)
    assert difference(through(name, images, 5), by_pillow(images, change)) <= (1 if name == "stretch" else 0)
    one_colour = np.full((1, 8, 8, 3), 77, dtype=np.uint8)
    assert np.array_equal(through(name, one_colour, 5), one_colour)


@pytest.mark.parametrize("strength", [0, 4, 15, 30])
def test_posterize_and_solarize_are_pillows_at_the_papers_strengths(strength):
    images = noise(2)
    bits, threshold = 8 - int(strength * 6 / 30), 256 - int(strength * 256 / 30)
    expected = by_pillow(images, lambda image: ImageOps.posterize(image, bits))
    assert np.array_equal(through("posterize", images, strength), expected)
    assert np.array_equal(through("posterize", images, -strength), expected)
    expected = by_pillow(images, lambda image: ImageOps.solarize(image, threshold))
    assert np.array_equal(through("solarize", images, strength), expected)


@pytest.mark.parametrize("strength", [-30, -7, 0, 12, 30])
@pytest.mark.parametrize(
    ("name", "enhancer"),
    [
        ("saturate", ImageEnhance.Color),
        ("contrast", ImageEnhance.Contrast),
        ("brighten", ImageEnhance.Brightness),
        ("sharpen", ImageEnhance.Sharpness),
    ],
)
def test_enhancers_are_pillows_but_for_rounding(name, enhancer, strength):
    images = noise(3)
    factor = 1 + 0.99 * strength / 30
    expected = by_pillow(images, lambda image: enhancer(image).enhance(factor))
    assert difference(through(name, images, strength), expected) <= 2


def test_jitter_is_saturation_then_contrast_then_brightness():
    images = smooth() // 2 + 40
    factors = {"brightness": 0.9, "contrast": 1.3, "saturation": 0.5}
    result = colors.jittered(images, **{name: np.array([value]) for name, value in factors.items()})

    def change(image):
        image = ImageEnhance.Contrast(ImageEnhance.Color(image).enhance(0.5)).enhance(1.3)
        return ImageEnhance.Brightness(image).enhance(0.9)

    assert difference(result, by_pillow(images, change)) <= 3


def test_a_gray_image_has_no_saturation_to_change():
    images = noise(2, channels=1)
    one = np.ones(2)
    assert np.array_equal(colors.jittered(images, brightness=one, contrast=one, saturation=0.3 * one), images)


@pytest.mark.parametrize("side", [1, 2, 5, 6])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_exact(side, quarters):
    images = noise(2, side, side)
    turned = geometry.warped(images, geometry.rotation(np.full(2, 90.0 * quarters)))
    assert np.array_equal(turned, np.rot90(images, quarters, axes=(1, 2)))


@pytest.mark.parametrize("degrees", [-40.0, 7.0, 120.0])
def test_rotation_is_pillows_inside(degrees):
    images = smooth()
    turned = geometry.warped(images, geometry.rotation(np.array([degrees])))
    expected = by_pillow(images, lambda image: image.rotate(degrees, Image.Resampling.BILINEAR))
    rows, columns = np.mgrid[:32, :32] - 15.5
    inside = rows**2 + columns**2 < 14**2
    assert difference(turned[:, inside], expected[:, inside]) <= 2


@pytest.mark.parametrize(("x", "y"), [(3, 0), (0, -2), (40, 5), (-9, -9)])
def test_shifts_are_exact_and_mirrored(x, y):
    images = noise(1, 9, 12)
    moved = geometry.warped(images, geometry.shift(x=np.array([float(x)]), y=np.array([float(y)])))
    rows, columns = (geometry.mirrored(np.arange(size) + by, size) for size, by in ((9, y), (12, x)))
    assert np.array_equal(moved, images[:, rows][:, :, columns])


def test_shears_move_rows_by_their_distance_from_the_middle():
    images = noise(1, 9, 9)
    zero, one = np.zeros(1), np.ones(1)
    sheared = geometry.warped(images, geometry.shear(x=one, y=zero))
    for row in range(9):
        columns = geometry.mirrored(np.arange(9) + row - 4, 9)
        assert np.array_equal(sheared[0, row], images[0, row, columns])
    transposed = geometry.warped(images.swapaxes(1, 2), geometry.shear(x=zero, y=one))
    assert np.array_equal(transposed.swapaxes(1, 2), sheared)


def test_the_papers_strengths_reach_the_papers_ends():
    images = noise(2, 70, 70)
    turned = geometry.warped(images, geometry.rotation(np.full(2, -135.0)))
    assert np.array_equal(through("rotate", images, -30), turned)
    assert np.array_equal(through("shift_x", images, 30)[:, :, :38], images[:, :, 32:])
    assert np.array_equal(through("shift_y", images, -30)[:, 32:], images[:, :38])


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    strength=st.integers(-STRENGTHS, STRENGTHS),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.sampled_from([1, 3]),
)
def test_every_operation_takes_every_image_and_treats_each_alone(name, strength, size, channels):
    images = noise(3, *size, channels, seed=strength + 40)
    before = images.copy()
    result = through(name, images, strength)
    assert (result.shape, result.dtype) == (images.shape, np.uint8)
    assert np.array_equal(images, before)
    for index in range(3):
        assert np.array_equal(through(name, images[index : index + 1], strength)[0], result[index])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("stretch", "equalize")])
def test_strength_zero_changes_nothing_and_full_strength_something(name):
    images = noise(2)
    assert np.array_equal(through(name, images, 0), images)
    assert np.array_equal(through(name, images, 30), images) == (name == "unchanged")


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 5), height=st.integers(1, 400), width=st.integers(1, 400))
def test_parts_hold_every_image_once(count, height, width):
    images = np.empty((count, height, width, 1), dtype=np.uint8)
    pieces = [range(count)[part] for part in parts(images)]
    assert [index for piece in pieces for index in piece] == list(range(count))
    assert all(len(piece) == 1 or len(piece) * height * width <= 1 << 14 for piece in pieces)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 9), row=st.floats(0, 0.999), column=st.floats(0, 0.999))
def test_cutout_blanks_a_square_and_nothing_else(size, row, column):
    images = noise(1, 10, 12)
    result = cut_out(images, centers=np.array([[row, column]]), size=size)
    top, left = int(row * 10) - size // 2, int(column * 12) - size // 2
    inside = np.zeros((10, 12), dtype=bool)
    inside[max(0, top) : top + size, max(0, left) : left + size] = True
    assert inside[int(row * 10), int(column * 12)]
    assert np.array_equal(result[0][~inside], images[0][~inside])
    assert np.abs(result[0][inside] - images[0].mean(axis=(0, 1))).max() <= 0.5


@settings(max_examples=60, deadline=None)
@given(
    share=st.floats(0, 1),
    cut=st.booleans(),
    center=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_shares_are_what_the_pixels_say(share, cut, center, size):
    black, white = (np.full((1, *size, 3), value, dtype=np.uint8) for value in (0, 255))
    result, kept = mixed(black, white, shares=np.array([share]), cut=np.array([cut]), centers=np.array([center]))
    assert kept.dtype == np.float32
    if cut:
        assert set(np.unique(result)) <= {0, 255}
        assert (result == 0).mean() == pytest.approx(kept[0], abs=1e-6)
        assert kept[0] >= share - (sum(size) + 1) / np.prod(
            size
        )  # at the edges less is cut, never more but by rounding
    else:
        assert np.unique(result).size == 1
        assert result[0, 0, 0, 0] == pytest.approx(255 * (1 - kept[0]), abs=0.5)
        assert abs(kept[0] - share) <= 1 / 512


@pytest.mark.parametrize("share", [0.0, 0.25, 0.75, 1.0])
def test_a_box_in_the_middle_has_the_drawn_share(share):
    images, others = noise(1, 32, 32), noise(1, 32, 32, seed=1)
    _, kept = mixed(images, others, shares=np.array([share]), cut=np.array([True]), centers=np.array([[0.5, 0.5]]))
    assert kept[0] == pytest.approx(share, abs=0.05)
    for cut in (False, True):
        options = {"cut": np.array([cut]), "centers": np.array([[0.5, 0.5]])}
        assert np.array_equal(mixed(images, others, shares=np.ones(1), **options)[0], images)
        if not cut:
            assert np.array_equal(mixed(images, others, shares=np.zeros(1), **options)[0], others)
