"""Cuts by hash: stratified, independent of order, and steady when images come and go."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from resfit.data.splitting import MAX_VALIDATION, cut, cut_test, cut_validation

CLASSES = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def keys_and_targets(sizes):
    keys = tuple(f"class{target}/{index}.png" for target, size in enumerate(sizes) for index in range(size))
    return keys, np.repeat(np.arange(len(sizes)), sizes)


@given(CLASSES)
def test_every_class_is_cut_alike_and_nothing_is_lost(sizes):
    keys, targets = keys_and_targets(sizes)
    kept, cut_off = cut_test(keys, targets, seed=0)
    assert sorted([*kept, *cut_off]) == list(range(len(keys)))
    for target, size in enumerate(sizes):
        taken = int((targets[cut_off] == target).sum())
        assert taken == (0 if size == 1 else max(1, round(0.2 * size)))


@given(CLASSES, st.randoms())
def test_order_does_not_matter(sizes, chance):
    keys, targets = keys_and_targets(sizes)
    order = list(range(len(keys)))
    chance.shuffle(order)
    shuffled = tuple(keys[index] for index in order)
    before = {keys[index] for index in cut_test(keys, targets, seed=0)[1]}
    after = {shuffled[index] for index in cut_test(shuffled, targets[order], seed=0)[1]}
    assert before == after


def test_new_images_move_at_most_the_one_at_the_cut():
    before_keys, before_targets = keys_and_targets([200])
    after_keys, after_targets = keys_and_targets([201])
    before = {before_keys[index] for index in cut_test(before_keys, before_targets, seed=0)[1]}
    after = {after_keys[index] for index in cut_test(after_keys, after_targets, seed=0)[1]}
    assert len(before ^ after) <= 2


def test_seed_and_purpose_cut_differently():
    keys, targets = keys_and_targets([100])
    first = cut(keys, targets, fraction=0.5, seed=0, purpose="one")[1].tolist()
    assert first == cut(keys, targets, fraction=0.5, seed=0, purpose="one")[1].tolist()
    assert first != cut(keys, targets, fraction=0.5, seed=1, purpose="one")[1].tolist()
    assert first != cut(keys, targets, fraction=0.5, seed=0, purpose="other")[1].tolist()


def test_validation_is_capped():
    keys, targets = keys_and_targets([20000, 20000])
    assert len(cut_validation(keys, targets, seed=0)[1]) == MAX_VALIDATION
