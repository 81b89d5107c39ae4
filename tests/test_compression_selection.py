"""How points are chosen: agreement, the search along a curve, what keeps a wish, and what is kept of a stopped run."""

import dataclasses
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_compression_side_by_side import TINY, reference_of, some_images, tiny_model

from resfit.compression.agreement import (
    BLENDED_SHARE,
    DIFFERING_SHARE,
    MARGIN,
    Agreement,
    Reference,
    Selection,
    allowed_estimate,
    logits_of,
)
from resfit.compression.moved_images import blended, moved, partly_blended
from resfit.compression.points import Point, Points
from resfit.compression.pursuit import pursue
from resfit.compression.selection import selection_for, validation_is_new
from resfit.compression.tradeoff_search import search_tradeoff
from resfit.compression.weight_grids import on_grids
from resfit.compression.wish import Wish, outcome
from resfit.data.dataset import ArrayDataset, Splits
from resfit.measure.macs import macs
from resfit.model.container import load_container
from resfit.model.model import Model

Blend = Callable[..., np.ndarray]


def point(file_bytes: int, disagreements: int) -> Point:
    agreement = Agreement(images=1000, disagreements=disagreements, divergence=0.0, right=1000, lost=disagreements)
    return Point(settings={"step": "x"}, path=Path("x"), file_bytes=file_bytes, agreement=agreement)


def test_a_model_agrees_with_itself_and_less_with_another() -> None:
    model, images = tiny_model(TINY), some_images(50)
    reference = reference_of(model, images)
    same, other = reference.agreement(model), reference.agreement(tiny_model(TINY, seed=1))
    assert (same.disagreements, same.divergence) == (0, pytest.approx(0, abs=1e-9))
    assert other.divergence > 0
    assert same.images == 50
    assert dataclasses.replace(same, images=200, disagreements=3).disagreement == 1.5


@given(st.floats(1e-12, 1.0), st.floats(0.2, 1.5), st.floats(0.05, 20), st.floats(-12, -2))
def test_the_search_ends_close_below_the_limit(scale: float, power: float, limit: float, start: float) -> None:
    """On a curve as disagreement's, whatever its place and steepness."""
    trials = search_tradeoff(lambda t: ((t / scale) ** power, None), start=10**start, limit=limit, trials=60)
    within = [trial for trial in trials if trial.response <= limit]
    assert max(trial.response for trial in within) > 0.75 * limit


def test_the_search_takes_few_trials_near_the_start_and_stops_where_nothing_is_allowed() -> None:
    curve = search_tradeoff(lambda t: (t**0.7, None), start=0.5, limit=1.0)
    assert len(curve) <= 4
    nothing = search_tradeoff(lambda t: (t**0.7, None), start=0.5, limit=0.0)
    assert len(nothing) == 8
    assert all(trial.response > 0 for trial in nothing)


def test_moved_images_keep_their_pixels_and_differ_by_seed() -> None:
    images = some_images(40)
    shifted = moved(images, seed=0)
    assert shifted.shape == images.shape
    assert not np.array_equal(shifted, moved(images, seed=1))
    assert np.array_equal(shifted, moved(images, seed=0))
    middle = images[:, 3:-3, 3:-3]  # shifts are of at most one pixel of twelve
    for before, after in zip(middle, shifted, strict=True):
        windows = [
            turned[row : row + 6, column : column + 6]
            for turned in (after, after[:, ::-1]) for row in range(7) for column in range(7)
        ]  # fmt: skip
        assert any(np.array_equal(before, window) for window in windows)


def test_grey_images_are_mostly_writing_and_not_mirrored() -> None:
    row = np.arange(16, dtype=np.uint8)
    grey = np.broadcast_to(row[None, None, :, None], (40, 16, 16, 1))
    rising = moved(grey, seed=0)[:, 8, 3:13, 0].astype(int)
    assert (np.diff(rising, axis=1) == 1).all()
    colour = moved(np.repeat(grey, 3, axis=3), seed=0)[:, 8, 3:13, 0].astype(int)
    assert set(np.diff(colour, axis=1).ravel().tolist()) == {1, -1}


