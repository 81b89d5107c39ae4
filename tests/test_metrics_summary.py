"""What `summary` says of a classifier: against scikit-learn, hand-computed values and properties."""

import json
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from resfit.metrics.classification import (
    BLOCK_VALUES,
    Tally,
    accuracy,
    cross_entropy,
    softmax,
    summary,
    wilson_interval,
)

LABELS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


def answers(count=400, classes=7, seed=0, scale=2.0):
    """Logits that are right more often than not, and targets of uneven classes."""
    generator = np.random.default_rng(seed)
    share = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    targets = generator.choice(classes, count, p=share)
    logits = generator.normal(size=(count, classes)) * scale
    logits[np.arange(count), targets] += 2
    return logits.astype(np.float32), targets


def from_probabilities(rows):
    """Logits whose softmax is these rows."""
    return np.log(np.array(rows, dtype=np.float64))


@pytest.fixture(scope="module")
def found():
    return summary(*answers(), LABELS)


def test_the_scores_are_scikit_learns(found):
    logits, targets = answers()
    predicted, probabilities = logits.argmax(1), softmax(logits)
    assert found["accuracy"] == peer.accuracy_score(targets, predicted)
    assert found["balanced_accuracy"] == pytest.approx(peer.balanced_accuracy_score(targets, predicted))
    assert found["loss"] == pytest.approx(peer.log_loss(targets, probabilities, labels=range(7)))
    assert found["brier"] == pytest.approx(peer.brier_score_loss(targets, probabilities, labels=range(7)))
    assert found["top5_accuracy"] == peer.top_k_accuracy_score(targets, logits, k=5, labels=range(7))
    assert 0 < found["accuracy"] < found["top5_accuracy"] < 1
    assert found["confusion"] == peer.confusion_matrix(targets, predicted).tolist()


def test_each_class_is_scored_as_scikit_learn_does(found):
    logits, targets = answers()
    scores = peer.precision_recall_fscore_support(targets, logits.argmax(1), labels=range(7))
    assert [row["label"] for row in found["per_class"]] == list(LABELS)
    for name, expected in zip(("precision", "recall", "f1", "num_images"), scores, strict=True):
        assert [row[name] for row in found["per_class"]] == pytest.approx(expected)


def test_the_bins_are_those_of_scikit_learns_curve_and_the_error_their_mean(found):
    logits, targets = answers()
    confidence, right = softmax(logits).max(1), logits.argmax(1) == targets
    share_right, mean_confidence = peer_curve(right, confidence)
    filled = [row for row in found["reliability"] if row["count"]]
    assert [row["accuracy"] for row in filled] == pytest.approx(share_right)
    assert [row["confidence"] for row in filled] == pytest.approx(mean_confidence)
    weights = [row["count"] / 400 for row in filled]
    assert found["ece"] == pytest.approx(np.abs(share_right - mean_confidence) @ weights)
    assert found["ece"] > 0.01


def peer_curve(right, confidence):
    from sklearn.calibration import calibration_curve

    return calibration_curve(right, confidence, n_bins=15)


def test_the_calibration_error_by_hand():
    """Two answers of 0.9, one right; two of 0.6, both right: (2 * |0.5 - 0.9| + 2 * |1 - 0.6|) / 4."""
    logits = from_probabilities([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    found = summary(logits, np.array([0, 1, 1, 1]), ("no", "yes"))
    assert found["ece"] == pytest.approx(0.4)
    assert found["brier"] == pytest.approx((2 * 0.1**2 + 2 * 0.9**2 + 2 * 2 * 0.4**2) / 4)
    filled = {place: row for place, row in enumerate(found["reliability"]) if row["count"]}
    assert list(filled) == [8, 13]  # 0.6 closes the bin from 8/15, 0.9 is in that from 13/15
    assert filled[13] == {
        "low": 13 / 15, "high": 14 / 15, "count": 2, "confidence": pytest.approx(0.9), "accuracy": 0.5,
    }  # fmt: skip
    assert found["reliability"][0] == {
        "low": 0, "high": 1 / 15, "count": 0, "confidence": None, "accuracy": None,
    }  # fmt: skip


def test_sure_and_right_is_perfect_and_sure_and_wrong_the_worst():
    logits = np.eye(3) * 1000
    best, worst = summary(logits, np.arange(3), "abc"), summary(logits, np.array([1, 2, 0]), "abc")
    assert (best["ece"], best["brier"], best["loss"], best["accuracy"]) == (0, 0, 0, 1)
    assert (worst["ece"], worst["brier"], worst["loss"], worst["accuracy"]) == (1, 2, 1000, 0)
    assert best["reliability"][-1]["count"] == worst["reliability"][-1]["count"] == 3


def test_a_class_without_images_or_answers_has_no_ratios_and_no_weight():
    """a: two images, one right; b: never an image, one answer; c: one image, never an answer; d: neither."""
    logits = np.eye(4)[[0, 1, 0]] * 3
    found = summary(logits, np.array([0, 0, 2]), "abcd")
    rows = [(row["precision"], row["recall"], row["f1"], row["num_images"]) for row in found["per_class"]]
    assert rows == [(0.5, 0.5, 0.5, 2), (0.0, None, 0.0, 0), (None, 0.0, 0.0, 1), (None, None, None, 0)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert found["balanced_accuracy"] == peer.balanced_accuracy_score([0, 0, 2], [0, 1, 0]) == 0.25


def test_of_equal_logits_the_first_class_comes_first_in_every_score():
    logits = np.zeros((7, 7))
    found = summary(logits, np.arange(7), LABELS)
    assert found["accuracy"] == 1 / 7
    assert found["top5_accuracy"] == 5 / 7
    assert found["brier"] == pytest.approx(6 / 7)


def test_few_classes_are_all_in_the_top():
    logits, targets = answers(classes=5)
    assert summary(logits, targets, LABELS[:5])["top5_accuracy"] == 1


def test_a_summary_is_plain_data(found):
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["num_images"] == 400
    assert found["labels"] == list(LABELS)
    right = round(found["accuracy"] * 400)
    assert found["accuracy_interval"] == list(wilson_interval(right, 400))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 120), min_size=0, max_size=5), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_batches_change_no_score_and_no_mistake(cuts, classes, seed):
    logits, targets = answers(count=121, classes=classes, seed=seed)
    if seed % 2:
        logits = np.round(logits)  # ties
    whole, parts = Tally(classes, most_mistakes=9), Tally(classes, most_mistakes=9)
    whole.add(logits, targets)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 121], strict=True):
        parts.add(logits[start:stop], targets[start:stop])
    assert parts.mistakes() == whole.mistakes()
    assert parts.hits() == whole.hits()
    assert flattened(parts.summary(LABELS[:classes])) == pytest.approx(flattened(whole.summary(LABELS[:classes])))


