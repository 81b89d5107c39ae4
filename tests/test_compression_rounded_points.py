"""Points along one curve, with and without training: what is tried for which wish, and what an earlier wish leaves."""

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
import pytest
from small_compressions import digits_model

from resfit.compression.agreement import Agreement, Reference, Selection
from resfit.compression.points import Point, Points
from resfit.compression.quantisation_aware import IN_SYMBOLS, train_rounded
from resfit.compression.rounded_points import Curve, Training, trained_points
from resfit.compression.tradeoff_search import search_tradeoff
from resfit.compression.wish import Wish
from resfit.data.dataset import Splits
from resfit.data.sources import open_data
from resfit.model.model import Model


@pytest.fixture(scope="module")
def digits() -> Splits:
    return open_data("digits")


@pytest.fixture(scope="module")
def model() -> Model:
    return digits_model(epochs=3, lr=0.1)


@pytest.fixture(autouse=True)
def measured_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that measures no precision and memory format, so that two of them are the same."""
    fixed = dataclasses.replace(IN_SYMBOLS, precision="fp32", memory_format="contiguous")
    monkeypatch.setattr(
        "resfit.compression.rounded_points.train_rounded", functools.partial(train_rounded, recipe=fixed)
    )


def curve_in(folder: Path, model: Model, digits: Splits) -> Curve:
    folder.mkdir(exist_ok=True)
    selection = Selection(pictures=digits.validation.images[:], targets=digits.validation.targets)
    points = Points(folder, Reference(model, selection), "range", lambda _text: None)
    return Curve(model, digits.train.images[np.arange(128)], seed=0, points=points)


def tried_for(wish: Wish, folder: Path, model: Model, digits: Splits) -> list[Point]:
    curve = curve_in(folder, model, digits)
    training = Training(splits=digits, epochs=1, threads=1, folder=folder / "trained")
    trained_points(curve, wish, training)
    return curve.points.tried


def facts(points: list[Point]) -> list[dict]:
    """What the points are, but for the bytes, as each file says when it was made."""
    return [{name: value for name, value in point.to_dict().items() if name != "file_bytes"} for point in points]


def test_what_was_trained_for_one_wish_is_not_taken_for_another(digits: Splits, model: Model, tmp_path: Path) -> None:
    """The grids are another wish's, and so are the weights; the same wish finds its own again."""
    strict, loose = (Wish(max_drop=drop, file_bytes=None) for drop in (2.0, 30.0))
    fresh = facts(tried_for(loose, tmp_path / "fresh", model, digits))
    first = facts(tried_for(strict, tmp_path / "used", model, digits))
    assert facts(tried_for(loose, tmp_path / "used", model, digits)) == fresh
    assert facts(tried_for(strict, tmp_path / "used", model, digits)) == first
    assert {point["trained_at"] for point in fresh if "trained_at" in point}.isdisjoint(
        point["trained_at"] for point in first if "trained_at" in point
    )


def test_for_a_size_alone_the_training_begins_near_that_size(digits: Splits, model: Model, tmp_path: Path) -> None:
    points = tried_for(Wish(max_drop=None, file_bytes=2600), tmp_path / "work", model, digits)
    trained = next(index for index, point in enumerate(points) if point.settings["step"].startswith("trained"))
    assert 0.9 * 2600 < points[trained - 1].file_bytes <= 2600  # what it begins with
    assert any(0.9 * 2600 < point.file_bytes <= 2600 for point in points[trained + 1 :])


def test_a_point_is_listed_once(digits: Splits, model: Model, tmp_path: Path) -> None:
    curve = curve_in(tmp_path / "work", model, digits)
    curve.try_for(Wish(max_drop=5.0, file_bytes=1500))
    paths = [point.path for point in curve.points.tried]
    assert len(paths) == len(set(paths)) > 2


def test_a_record_that_is_not_understood_is_made_again(digits: Splits, model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    before = curve_in(folder, model, digits).at(1e-5)
    record = folder / "points.json"
    record.write_text(record.read_text().replace('"disagreements"', '"unlike"'))
    assert curve_in(folder, model, digits).at(1e-5) == before


def test_a_point_measured_on_other_images_is_measured_again(digits: Splits, model: Model, tmp_path: Path) -> None:
    """As when the original is now taken to know its validation images, and was not before."""
    before = curve_in(tmp_path, model, digits).at(1e-5)
    pictures, targets = digits.train.images[np.arange(50)], digits.train.targets[:50]
    other = Reference(model, Selection(pictures=pictures, targets=targets, told="50 train images"))
    points = Points(tmp_path, other, "range", lambda _text: None)
    assert Curve(model, digits.train.images[np.arange(128)], seed=0, points=points).at(1e-5).agreement.images == 50
    assert curve_in(tmp_path, model, digits).at(1e-5) == before


@pytest.mark.parametrize("nothing", [0.0, -0.1])
def test_where_no_loss_is_allowed_the_search_still_goes_up_from_what_loses_nothing(nothing: float) -> None:
    """Estimates below nothing occur: some answers become right."""
    trials = search_tradeoff(lambda t: (nothing if t < 5.0 else 0.3, None), start=1.0, limit=0.0)
    assert trials[1].tradeoff > 1.0
    assert max(trial.tradeoff for trial in trials if trial.response <= 0) > 3.0
    assert len({round(math.log(trial.tradeoff), 6) for trial in trials}) == len(trials)


class Lossy(Curve):
    """A curve whose points lose a constant, and what grows with the tradeoff; nothing is made."""

    def __init__(self, alone: float):
        self.alone, self.asked = alone, list[float]()

    def at(self, tradeoff: float) -> Point:
        self.asked.append(tradeoff)
        return losing(self.alone + (1e6 * tradeoff) ** 1.2)


def losing(percent: float) -> Point:
    """A point with that estimate: of blends, hardly any of which were right."""
    lost = round(1e7 * percent / 25)
    agreement = Agreement(images=10**9, disagreements=lost, divergence=0.0, right=10**7, lost=lost, new=False)
    return Point(settings={}, path=Path("x"), file_bytes=1, agreement=agreement)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_of_what_is_allowed_rounding_is_given_what_the_network_left(share: float) -> None:
    wish = Wish(max_drop=0.1, file_bytes=None)
    alone = losing(share * wish.allowed)
    curve = Lossy(share * wish.allowed)
    tradeoff, _ = curve.try_for(wish, start=1e-6, unrounded=alone)
    left = wish.allowed - alone.agreement.estimated_drop
    assert tradeoff is not None
    assert 0.7 * left < curve.at(tradeoff).agreement.estimated_drop - alone.agreement.estimated_drop <= left


def test_where_the_network_alone_loses_too_much_rounding_is_not_searched() -> None:
    curve = Lossy(0.2)
    curve.try_for(Wish(max_drop=0.1, file_bytes=None), start=1e-6, unrounded=losing(0.2))
    assert curve.asked == [1e-6]
