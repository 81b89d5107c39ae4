"""Augmentation by index: the same image, epoch and seed, the same pixels, whoever asks and in whatever batch."""

import hashlib
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.data.augment import Augment, Draws, apply, draw, mix
from resfit.data.augmentations.trivial import OPERATIONS, STRENGTHS
from resfit.data.batches import batches, order
from resfit.data.dataset import ArrayDataset
from resfit.data.sources import open_data
from resfit.errors import UsageError

EVERYTHING = Augment(
    crop_padding=3, flip=True, rotate_degrees=30, color=0.4, cutout=3, mixup=0.4, cutmix=1.0, trivial=True
)
AUGMENTS = st.builds(
    Augment,
    crop_padding=st.sampled_from([0, 2, 9]),
    flip=st.booleans(),
    rotate_degrees=st.sampled_from([0, 10, 180.0]),
    color=st.sampled_from([0, 0.3, 1.0]),
    cutout=st.sampled_from([0, 1, 2]),
    mixup=st.sampled_from([0, 0.2, 1.0]),
    cutmix=st.sampled_from([0, 1.0]),
    trivial=st.booleans(),
)


def dataset(count, height=7, width=7, channels=3):
    images = np.random.default_rng(count).integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return ArrayDataset(images=images, targets=np.arange(count) % 3, labels=("a", "b", "c"))


def seen(data, *, world_size=1, **options):
    """What an epoch shows of each image, whichever batch and rank it comes in."""
    return {
        int(index): (
            batch.images[row].tobytes(),
            int(batch.targets[row]),
            None if batch.partners is None else int(batch.partners[row]),
            None if batch.shares is None else float(batch.shares[row]),
        )
        for rank in range(world_size)
        for batch in batches(data, rank=rank, world_size=world_size, drop_last=False, **options)
        for row, index in enumerate(batch.indices)
    }


@settings(max_examples=40, deadline=None)
@given(
    augment=AUGMENTS,
    count=st.integers(1, 20),
    batch_size=st.integers(1, 8),
    world_size=st.integers(1, 3),
    start=st.integers(0, 4),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 500),
)
def test_pixels_depend_on_seed_epoch_and_index_alone(augment, count, batch_size, world_size, start, seed, epoch):
    data = dataset(count)
    options = {"augment": augment, "seed": seed, "epoch": epoch}
    together = seen(data, batch_size=count, **options)
    assert sorted(together) == list(range(count))
    assert seen(data, batch_size=batch_size, world_size=world_size, **options) == together
    later = seen(data, batch_size=batch_size, start=start, **options)
    assert len(later) == max(0, count - start * batch_size)
    assert later.items() <= together.items()


@settings(max_examples=40, deadline=None)
@given(augment=AUGMENTS, few=st.integers(1, 20), more=st.integers(1, 50), epoch=st.integers(0, 5))
def test_an_images_draws_do_not_depend_on_how_many_there_are(augment, few, more, epoch):
    short, long = (draw(augment, count=count, seed=3, epoch=epoch) for count in (few, few + more))
    for field in fields(Draws):
        one, other = getattr(short, field.name), getattr(long, field.name)
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other[:few])


@pytest.mark.parametrize("name", ["crop_padding", "rotate_degrees", "color", "trivial", "cutout", "mixup", "cutmix"])
def test_each_augmentation_changes_images_and_each_epoch_anew(name):
    value = {"crop_padding": 2, "cutout": 3, "trivial": True}.get(name, 1.0)
    data = dataset(30)
    shown = [seen(data, batch_size=30, seed=1, epoch=epoch, augment=Augment(**{name: value})) for epoch in (0, 1)]
    plain = seen(data, batch_size=30, seed=1, epoch=0)
    assert sum(shown[0][index][0] != plain[index][0] for index in plain) > 15
    assert sum(shown[0][index][0] != shown[1][index][0] for index in plain) > 15
    again = seen(data, batch_size=30, seed=1, epoch=0, augment=Augment(**{name: value}))
    assert again == shown[0]
    other = seen(data, batch_size=30, seed=2, epoch=0, augment=Augment(**{name: value}))
    assert sum(other[index][0] != shown[0][index][0] for index in plain) > 15


