"""Near duplicates: found when a picture is stored again, not found where pictures only resemble each other."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from resfit.data import near_duplicates
from resfit.data.near_duplicates import PART, describe, grouped, near_pairs
from resfit.data.thumbnails import EDGE


def _scene(seed: int, edge: int = 96) -> Image.Image:
    """Rectangles and a slope of brightness, unlike those of any other seed."""
    generator = np.random.default_rng(seed)
    slope = np.linspace(*generator.uniform(0, 120, 2), edge)
    pixels = np.repeat(slope[None, :, None], edge, axis=0) + generator.uniform(0, 80, 3)
    for _ in range(12):
        top, left = generator.integers(0, edge - 8, 2)
        height, width = generator.integers(6, edge // 2, 2)
        pixels[top : top + height, left : left + width] = generator.uniform(0, 255, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _small(*images: Image.Image) -> np.ndarray:
    return np.stack(
        [np.asarray(image.convert("RGB").resize((EDGE, EDGE), Image.Resampling.BILINEAR)) for image in images]
    )


def _pairs(images: np.ndarray) -> set[tuple[int, int]]:
    found, complete = near_pairs(describe(images, np.ones(len(images), dtype=bool)))
    assert complete
    return {(min(pair), max(pair)) for pair in found.tolist()}


def _jpeg(image: Image.Image, quality: int = 60) -> Image.Image:
    stored = io.BytesIO()
    image.save(stored, "JPEG", quality=quality)
    return Image.open(stored)


AGAIN: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg": _jpeg,
    "coarse jpeg": lambda image: _jpeg(image, 25),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "larger": lambda image: image.resize((image.width * 2, image.height * 2)),
    "another shape": lambda image: image.resize((image.width, image.height * 3 // 4)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.75),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "grey": ImageOps.grayscale,
    "palette": lambda image: image.quantize(64),
}


@pytest.mark.parametrize("how", AGAIN, ids=AGAIN)
def test_the_same_picture_stored_again_is_found(how: str) -> None:
    scenes = [_scene(seed) for seed in range(12)]
    images = _small(*scenes, *(AGAIN[how](scene) for scene in scenes))
    assert _pairs(images) == {(index, index + 12) for index in range(12)}


def test_different_pictures_are_not() -> None:
    assert _pairs(_small(*(_scene(seed) for seed in range(300)))) == set()


def test_slopes_of_brightness_are_not_one_picture() -> None:
    """All smooth skies look alike at 8 x 8; the fine description has nothing left of a straight slope."""
    slopes = [np.linspace(low, high, EDGE) for low, high in ((0, 250), (40, 200), (10, 120), (90, 255))]
    images = np.repeat(np.repeat(np.stack(slopes)[:, :, None, None], EDGE, 2), 3, 3).astype(np.uint8)
    assert _pairs(images) == set()


def test_colours_tell_pictures_apart() -> None:
    """A red sign and a green one of the same brightness are two pictures."""
    shape = np.zeros((EDGE, EDGE), dtype=bool)
    shape[6:20, 9:25] = True
    shape[22:27, 3:14] = True
    red, green = np.full((EDGE, EDGE, 3), 40), np.full((EDGE, EDGE, 3), 40)
    red[shape], green[shape] = (220, 40, 40), (40, 132, 40)
    images = np.stack([red, green, red + 6]).astype(np.uint8)
    assert _pairs(images) == {(0, 2)}


def test_unusable_images_resemble_nothing() -> None:
    images = _small(_scene(1), _scene(1), _scene(1))
    found, _ = near_pairs(describe(images, np.array([True, False, True])))
    assert found.tolist() == [[0, 2]]


@pytest.mark.parametrize("part", [3, 7, PART])
def test_no_pair_is_lost_between_blocks(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "PART", part)
    scenes = [_scene(seed) for seed in range(10)]
    images = _small(*scenes, *(_jpeg(scene) for scene in scenes))[np.random.default_rng(0).permutation(20)]
    every = describe(images, np.ones(20, dtype=bool))
    left, right = np.triu_indices(20, 1)
    pairs = np.stack([left, right], axis=1)
    likely = (every.coarse[left] * every.coarse[right]).sum(1) >= near_duplicates.COARSE_ALIKE
    expected = {tuple(pair) for pair in pairs[likely & near_duplicates._agree(every, pairs)].tolist()}
    assert len(expected) == 10
    assert _pairs(images) == expected


def test_a_set_of_copies_ends_early() -> None:
    images = np.repeat(_small(_scene(0)), 600, axis=0)
    found, complete = near_pairs(describe(images, np.ones(600, dtype=bool)))
    assert not complete
    assert len(np.unique(found)) > 1


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.data())
def test_groups_are_the_connected_ones(count: int, data: st.DataObject) -> None:
    ends = st.integers(0, count - 1)
    pairs = data.draw(st.lists(st.tuples(ends, ends), max_size=40))
    found = grouped(count, np.array(pairs, dtype=np.int64).reshape(-1, 2)).tolist()
    expected = list(range(count))
    for _ in range(count):
        for left, right in pairs:
            expected[left] = expected[right] = min(expected[left], expected[right])
    assert found == expected


def test_real_photographs_stored_again(shared: Path) -> None:
    paths = sorted((shared / "jpegs").iterdir())[:60]
    photos = [Image.open(path).convert("RGB") for path in paths]
    again = [_jpeg(photo.resize((photo.width * 2 // 3, photo.height * 2 // 3))) for photo in photos]
    assert _pairs(_small(*photos, *again)) == {(index, index + 60) for index in range(60)}
