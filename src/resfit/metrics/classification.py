"""Logits and labels in, numbers out."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

STANDARD_95 = 1.959963984540054  # the 97.5 % point of the normal distribution: two-sided 95 %
TOP = 5  # answers an image has in top5_accuracy; with fewer classes, all of them
BINS = 15  # of confidence, for calibration: Guo et al. 2017
MOST_MISTAKES = 20
BLOCK_VALUES = 1 << 18  # logits worked on at once: 2 MB of float64 a temporary array


def _checked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of matching length; ValueError for shapes that cannot belong together."""
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits (N, classes) and labels (N,) expected, got {logits.shape} and {labels.shape}")
    if not len(labels):
        raise ValueError("no images to score")
    return logits, labels


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of rows of `logits` (N, classes) whose largest entry is at `labels` (N,).

    A row that holds NaN counts as wrong: argmax would call NaN the largest.
    """
    logits, labels = _checked(logits, labels)
    right = (logits.argmax(axis=1) == labels) & ~np.isnan(logits).any(axis=1)
    return float(right.mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis, in float64; large logits do not overflow."""
    logits = np.asarray(logits, dtype=np.float64)
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood in nats of `labels` (N,) under softmax of `logits` (N, classes)."""
    logits, labels = _checked(logits, labels)
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_total = np.log(np.exp(shifted).sum(axis=1))
    return float((log_total - shifted[np.arange(len(labels)), labels]).mean())


def confusion(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (num_classes, num_classes) int64: row is the true class, column the predicted one."""
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape or labels.ndim != 1:
        raise ValueError(f"two equal (N,) arrays expected, got {predicted.shape} and {labels.shape}")
    for name, values in (("predicted", predicted), ("labels", labels)):
        if len(values) and not (values.min() >= 0 and values.max() < num_classes):
            raise ValueError(f"{name} outside 0..{num_classes - 1}")
    cells = labels.astype(np.int64) * num_classes + predicted.astype(np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a fraction `correct / n` (Wilson 1927): right near 0 and 1 and for small n."""
    if n <= 0 or not 0 <= correct <= n:
        raise ValueError(f"0 <= correct <= n and n > 0 expected, got correct={correct}, n={n}")
    squared = STANDARD_95**2
    fraction = correct / n
    centre = (fraction + squared / (2 * n)) / (1 + squared / n)
    spread = fraction * (1 - fraction) / n + squared / (4 * n * n)
    half = STANDARD_95 * math.sqrt(spread) / (1 + squared / n)
    # Exactly 0 and 1 at the ends, where rounding would leave 1e-17.
    return (0.0 if correct == 0 else centre - half, 1.0 if correct == n else centre + half)


class Tally:
    """Everything `summary` says of a classifier, added up batch by batch: memory does not grow with the images.

    It holds one confusion matrix, fifteen bins of confidence, a hit a class and the worst mistakes, whose
    `index` counts the images in the order they were added.
    """

    def __init__(self, num_classes: int, *, most_mistakes: int = MOST_MISTAKES):
        self.confusion = np.zeros((num_classes, num_classes), np.int64)
        self.num_images = 0
        self._in_top = 0
        self._loss = self._brier = 0.0  # sums over the images
        self._bin_edges = np.arange(BINS + 1) / BINS
        self._bins = np.zeros((3, BINS))  # images, sum of confidence, right answers
        self._most_mistakes = most_mistakes
        self._mistakes = np.zeros(0, _ANSWER)
        self._hits = np.zeros(num_classes, _ANSWER)  # by class; a probability of 0 where there is none

    def add(self, logits: np.ndarray, targets: np.ndarray) -> None:
        """Count the images of `logits` (N, classes) whose true classes are `targets` (N,); N may be 0.

        ValueError for shapes that do not belong together, classes that do not exist and logits that are not
        finite.
        """
        logits, targets = np.asarray(logits), np.asarray(targets)
        classes = len(self.confusion)
        if logits.ndim != 2 or logits.shape[1] != classes or targets.shape != logits.shape[:1]:
            raise ValueError(f"logits (N, {classes}) and targets (N,) expected, got {logits.shape}, {targets.shape}")
        if len(targets) and not (targets.min() >= 0 and targets.max() < classes):
            raise ValueError(f"targets outside 0..{classes - 1}")
        if not np.isfinite(logits).all():
            raise ValueError("logits that are not finite")
        rows = max(1, BLOCK_VALUES // classes)
        for start in range(0, len(targets), rows):
            self._add_block(logits[start : start + rows], targets[start : start + rows].astype(np.int64))

    def _add_block(self, logits: np.ndarray, targets: np.ndarray) -> None:
        rows = np.arange(len(targets))
        probabilities = softmax(logits)
        answers = np.zeros(len(targets), _ANSWER)
        answers["index"] = self.num_images + rows
        answers["target"] = targets
        answers["predicted"] = logits.argmax(axis=1)
        answers["probability"] = probabilities[rows, answers["predicted"]]
        right = answers["predicted"] == targets
        np.add.at(self.confusion, (targets, answers["predicted"]), 1)
        self.num_images += len(targets)
        self._in_top += int((_rank(logits, targets) < TOP).sum())
        self._loss += cross_entropy(logits, targets) * len(targets)
        self._add_to_bins(answers["probability"], right)
        probabilities[rows, targets] -= 1  # p - e, where e is 1 at the true class
        self._brier += float(np.square(probabilities).sum())
        wrong = np.concatenate([self._mistakes, answers[~right]])
        self._mistakes = wrong[np.argsort(-wrong["probability"], kind="stable")][: self._most_mistakes]
        hits = answers[right]
        hits = hits[np.argsort(-hits["probability"], kind="stable")]  # the surest of a class first
        _, first = np.unique(hits["target"], return_index=True)
        for hit in hits[first]:
            if hit["probability"] > self._hits[hit["target"]]["probability"]:
                self._hits[hit["target"]] = hit

    def _add_to_bins(self, confidence: np.ndarray, right: np.ndarray) -> None:
        """Bins are open below and closed above, as Guo et al. have them."""
        place = np.clip(np.searchsorted(self._bin_edges, confidence, side="left") - 1, 0, BINS - 1)
        for row, weights in enumerate((np.ones(len(right)), confidence, right.astype(np.float64))):
            self._bins[row] += np.bincount(place, weights, minlength=BINS)

    def summary(self, labels: Sequence[str]) -> dict[str, Any]:
        """Plain data for JSON, as the function `summary` describes it; ValueError when no image was added."""
        if len(labels) != len(self.confusion):
            raise ValueError(f"{len(labels)} labels for {len(self.confusion)} classes")
        if not self.num_images:
            raise ValueError("no images to score")
        per_class = _per_class(self.confusion, labels)
        right = int(np.trace(self.confusion))
        reliability = self._reliability()
        recalls = [row["recall"] for row in per_class if row["recall"] is not None]
        return {
            "num_images": self.num_images,
            "labels": list(labels),
            "accuracy": right / self.num_images,
            "accuracy_interval": list(wilson_interval(right, self.num_images)),
            "top5_accuracy": self._in_top / self.num_images,
            "balanced_accuracy": sum(recalls) / len(recalls),
            "loss": self._loss / self.num_images,
            "brier": self._brier / self.num_images,
            "ece": float(np.abs(self._bins[2] - self._bins[1]).sum()) / self.num_images,
            "reliability": reliability,
            "per_class": per_class,
            "confusion": self.confusion.tolist(),
        }

    def _reliability(self) -> list[dict[str, Any]]:
        counts, confidence, right = self._bins
        return [
            {
                "low": float(self._bin_edges[place]),
                "high": float(self._bin_edges[place + 1]),
                "count": int(count),
                "confidence": float(confidence[place] / count) if count else None,
                "accuracy": float(right[place] / count) if count else None,
            }
            for place, count in enumerate(counts)
        ]

    def mistakes(self) -> list[dict[str, Any]]:
        """The wrong answers given with most confidence, surest first: index, target, predicted, probability."""
        return [_plain(answer) for answer in self._mistakes]

    def hits(self) -> list[dict[str, Any]]:
        """The surest right answer of each class that has one, in class order; keys as in `mistakes`."""
        return [_plain(answer) for answer in self._hits if answer["probability"] > 0]


_ANSWER = np.dtype([("index", "i8"), ("target", "i8"), ("predicted", "i8"), ("probability", "f8")])


def summary(logits: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """What a classifier's answers are worth: logits (N, classes) and true classes (N,) to plain data for JSON.

    num_images, labels: N and the names in class order.
    accuracy, accuracy_interval: right answers over N, with Wilson's 95 % interval [low, high].
    top5_accuracy: the true class is among the five largest logits (all of them where there are fewer).
    balanced_accuracy: mean recall of the classes that have images.
    loss: mean cross entropy in nats. brier: mean of |p - e|^2 over all classes, 0 to 2 (Brier 1950).
    ece: expected calibration error over 15 equal bins of confidence (Guo et al. 2017), and those bins as
    reliability[] {low, high, count, confidence, accuracy}: low < confidence <= high, means None when empty.
    per_class[] {label, num_images, precision, recall, f1}: None where the denominator is 0.
    confusion[][]: counts, row the true class, column the answer.
    ValueError as from `Tally.add`, for N = 0 and for labels of another number than the classes.
    """
    tally = Tally(len(labels))
    tally.add(logits, targets)
    return tally.summary(labels)


def _rank(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How many classes come before the true one; of equal logits the lower class first, as argmax has it."""
    own = logits[np.arange(len(targets)), targets][:, None]
    earlier = np.arange(logits.shape[1]) < targets[:, None]
    return ((logits > own) | ((logits == own) & earlier)).sum(axis=1)


def _per_class(confusion: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    right, actual, answered = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return [
        {
            "label": label,
            "num_images": int(actual[place]),
            "precision": _ratio(right[place], answered[place]),
            "recall": _ratio(right[place], actual[place]),
            "f1": _ratio(2 * right[place], actual[place] + answered[place]),
        }
        for place, label in enumerate(labels)
    ]


def _ratio(part: np.integer, whole: np.integer) -> float | None:
    return int(part) / int(whole) if whole else None


def _plain(answer: np.void) -> dict[str, Any]:
    return {name: answer[name].item() for name in _ANSWER.names or ()}