def test_each_augmentation_draws_from_a_stream_of_its_own():
    alone = draw(Augment(crop_padding=3, flip=True), count=40, seed=8, epoch=2)
    everything = draw(EVERYTHING, count=40, seed=8, epoch=2)
    for name in ("top", "left", "flipped"):
        assert np.array_equal(getattr(alone, name), getattr(everything, name))
    mixup_alone = draw(Augment(mixup=0.4), count=40, seed=8, epoch=2)
    assert np.array_equal(mixup_alone.shares[~everything.cut], everything.shares[~everything.cut])


@settings(max_examples=60, deadline=None)
@given(
    augment=AUGMENTS,
    size=st.tuples(st.integers(3, 12), st.integers(3, 12)),
    channels=st.sampled_from([1, 3]),
    count=st.integers(1, 6),
)
def test_images_keep_their_form_and_the_dataset_its_pixels(augment, size, channels, count):
    data = dataset(count, *size, channels)
    before = data.images.copy()
    (batch,) = batches(data, batch_size=count, seed=0, epoch=1, augment=augment)
    assert (batch.images.dtype, batch.images.shape) == (np.uint8, (count, *size, channels))
    assert np.array_equal(data.images, before)
    assert (batch.partners is not None) == (batch.shares is not None) == augment.mixes
    if batch.shares is not None:
        assert (batch.shares.dtype, batch.shares.shape, batch.partners.dtype) == (np.float32, (count,), np.int64)
        assert batch.shares.min() >= 0
        assert batch.shares.max() <= 1


def test_no_two_streams_are_the_same():
    draws = draw(EVERYTHING, count=200, seed=8, epoch=2)
    uniform = [(draws.degrees / 30 + 1) / 2, (draws.factors.reshape(-1)[:200] - 1) / 0.8 + 0.5]
    uniform += [draws.holes.reshape(-1)[:200], draws.boxes.reshape(-1)[:200]]
    correlations = np.corrcoef(uniform) - np.eye(len(uniform))
    assert np.abs(correlations).max() < 0.4


def test_every_draw_is_made_anew_each_epoch():
    one, other = (draw(EVERYTHING, count=200, seed=8, epoch=epoch) for epoch in (2, 4))
    for field in fields(Draws):
        same = getattr(one, field.name) == getattr(other, field.name)
        assert same.all() == (field.name == "flipped")  # flips take turns: every second epoch is as the first
        assert same.mean() < 0.7 or field.name == "flipped"


def test_batches_show_each_image_as_its_own_draws_say():
    data = dataset(20)
    augment = Augment(crop_padding=2, flip=True, rotate_degrees=20, color=0.3, cutout=2, trivial=True)
    expected = apply(data.images, draw(augment, count=20, seed=5, epoch=3), augment)
    for batch in batches(data, batch_size=6, seed=5, epoch=3, augment=augment):
        assert np.array_equal(batch.images, expected[batch.indices])


def test_no_strength_leaves_images_alone():
    data = dataset(12)
    (plain,) = batches(data, batch_size=12, seed=4, epoch=1)
    (batch,) = batches(data, batch_size=12, seed=4, epoch=1, augment=Augment())
    assert np.array_equal(batch.images, plain.images)
    assert batch.partners is None
    assert not Augment().changes_images
    assert EVERYTHING.changes_images


def test_neutral_draws_leave_images_alone():
    images = dataset(14).images
    zero = np.zeros(14, dtype=np.int64)
    draws = Draws(
        top=zero + 3,
        left=zero + 3,
        flipped=zero.astype(bool),
        degrees=zero.astype(float),
        factors=np.ones((14, 3)),
        operations=np.where(np.isin(np.arange(14), [1, 2]), 0, np.arange(14)),  # the two without a strength
        strengths=zero,
    )
    assert np.array_equal(apply(images, draws, Augment(crop_padding=3, flip=True, rotate_degrees=9)), images)


def test_mixed_images_have_the_next_in_the_epochs_order_as_partner():
    data = dataset(20)
    places = order(20, seed=6, epoch=3)
    shown = list(batches(data, batch_size=6, seed=6, epoch=3, augment=Augment(cutmix=1.0), drop_last=False))
    partners = np.concatenate([batch.partners for batch in shown])
    assert np.array_equal(partners, data.targets[np.roll(places, -1)])


def test_both_images_of_a_mixed_one_are_augmented_as_they_would_be_alone():
    data = dataset(9)
    augment = Augment(crop_padding=2, flip=True, color=0.3)
    (alone,) = batches(data, batch_size=9, seed=1, epoch=1, augment=augment)
    both = Augment(crop_padding=2, flip=True, color=0.3, mixup=0.5)
    (mixed,) = batches(data, batch_size=9, seed=1, epoch=1, augment=both)
    shares = mixed.shares.astype(float)[:, None, None, None]
    exact = alone.images * shares + np.roll(alone.images, -1, axis=0) * (1 - shares)
    assert np.abs(mixed.images - exact).max() <= 0.5


