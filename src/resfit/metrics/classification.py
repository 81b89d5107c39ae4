"""Logits and labels in, numbers out."""

import math

import numpy as np

STANDARD_95 = 1.959963984540054  # the 97.5 % point of the normal distribution: two-sided 95 %


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