def flattened(value):
    """The numbers of nested plain data, in order; a missing one as -1."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in flattened(item)]
    if value is None:
        return [-1]
    return [] if isinstance(value, str) else [value]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0, 30.0]))
def test_scores_keep_their_laws(count, classes, seed, scale):
    generator = np.random.default_rng(seed)
    logits, targets = generator.normal(size=(count, classes)) * scale, generator.integers(0, classes, count)
    found = summary(logits, targets, [str(label) for label in range(classes)])
    assert found["accuracy"] == accuracy(logits, targets)
    assert found["loss"] == pytest.approx(cross_entropy(logits, targets))
    assert found["accuracy"] <= found["top5_accuracy"] <= 1
    assert 0 <= found["brier"] <= 2
    assert 0 <= found["ece"] <= 1 + 1e-12
    bins = found["reliability"]
    assert sum(row["count"] for row in bins) == count
    assert [row["high"] for row in bins[:-1]] == [row["low"] for row in bins[1:]]
    for row in bins:
        if row["count"]:
            assert row["low"] - 1e-12 <= row["confidence"] <= row["high"] + 1e-12
    # The bins' error is at least that of all images together, by the triangle inequality
    confidence = sum(row["count"] * row["confidence"] for row in bins if row["count"]) / count
    assert found["ece"] >= abs(confidence - found["accuracy"]) - 1e-12
    recalled = sum(row["num_images"] * row["recall"] for row in found["per_class"] if row["num_images"])
    assert recalled / count == pytest.approx(found["accuracy"])


def test_mistakes_are_the_surest_wrong_answers_first():
    logits, targets = answers(count=300)
    tally = Tally(7, most_mistakes=12)
    tally.add(logits, targets)
    probabilities, predicted = softmax(logits), logits.argmax(1)
    wrong = np.flatnonzero(predicted != targets)
    expected = sorted(wrong.tolist(), key=lambda index: -probabilities[index].max())[:12]
    found = tally.mistakes()
    assert [row["index"] for row in found] == expected
    for row in found:
        assert row["target"] == targets[row["index"]] != row["predicted"] == predicted[row["index"]]
        assert row["probability"] == pytest.approx(probabilities[row["index"]].max())


def test_hits_are_the_surest_right_answer_of_each_class():
    logits, targets = answers(count=60)
    targets[targets == 3] = 2  # no image of class 3: no hit
    tally = Tally(7)
    tally.add(logits, targets)
    probabilities, predicted = softmax(logits).max(1), logits.argmax(1)
    found = tally.hits()
    right = [label for label in range(7) if ((predicted == label) & (targets == label)).any()]
    assert [row["target"] for row in found] == [row["predicted"] for row in found] == right
    assert 3 not in right
    for row in found:
        rivals = probabilities[(predicted == row["target"]) & (targets == row["target"])]
        assert row["probability"] == rivals.max() == probabilities[row["index"]]


@pytest.mark.parametrize(
    ("logits", "targets", "said"),
    [
        (np.zeros((2, 3)), [0, 1], r"\(N, 2\)"),
        (np.zeros((2, 2)), [0], "expected"),
        (np.zeros(2), [0, 1], "expected"),
        (np.zeros((2, 2)), [0, 2], "outside"),
        (np.zeros((2, 2)), [-1, 0], "outside"),
        (np.array([[0, np.nan]]), [0], "finite"),
        (np.array([[0, np.inf]]), [0], "finite"),
        (np.zeros((0, 2)), [], "no images"),
    ],
)
def test_what_cannot_be_scored_is_refused(logits, targets, said):
    with pytest.raises(ValueError, match=said):
        summary(logits, np.array(targets, dtype=int), ("a", "b"))


def test_labels_of_another_number_are_refused():
    tally = Tally(2)
    tally.add(np.zeros((1, 2)), np.zeros(1, int))
    with pytest.raises(ValueError, match="3 labels for 2 classes"):
        tally.summary("abc")


def peak_bytes(logits, targets, rounds=1):
    """The most memory held while so many batches are added up."""
    tally = Tally(logits.shape[1])
    tracemalloc.start()
    for _ in range(rounds):
        tally.add(logits, targets)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_images():
    logits, targets = answers(count=3000)
    assert peak_bytes(logits, targets, rounds=12) < 1.2 * peak_bytes(logits, targets, rounds=2)


def test_many_logits_at_once_are_worked_on_in_blocks():
    logits, targets = answers(count=60_000, classes=100)
    assert logits.size / 10 > BLOCK_VALUES
    assert peak_bytes(logits, targets) < 8 * logits.size  # less than one copy in float64
