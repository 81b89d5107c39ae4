"""Labels that contradict what images of the other folds teach.

A ridge classifier scores each image without having seen it or its duplicates. How many of the contradictions are
mislabelled is estimated, not assumed: since an image's own label has no part in its scores, any wrong label can be
tried on it for nothing, and says how strongly a mislabelled image would contradict. A share `e` of mislabelled images
gives at least e x (share of tried labels that contradict as strongly) contradictions, at every strength; the largest
`e` that is not too many anywhere is taken (Blanchard, Lee and Scott, "Semi-supervised novelty detection", 2010), and
the score of an image is the share of mislabelled ones among those that contradict at least as strongly. It is an upper
estimate: of data without a wrong label, it still suspects those few images that look most like another class.
"""

import tempfile
from typing import BinaryIO

import numpy as np

from resfit.data.features import NUM_FEATURES, Patterns, features, learn_patterns
from resfit.data.images import Images
from resfit.randomness import rng

FOLDS = 5
RIDGE = 1000.0  # in images, features of deviation one: strong for hundreds of images, weak for many thousands
PART = 512  # images whose features are in memory at once
FEWEST_IMAGES = 20
LEAST_SCORE = 0.5  # more likely mislabelled than not
LEAST_SHOWN = 0.05  # strengths that fewer than this share of wrong labels would show say nothing of how many there are
DOUBT = 2.0  # square roots of a count by which it may be chance
MOST_WRONG = 0.4  # of all images: where more would be, the pictures do not tell the classes apart
MOST_WEIGHT = 10.0  # of an image of a rare class

Suspect = tuple[int, int, float]  # image, suggested class, score


def suspect_labels(
    thumbnails: Images, targets: np.ndarray, *, num_classes: int, usable: np.ndarray, groups: np.ndarray, seed: int = 0
) -> list[Suspect]:
    """Images whose label is more likely wrong than right, the surest first.

    `thumbnails` uint8 (N, 32, 32, 3), `targets` int64 (N,), `usable` bool (N,) which images take part, `groups`
    int64 (N,) the same number for duplicates, which are kept in one fold. Nothing is suspected with fewer than 20
    images or two classes.
    """
    places = np.flatnonzero(usable)
    if len(places) < FEWEST_IMAGES or len(np.unique(targets[places])) < 2:
        return []
    scores = _scores_unseen(thumbnails, targets, places, groups, num_classes=num_classes, seed=seed)
    return _likely_wrong(scores, targets, places, seed=seed)


def _scores_unseen(
    thumbnails: Images, targets: np.ndarray, places: np.ndarray, groups: np.ndarray, *, num_classes: int, seed: int
) -> np.ndarray:
    """float32 (len(places), num_classes): scores of each image from the folds it is not in."""
    fold_of = rng(seed, "audit folds").permutation(len(groups))[groups[places]] % FOLDS
    counts = np.bincount(targets[places], minlength=num_classes)
    weights = np.minimum(len(places) / (np.count_nonzero(counts) * np.maximum(counts, 1)), MOST_WEIGHT)
    patterns = learn_patterns(thumbnails, places, seed=seed)
    with tempfile.TemporaryFile(prefix="resfit-audit-") as stored:
        sums = _Sums(num_classes)
        for start in range(0, len(places), PART):
            part = places[start : start + PART]
            rows = _stored(thumbnails, part, patterns, stored)
            sums.add(rows, targets[part], weights[targets[part]], fold_of[start : start + PART])
        classifiers = [sums.without(fold) for fold in range(FOLDS)]
        stored.seek(0)
        scores = np.empty((len(places), num_classes), dtype=np.float32)
        for start in range(0, len(places), PART):
            rows = np.frombuffer(stored.read(PART * NUM_FEATURES * 2), dtype=np.float16).reshape(-1, NUM_FEATURES)
            part, folds = rows.astype(np.float32), fold_of[start : start + PART]
            for fold, (slopes, constant) in enumerate(classifiers):
                scores[start : start + PART][folds == fold] = part[folds == fold] @ slopes + constant
    return scores


