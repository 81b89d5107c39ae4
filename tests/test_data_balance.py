"""Class imbalance: weights that even the classes out, and an order that does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.data.augment import Augment
from resfit.data.balance import balanced_order, class_weights
from resfit.data.batches import batches
from resfit.data.dataset import ArrayDataset
from resfit.errors import DataError, UsageError

TARGETS = st.lists(st.integers(0, 6), min_size=1, max_size=80).map(lambda values: np.array(values, dtype=np.int64))


def dataset(targets, side=5):
    images = np.random.default_rng(0).integers(0, 256, (len(targets), side, side, 1), dtype=np.uint8)
    return ArrayDataset(images=images, targets=targets, labels=tuple("abcdefg"))


@settings(max_examples=80, deadline=None)
@given(targets=TARGETS)
def test_weights_even_the_classes_out_and_have_mean_one(targets):
    weights = class_weights(targets, 7)
    assert (weights.dtype, weights.shape) == (np.float32, (7,))
    assert weights[targets].mean() == pytest.approx(1, rel=1e-5)
    counts = np.bincount(targets, minlength=7)
    totals = (counts * weights)[counts > 0]
    assert totals == pytest.approx(totals[0], rel=1e-5)
    assert (weights[counts == 0] == 0).all()


def test_balanced_classes_weigh_one():
    assert class_weights(np.repeat(np.arange(3), 5), 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize("targets", [[], [0, 4]])
def test_targets_that_cannot_be_weighed_are_an_error(targets):
    with pytest.raises(DataError, match="all below 4"):
        class_weights(np.array(targets, dtype=np.int64), 4)


@settings(max_examples=80, deadline=None)
@given(targets=TARGETS, seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 100))
def test_an_epoch_shows_classes_evenly_and_their_images_too(targets, seed, epoch):
    places = balanced_order(targets, seed=seed, epoch=epoch)
    assert len(places) == len(targets)
    shown = np.bincount(targets[places], minlength=7)[np.unique(targets)]
    assert shown.max() - shown.min() <= 1
    often = np.bincount(places, minlength=len(targets))
    for label in np.unique(targets):
        own = often[targets == label]
        assert own.max() - own.min() <= 1
    assert np.array_equal(balanced_order(targets, seed=seed, epoch=epoch), places)


def test_a_large_class_shows_other_parts_in_other_epochs():
    targets = np.repeat([0, 1], [100, 10])
    seen = [set(balanced_order(targets, seed=1, epoch=epoch).tolist()) for epoch in range(8)]
    assert seen[0] != seen[1]
    assert len(set().union(*seen)) > 100
    assert all(set(range(100, 110)) <= one for one in seen)


def test_the_order_is_shuffled_through_the_classes():
    targets = np.repeat([0, 1], [150, 50])
    first_half = targets[balanced_order(targets, seed=0, epoch=0)[:100]]
    assert 35 <= first_half.sum() <= 65


@settings(max_examples=40, deadline=None)
@given(
    targets=TARGETS,
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 3),
    start=st.integers(0, 3),
    mixup=st.sampled_from([0, 0.5]),
)
def test_balanced_batches_do_not_depend_on_batch_rank_or_start(targets, batch_size, world_size, start, mixup):
    data = dataset(targets)
    options = {"seed": 3, "epoch": 2, "balance": "sampling", "drop_last": False}
    options["augment"] = Augment(crop_padding=2, flip=True, color=0.2, mixup=mixup)
    (whole,) = batches(data, batch_size=len(targets), **options)
    assert np.array_equal(whole.indices, balanced_order(targets, seed=3, epoch=2))
    for rank in range(world_size):
        for batch in batches(data, batch_size=batch_size, rank=rank, world_size=world_size, start=start, **options):
            begin = (batch.step * world_size + rank) * batch_size
            places = slice(begin, begin + batch_size)
            for name in ("images", "targets", "indices") + (("partners", "shares") if mixup else ()):
                one, other = getattr(batch, name), getattr(whole, name)
                assert one is None or np.array_equal(one, other[places])


def test_an_image_shown_again_is_augmented_anew():
    data = dataset(np.repeat([0, 1], [63, 1]))
    (batch,) = batches(
        data, batch_size=64, seed=0, epoch=0, balance="sampling", augment=Augment(crop_padding=2, flip=True)
    )
    repeated = batch.images[batch.indices == 63]
    assert len(repeated) == 32
    assert len({image.tobytes() for image in repeated}) > 10


def test_a_dataset_that_only_reads_can_be_balanced():
    data = dataset(np.repeat([0, 1], [15, 5]))

    class Reader:
        fingerprint, labels = data.fingerprint, data.labels

        def __len__(self):
            return len(data)

        def read(self, index):
            return data.read(index)

    options = {"batch_size": 10, "seed": 1, "epoch": 1, "balance": "sampling"}
    for one, other in zip(batches(data, **options), batches(Reader(), **options), strict=True):
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.targets, other.targets)


def test_the_unknown_balance_is_refused():
    with pytest.raises(UsageError, match="balance 'weights'"):
        batches(dataset(np.arange(7)), batch_size=2, seed=0, epoch=0, balance="weights")


def test_no_targets_have_no_order():
    with pytest.raises(DataError, match="at least one"):
        balanced_order(np.array([], dtype=np.int64), seed=0, epoch=0)
