"""Numbers out of logits: against known values, scikit-learn and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, log_loss

from resfit.metrics.classification import accuracy, confusion, cross_entropy, softmax, wilson_interval


def test_accuracy_counts_largest_logits():
    logits = np.array([[0.0, 2.0], [3.0, 1.0], [0.0, 1.0], [5.0, 4.0]])
    assert accuracy(logits, np.array([1, 0, 0, 1])) == 0.5


def test_a_row_of_nan_is_wrong():
    logits = np.array([[np.nan, 2.0], [3.0, 1.0]])
    assert accuracy(logits, np.array([0, 0])) == 0.5


@pytest.mark.parametrize("shapes", [((3, 2), (2,)), ((3,), (3,)), ((0, 2), (0,))])
def test_accuracy_refuses_what_cannot_be_scored(shapes):
    with pytest.raises(ValueError, match=r"expected|no images"):
        accuracy(np.zeros(shapes[0]), np.zeros(shapes[1], dtype=int))


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_gives_published_values(correct, n, low, high):
    assert wilson_interval(correct, n) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None)
@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_fraction_and_mirrors(case):
    correct, n = case
    low, high = wilson_interval(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    assert wilson_interval(n - correct, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize("case", [(0, 0), (3, 2), (-1, 2)])
def test_wilson_interval_refuses_impossible_counts(case):
    with pytest.raises(ValueError, match="correct"):
        wilson_interval(*case)


pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=50)


@settings(deadline=None)
@given(pairs)
def test_confusion_is_scikit_learns(rows):
    predicted, labels = np.array(rows, dtype=int).reshape(-1, 2).T
    counts = confusion(predicted, labels, 5)
    assert counts.shape == (5, 5)
    assert counts.sum() == len(rows)
    assert (counts.sum(axis=1) == np.bincount(labels, minlength=5)).all()
    if rows:
        assert (counts == confusion_matrix(labels, predicted, labels=range(5))).all()


@pytest.mark.parametrize(("predicted", "labels"), [([5], [0]), ([0], [-1]), ([0, 1], [0])])
def test_confusion_refuses_classes_that_do_not_exist(predicted, labels):
    with pytest.raises(ValueError, match=r"outside|equal"):
        confusion(np.array(predicted), np.array(labels), 5)


def test_cross_entropy_is_scikit_learns():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(40, 6)) * 3, generator.integers(0, 6, 40)
    assert cross_entropy(logits, labels) == pytest.approx(log_loss(labels, softmax(logits), labels=range(6)))


def test_huge_logits_stay_finite():
    logits = np.array([[1e4, -1e4], [-1e30, 1e30]], dtype=np.float32)
    assert softmax(logits).tolist() == [[1, 0], [0, 1]]
    assert cross_entropy(logits, np.array([0, 1])) == 0.0
    assert cross_entropy(logits[:1], np.array([1])) == pytest.approx(2e4)