def test_blends_are_of_two_images_each() -> None:
    images = np.zeros((200, 4, 4, 1), np.uint8)
    images[100:] = 200
    mixed = blended(images, seed=0)
    values = mixed[:, 1, 1, 0]
    assert set(values[(values > 0) & (values < 190)].tolist()) <= set(range(48, 152))
    assert 60 < np.count_nonzero((values > 0) & (values < 190)) < 140
    assert np.array_equal(mixed, blended(images, seed=0))


@pytest.mark.parametrize("blend", [blended, partly_blended])
def test_blends_made_in_parts_are_those_made_at_once(blend: Blend, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = blend(some_images(40), seed=0)
    monkeypatch.setattr("resfit.compression.moved_images.PART", 7)
    assert np.array_equal(blend(some_images(40), seed=0), whole)


def test_a_partly_blended_image_is_mostly_itself() -> None:
    images, other = some_images(30), some_images(30, seed=1)
    mixed = partly_blended(images, seed=3).astype(float)
    first = moved(images, seed=3)
    again = partly_blended(np.where(np.arange(30)[:, None, None, None] == 4, other, images), seed=3)
    changed = [place for place in range(30) if not np.array_equal(again[place], mixed[place])]
    assert 4 in changed
    assert len(changed) <= 2  # itself, and the one it is the smaller part of
    rest = (mixed - 0.7 * first) / 0.3
    assert -8 < rest.min() <= rest.max() < 263  # of an image, but for rounding down


def test_the_margin_is_part_of_what_is_allowed() -> None:
    assert allowed_estimate(0.5) == pytest.approx(0.5 * (1 - MARGIN))
    assert Wish(max_drop=None, file_bytes=9).allowed == math.inf


def test_the_smallest_file_that_keeps_the_wish_is_chosen() -> None:
    points = [point(900, 1), point(500, 3), point(400, 9), point(100, 200)]
    chosen = outcome(points, Wish(max_drop=0.5, file_bytes=None))
    assert chosen.chosen is points[1]
    assert not chosen.binding
    assert outcome(points, Wish(max_drop=0.5, file_bytes=500)).chosen is points[1]
    assert outcome(points, Wish(max_drop=None, file_bytes=950)).chosen is points[0]  # then the truest


@pytest.mark.parametrize(
    ("wish", "binding", "nearest"),
    [
        (Wish(max_drop=0.5, file_bytes=450), ("file_kb",), [(500, 3), (400, 9)]),
        (Wish(max_drop=0.0, file_bytes=None), ("max_drop",), [(900, 1)]),
        (Wish(max_drop=0.0, file_bytes=10), ("max_drop", "file_kb"), [(900, 1), (100, 200)]),
        (Wish(max_drop=None, file_bytes=10), ("file_kb",), [(100, 200)]),
    ],
)
def test_an_impossible_wish_names_what_binds_and_the_nearest_points(
    wish: Wish, binding: tuple[str, ...], nearest: list[tuple[int, int]]
) -> None:
    points = [point(900, 1), point(500, 3), point(400, 9), point(100, 200)]
    found = outcome(points, wish)
    assert found.chosen is None
    assert found.binding == binding
    assert nearest[-1] in [(each.file_bytes, each.agreement.disagreements) for each in found.nearest]
    if len(nearest) > 1:
        assert [(each.file_bytes, each.agreement.disagreements) for each in found.nearest] == nearest


def points_in(folder: Path, model: Model, codec: str = "range") -> Points:
    return Points(folder, reference_of(model, some_images(50, seed=2)), codec, lambda _line: None)


def test_a_point_is_made_once_and_found_again_by_a_later_run(tmp_path: Path) -> None:
    model = tiny_model(TINY)
    made = []

    def make() -> Model:
        made.append(1)
        return on_grids(model, bits=4)

    first = points_in(tmp_path, model).point({"step": "quantise", "bits": 4}, make)
    again = points_in(tmp_path, model).point({"step": "quantise", "bits": 4}, make)
    assert first == again
    assert len(made) == 1
    points_in(tmp_path, model).point({"step": "quantise", "bits": 5}, make)
    points_in(tmp_path, model, "raw").point({"step": "quantise", "bits": 4}, make)
    assert len(made) == 3
    first.path.write_bytes(first.path.read_bytes()[:-1])  # a damaged file is made again
    points_in(tmp_path, model).point({"step": "quantise", "bits": 4}, make)
    (tmp_path / "points.json").write_text("{")
    points_in(tmp_path, model).point({"step": "quantise", "bits": 4}, make)
    assert len(made) == 5


@pytest.mark.parametrize("method", ["quantise", "share"])
def test_a_ladder_ends_at_the_fewest_bits_that_do(method: str, tmp_path: Path) -> None:
    model = tiny_model(TINY)
    points = points_in(tmp_path, model)
    found = pursue(points, Wish(max_drop=6.0, file_bytes=None), method, model, some_images())  # type: ignore[arg-type]
    bits = [each.settings["bits"] for each in points.tried]
    assert bits == list(range(2, 2 + len(bits)))
    assert found.chosen is points.tried[-1]
    assert all(each.agreement.estimated_drop > 0.8 * 6 for each in points.tried[:-1])


@pytest.mark.parametrize("method", ["quantise", "share"])
def test_a_ladder_keeps_zeros_where_asked(method: str, tmp_path: Path) -> None:
    model = tiny_model(TINY)
    weight = model.weights["fc.weight"].clone()
    weight[:, 2] = 0
    model = dataclasses.replace(model, weights={**model.weights, "fc.weight": weight})
    points = points_in(tmp_path, model)
    wish = Wish(max_drop=None, file_bytes=10**6)
    pursue(points, wish, method, model, some_images(), bits=3, keep_zeros=True)  # type: ignore[arg-type]
    assert not load_container(points.tried[0].path).weights["fc.weight"][:, 2].any()


def test_a_file_limit_alone_gives_the_truest_file_within_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resfit.compression.rounded_points.START_NATS", 1e-6)  # of a network that was never trained
    model = tiny_model(TINY)
    points = points_in(tmp_path, model)
    limit = 2500
    found = pursue(points, Wish(max_drop=None, file_bytes=limit), "auto", model, some_images())
    assert found.chosen is not None
    assert 0.8 * limit < found.chosen.file_bytes <= limit
    assert len(points.tried) <= 6


def test_where_nothing_may_be_lost_or_floats_fit_the_model_as_it_is_is_a_point(tmp_path: Path) -> None:
    model = tiny_model(TINY)
    for name, wish in (
        ("nothing lost", Wish(max_drop=0.0, file_bytes=None)),
        ("much room", Wish(max_drop=None, file_bytes=10**6)),
    ):
        (tmp_path / name).mkdir()
        points = points_in(tmp_path / name, model)
        found = pursue(points, wish, "auto", model, some_images())
        assert points.tried[0].settings["step"] == "code"
        assert points.tried[0].agreement.divergence == pytest.approx(0, abs=1e-9)
        assert found.chosen is not None
    assert found.chosen is points.tried[0]
    assert len(points.tried) == 1


def test_code_alone_stores_the_model_as_it_is(tmp_path: Path) -> None:
    model = tiny_model(TINY)
    points = points_in(tmp_path, model)
    found = pursue(points, Wish(max_drop=0.0, file_bytes=None), "code", model, some_images())
    assert found.chosen is not None
    assert found.chosen.agreement.divergence == pytest.approx(0, abs=1e-9)


def splits_of(model: Model, wrong: float) -> Splits:
    """Training images that the model is right on, and validation images of which it misses a share."""
    images = {"train": some_images(300, seed=3), "validation": some_images(200, seed=4)}
    targets = {role: logits_of(model, each).argmax(1).numpy() for role, each in images.items()}
    missed = int(wrong * 200)
    targets["validation"][:missed] = (targets["validation"][:missed] + 1) % 5
    train, validation = (
        ArrayDataset(images=images[role], targets=targets[role], labels=model.labels) for role in images
    )
    return Splits(
        train=train, validation=validation, test=None, labels=model.labels, sources=dict.fromkeys(images, "made"),
        preprocessing=model.preprocessing,
    )  # fmt: skip


def test_images_the_original_knows_are_told_from_new_ones() -> None:
    model = tiny_model(TINY)
    known, new = (splits_of(model, wrong) for wrong in (0.005, 0.2))
    assert not validation_is_new(model, known, seed=0)
    assert validation_is_new(model, new, seed=0)
    blends, by_labels = (selection_for(model, splits, seed=0) for splits in (known, new))
    assert not blends.new
    assert by_labels.new
    assert "blends" in blends.told
    assert "train images" in blends.told
    assert len(blends.pictures) == len(blends.targets) == 4 * 300
    assert "validation images" in by_labels.told
    assert len(by_labels.pictures) == len(by_labels.targets) == 4 * 200
    assert np.array_equal(selection_for(model, new, seed=0).pictures, by_labels.pictures)
    assert not np.array_equal(selection_for(model, new, seed=1).pictures, by_labels.pictures)
    copies = by_labels.pictures.reshape(4, 200, *by_labels.pictures.shape[1:])
    others = selection_for(model, new, seed=1).pictures.reshape(copies.shape)
    assert len({each.tobytes() for each in (*copies, *others)}) == 8  # no copy of one seed is one of another's


def test_pictures_take_no_more_bytes_than_are_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(TINY)
    image_bytes = 12 * 12 * 3
    for splits, there in ((splits_of(model, 0.005), 300), (splits_of(model, 0.2), 200)):
        whole = selection_for(model, splits, seed=0)
        for granted, images in ((4 * there, 4 * there), (3 * there - 1, 2 * there), (150, 150), (0.5, 1)):
            monkeypatch.setattr("resfit.compression.selection.MOST_BYTES", granted * image_bytes)
            selection = selection_for(model, splits, seed=0)
            assert len(selection.pictures) == len(selection.targets) == images
            assert selection.told.startswith(f"{images:,} images")
            if granted >= there:  # the same images, and fewer copies of each
                assert np.array_equal(selection.pictures, whole.pictures[:images])
                assert np.array_equal(selection.targets, whole.targets[:images])
        monkeypatch.undo()


def test_pictures_are_held_once() -> None:
    """While they are made: all of them, the images, and a copy or two that is being made."""
    model = tiny_model(TINY)
    splits = splits_of(model, 0.2)
    selection_for(model, splits, seed=0)  # what is only imported or made once
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        selection = selection_for(model, splits, seed=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 1.8 * selection.pictures.nbytes


def test_images_that_tell_whether_the_original_knows_them_are_as_few_as_answers_take_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, asked = tiny_model(TINY), []

    def counted(model: Model, images: np.ndarray) -> torch.Tensor:
        asked.append(len(images))
        return logits_of(model, images)

    monkeypatch.setattr("resfit.compression.selection.logits_of", counted)
    splits = splits_of(model, 0.5)
    assert validation_is_new(model, splits, seed=0)
    monkeypatch.setattr("resfit.compression.selection.LEAST_IMAGES", 20)
    work = macs(model.spec, 12, 12)
    monkeypatch.setattr("resfit.compression.selection.MOST_MACS", 90 * work)
    assert validation_is_new(model, splits, seed=0)
    monkeypatch.setattr("resfit.compression.selection.MOST_MACS", 5 * work)
    validation_is_new(model, splits, seed=0)
    assert asked == [300, 200, 90, 90, 20, 20]


def test_labels_of_new_images_count_what_was_lost_within_the_error_of_so_few() -> None:
    model = tiny_model(TINY)
    pictures = some_images(200, seed=4)
    answers = logits_of(model, pictures).argmax(1).numpy()
    other = tiny_model(TINY, seed=1)
    right = Reference(model, Selection(pictures=pictures, targets=answers)).agreement(other)
    assert right.lost == right.disagreements
    theirs = logits_of(other, pictures).argmax(1).numpy()
    won = Reference(model, Selection(pictures=pictures, targets=theirs)).agreement(other)
    assert won.lost == -won.disagreements
    assert won.estimated_drop < 0 < right.estimated_drop


def test_the_estimate_is_the_lesser_of_two_cautious_ones_and_no_less_than_labels_say() -> None:
    many = Agreement(images=10_000, disagreements=400, divergence=0.1, right=9000, lost=20)
    assert many.estimated_drop == pytest.approx(0.2 + 0.2)
    assert dataclasses.replace(many, copies=4).estimated_drop == pytest.approx(0.2 + 0.4)
    blends = dataclasses.replace(many, new=False, right=8000)
    assert blends.estimated_drop == pytest.approx(0.25 * (BLENDED_SHARE + (1 - BLENDED_SHARE) * 0.0025))
    assert dataclasses.replace(blends, lost=8000).estimated_drop == 100
    assert dataclasses.replace(blends, lost=-20).estimated_drop < 0
    assert dataclasses.replace(many, lost=170).estimated_drop == pytest.approx(4 * DIFFERING_SHARE)
    assert dataclasses.replace(many, lost=400).estimated_drop == pytest.approx(4)
