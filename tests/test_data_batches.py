"""Epochs: complete, reproducible, resumable, shared between ranks; augmentation by index."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.data.augment import Augment, Draws, apply, draw
from resfit.data.batches import batches, num_batches, order
from resfit.data.dataset import ArrayDataset
from resfit.errors import DataError, UsageError


def dataset(count=50, side=6, channels=3):
    images = np.random.default_rng(count).integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return ArrayDataset(images=images, targets=np.arange(count) % 2, labels=("a", "b"))


AUGMENT = Augment(crop_padding=2, flip=True)


def equal(one, other):
    return (
        one.step == other.step
        and (one.indices == other.indices).all()
        and (one.images == other.images).all()
        and (one.targets == other.targets).all()
    )


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 4),
    seed=st.integers(0, 2**64 - 1),
)
def test_ranks_partition_the_epoch(count, batch_size, world_size, seed):
    data = dataset(count)
    every = [
        batch.indices
        for rank in range(world_size)
        for batch in batches(
            data, batch_size=batch_size, seed=seed, epoch=3, rank=rank, world_size=world_size, drop_last=False
        )
    ]
    assert sorted(np.concatenate(every).tolist()) == list(range(count))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_see_what_one_process_would(world_size):
    data = dataset(50)
    alone = list(batches(data, batch_size=4 * world_size, seed=1, epoch=2, augment=AUGMENT))
    parts = [
        list(batches(data, batch_size=4, seed=1, epoch=2, augment=AUGMENT, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for whole, *shares in zip(alone, *parts, strict=True):
        assert (np.concatenate([share.images for share in shares]) == whole.images).all()


@settings(max_examples=30, deadline=None)
@given(start=st.integers(0, 12), drop_last=st.booleans())
def test_starting_later_equals_skipping(start, drop_last):
    data = dataset(43)
    options = {"batch_size": 4, "seed": 9, "epoch": 1, "augment": AUGMENT, "drop_last": drop_last}
    skipped = list(batches(data, **options))[start:]
    started = list(batches(data, **options, start=start))
    assert len(skipped) == len(started)
    assert all(equal(one, other) for one, other in zip(skipped, started, strict=True))


def test_same_seed_same_epoch_and_other_epochs_differ():
    data = dataset(64)
    first, again, later, other = (
        next(batches(data, batch_size=64, seed=seed, epoch=epoch, augment=AUGMENT))
        for seed, epoch in ((5, 0), (5, 0), (5, 1), (6, 0))
    )
    assert equal(first, again)
    for different in (later, other):
        assert (first.indices != different.indices).any()


def test_every_image_meets_its_target_and_the_last_batch_is_dropped():
    data = dataset(50)
    seen = list(batches(data, batch_size=8, seed=0, epoch=0))
    assert [batch.step for batch in seen] == list(range(6))
    assert num_batches(50, batch_size=8) == 6
    assert num_batches(50, batch_size=8, drop_last=False) == 7
    for batch in seen:
        assert (batch.images == data.images[batch.indices]).all()
        assert (batch.targets == data.targets[batch.indices]).all()
        assert batch.targets.dtype == np.int64


@pytest.mark.parametrize("augment", [AUGMENT, Augment(mixup=1.0, cutout=2, trivial=True)])
def test_a_dataset_that_only_reads_gives_the_same_batches(augment):
    data = dataset(20)

    class Reader:
        fingerprint, labels = data.fingerprint, data.labels

        def __len__(self):
            return len(data)

        def read(self, index):
            return data.read(index)

    options = {"batch_size": 16, "seed": 2, "epoch": 0, "augment": augment, "world_size": 2, "drop_last": False}
    for rank, size in ((0, 16), (1, 4)):
        (one,), (other,) = (batches(some, rank=rank, **options) for some in (data, Reader()))
        assert equal(one, other)
        assert len(one.images) == size
    options["batch_size"] = 20
    (one,), (other,) = (batches(some, rank=1, **options) for some in (data, Reader()))
    assert one.images.shape == other.images.shape == (0, 6, 6, 3)
    assert (one.partners is not None) == augment.mixes


def test_order_is_one_that_was_written_down():
    """A changed order would silently change every seeded result."""
    assert order(10, seed=1, epoch=2).tolist() == WRITTEN_ORDER


WRITTEN_ORDER = [3, 7, 6, 4, 9, 0, 2, 5, 8, 1]


@pytest.mark.parametrize("values", [{"batch_size": 0}, {"rank": 2, "world_size": 2}, {"start": -1}])
def test_impossible_sizes_are_refused(values):
    with pytest.raises(UsageError):
        batches(dataset(), **{"batch_size": 4, "seed": 0, "epoch": 0, **values})


def test_too_few_images_are_an_error_not_an_empty_epoch():
    with pytest.raises(DataError, match="50 images are fewer"):
        batches(dataset(50), batch_size=64, seed=0, epoch=0)


def test_apply_shifts_mirrors_and_reflects_the_edge():
    row = np.array([10, 20, 30, 40], dtype=np.uint8)
    images = np.tile(row, (3, 4, 1))[:, :, :, None].copy()
    draws = Draws(top=np.array([1, 1, 1]), left=np.array([1, 0, 2]), flipped=np.array([True, False, False]))
    result = apply(images, draws, Augment(crop_padding=1, flip=True))
    assert result[0, 0, :, 0].tolist() == [40, 30, 20, 10]
    assert result[1, 0, :, 0].tolist() == [20, 10, 20, 30]  # one to the right; the edge mirrored
    assert result[2, 0, :, 0].tolist() == [20, 30, 40, 30]
    assert (images[0, 0, :, 0] == row).all()


def test_apply_is_numpys_padding_then_cropping():
    data = dataset(8)
    draws = draw(AUGMENT, count=8, seed=4, epoch=0)
    padded = np.pad(data.images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    for index, result in enumerate(apply(data.images, draws, AUGMENT)):
        top, left = draws.top[index], draws.left[index]
        window = padded[index, top : top + 6, left : left + 6]
        assert (result == (window[:, ::-1] if draws.flipped[index] else window)).all()


@pytest.mark.parametrize("side", [1, 2, 3])
def test_padding_larger_than_the_image_works(side):
    data = dataset(5, side=side)
    augment = Augment(crop_padding=8, flip=True)
    assert apply(data.images, draw(augment, count=5, seed=0, epoch=0), augment).shape == data.images.shape


def test_draws_cover_their_range_evenly():
    draws = draw(AUGMENT, count=20000, seed=7, epoch=0)
    for offsets in (draws.top, draws.left):
        counts = np.bincount(offsets, minlength=5)
        assert len(counts) == 5
        assert abs(counts / 20000 - 0.2).max() < 0.02
    assert abs(draws.flipped.mean() - 0.5) < 0.02
    assert not draw(Augment(crop_padding=2), count=100, seed=7, epoch=0).flipped.any()


def test_two_epochs_show_each_image_both_ways():
    even, odd = (draw(AUGMENT, count=100, seed=7, epoch=epoch) for epoch in (4, 5))
    assert (even.flipped != odd.flipped).all()
    assert (even.top != odd.top).any()


def test_an_images_draw_does_not_depend_on_how_many_there_are():
    few, many = (draw(AUGMENT, count=count, seed=3, epoch=1) for count in (10, 1000))
    assert (few.top == many.top[:10]).all()
    assert (few.flipped == many.flipped[:10]).all()


def test_no_augmentation_beyond_sense():
    with pytest.raises(UsageError, match="crop padding"):
        Augment(crop_padding=-1)


def test_augmenting_keeps_up_with_training():
    """The floor is a tenth of what an idle core does, so that a busy machine passes."""
    data = ArrayDataset(
        images=np.zeros((4096, 32, 32, 3), dtype=np.uint8),
        targets=np.zeros(4096),
        labels=("a",),
        fingerprint="zeros",
    )
    started = time.process_time()
    count = sum(len(batch.images) for batch in batches(data, batch_size=128, seed=0, epoch=0, augment=AUGMENT))
    assert count / (time.process_time() - started) > 10000