def test_the_shares_are_those_of_the_beta_distribution():
    for alpha in (0.2, 1.0, 4.0):
        shares = draw(Augment(mixup=alpha), count=20000, seed=1, epoch=0).shares
        assert shares.mean() == pytest.approx(0.5, abs=0.01)
        assert shares.var() == pytest.approx(0.25 / (2 * alpha + 1), rel=0.05)
    cut = draw(Augment(mixup=0.2, cutmix=1.0), count=20000, seed=1, epoch=0).cut
    assert cut.mean() == pytest.approx(0.5, abs=0.02)
    assert draw(Augment(cutmix=1.0), count=50, seed=1, epoch=0).cut.all()
    assert not draw(Augment(mixup=1.0), count=50, seed=1, epoch=0).cut.any()


def test_draws_cover_their_range_evenly():
    draws = draw(EVERYTHING, count=40000, seed=7, epoch=0)
    assert np.abs(draws.degrees).max() <= 30
    assert np.abs(draws.degrees).mean() == pytest.approx(15, rel=0.03)
    assert np.abs(draws.factors - 1).max() <= 0.4
    assert np.abs(draws.factors - 1).mean() == pytest.approx(0.2, rel=0.03)
    operations = np.bincount(draws.operations, minlength=len(OPERATIONS)) / 40000
    assert np.abs(operations * len(OPERATIONS) - 1).max() < 0.1
    strengths = np.bincount(np.abs(draws.strengths), minlength=STRENGTHS + 1) / 40000
    assert len(strengths) == STRENGTHS + 1
    assert np.abs(strengths * (STRENGTHS + 1) - 1).max() < 0.15
    assert np.sign(draws.strengths).mean() == pytest.approx(0, abs=0.02)
    for places in (draws.holes, draws.boxes):
        assert places.min() >= 0
        assert places.max() < 1
        assert places.mean() == pytest.approx(0.5, abs=0.01)


def test_crops_and_flips_are_those_of_published_results():
    """These bytes were written by the first release's code; another value silently changes every seeded result."""
    values = np.arange(64 * 8 * 8 * 3, dtype=np.uint64) * 2654435761 >> 13 & 255
    images = values.astype(np.uint8).reshape(64, 8, 8, 3)
    augment = Augment(crop_padding=2, flip=True)
    result = apply(images, draw(augment, count=64, seed=1, epoch=2), augment)
    assert hashlib.sha256(result.tobytes()).hexdigest() == WRITTEN_PIXELS


WRITTEN_PIXELS = "2749e6cb9a1764bf7d41848b23be4c322b8c92c0c3dad610294f7e535a6e1a70"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop_padding", -1),
        ("crop_padding", 1.5),
        ("cutout", 5000),
        ("rotate_degrees", 181),
        ("rotate_degrees", float("nan")),
        ("color", 1.01),
        ("mixup", -0.1),
        ("cutmix", "1"),
    ],
)
def test_values_out_of_range_are_named(field, value):
    with pytest.raises(UsageError, match=field.replace("_", " ")):
        Augment(**{field: value})


def test_a_cutout_of_the_whole_image_is_refused():
    with pytest.raises(UsageError, match="cutout 7: no part of 7 x 9 images"):
        next(batches(dataset(4, 9, 7), batch_size=4, seed=0, epoch=0, augment=Augment(cutout=7)))


def test_mix_of_images_with_themselves_changes_nothing():
    images = dataset(10).images
    draws = draw(Augment(mixup=1.0, cutmix=1.0), count=10, seed=0, epoch=0)
    result, _ = mix(images, images, draws)
    assert np.array_equal(result, images)


def test_real_digits_stay_recognisable():
    """Augmented digits are, on average, much nearer to themselves than to the other digits."""
    data = open_data("digits").train.subset(np.arange(200))
    augment = Augment(rotate_degrees=10, color=0.2)
    (batch,) = batches(data, batch_size=200, seed=0, epoch=0, augment=augment)
    own = np.abs(batch.images.astype(float) - data.images[batch.indices]).mean()
    others = np.abs(batch.images.astype(float) - data.images[np.roll(batch.indices, 1)]).mean()
    assert 0 < own < 0.5 * others