def _stored(thumbnails: Images, part: np.ndarray, patterns: Patterns, file: BinaryIO) -> np.ndarray:
    """Features as the file keeps them, so that what is learned and what is scored are the same numbers."""
    rows = features(thumbnails[part], patterns).astype(np.float16)
    file.write(rows.tobytes())
    return rows.astype(np.float32)


class _Sums:
    """What ridge regression needs to know of each fold; memory does not grow with the images."""

    def __init__(self, num_classes: int):
        self._moments = np.zeros((FOLDS, NUM_FEATURES + 1, NUM_FEATURES + 1), dtype=np.float64)
        self._products = np.zeros((FOLDS, NUM_FEATURES + 1, num_classes), dtype=np.float64)

    def add(self, rows: np.ndarray, targets: np.ndarray, weights: np.ndarray, folds: np.ndarray) -> None:
        """Take in features float32 (N, features); weights (N,) say how much each image counts."""
        known = np.eye(self._products.shape[2], dtype=np.float32)[targets]
        extended = np.concatenate([rows, np.ones((len(rows), 1), dtype=np.float32)], axis=1)
        for fold in np.unique(folds).tolist():
            chosen = folds == fold
            weighted = (extended[chosen] * weights[chosen, None]).astype(np.float32)
            self._moments[fold] += weighted.T @ extended[chosen]
            self._products[fold] += weighted.T @ known[chosen]

    def without(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """(slopes (features, classes), constant (classes,)) of the classifier that all other folds give."""
        others = [other for other in range(FOLDS) if other != fold]
        moments, products = self._moments[others].sum(0), self._products[others].sum(0)
        total = max(moments[-1, -1], 1e-9)
        mean, prior = moments[-1, :-1] / total, products[-1] / total
        covariance = moments[:-1, :-1] - total * np.outer(mean, mean)
        scale = 1 / np.sqrt(np.maximum(np.diag(covariance) / total, 1e-8))
        covariance = covariance * np.outer(scale, scale)
        covariance[np.diag_indices_from(covariance)] += RIDGE
        products = (products[:-1] - total * np.outer(mean, prior)) * scale[:, None]
        slopes = np.linalg.solve(covariance, products) * scale[:, None]
        return slopes.astype(np.float32), (prior - mean @ slopes).astype(np.float32)


def _likely_wrong(scores: np.ndarray, targets: np.ndarray, places: np.ndarray, *, seed: int) -> list[Suspect]:
    own = targets[places]
    suggested, strengths = _contradictions(scores, own)
    present = np.unique(own)
    shift = rng(seed, "audit tried labels").integers(1, len(present), size=len(own))
    tried = present[(np.searchsorted(present, own) + shift) % len(present)]
    order, shares = _shares_wrong(strengths, _contradictions(scores, tried)[1])
    return [
        (int(places[index]), int(suggested[index]), float(share))
        for index, share in zip(order, shares, strict=True)
        if share >= LEAST_SCORE
    ]


def _contradictions(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best class other than the label, and how far its score lies above the label's."""
    rows = np.arange(len(scores))
    others = scores.copy()
    others[rows, labels] = -np.inf
    best = others.argmax(axis=1)
    return best, scores[rows, best] - scores[rows, labels]


def _shares_wrong(strengths: np.ndarray, tried: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contradicting images, strongest first, and the estimated share of mislabelled ones up to each.

    A share holds for all images that contradict more strongly too, so that of the largest set counts.
    """
    order = np.argsort(-strengths, kind="stable")
    order = order[strengths[order] > 0]
    shown = 1 - np.searchsorted(np.sort(tried), strengths[order], side="left") / len(tried)
    telling = shown >= LEAST_SHOWN
    found = np.searchsorted(-strengths[order], -strengths[order], side="right")  # duplicates are found together
    wrong = (found[telling] / shown[telling]).min(initial=len(strengths))  # mislabelled images in all
    if wrong > MOST_WRONG * len(strengths):
        return order, np.zeros(len(order))
    # The fewer wrong labels would contradict as strongly, the more a few contradictions may be chance.
    chance = DOUBT * (1 - shown) * np.sqrt(found)
    shares = np.where(telling, wrong * shown / (found + chance), 0)
    return order, np.maximum.accumulate(shares[::-1])[::-1].clip(0, 1)
