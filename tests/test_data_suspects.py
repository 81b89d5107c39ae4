"""Suspect labels: planted ones are found, and the score says about how many of those shown are wrong."""

from pathlib import Path

import numpy as np
import pytest

from resfit.data.features import NUM_FEATURES, features, learn_patterns
from resfit.data.images import IndexedImages
from resfit.data.suspects import suspect_labels

NUM_CLASSES = 3


def _stripes(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of level, upright or slanted stripes with noise, and which of the three each is."""
    generator = np.random.default_rng(seed)
    targets = np.arange(count) % NUM_CLASSES
    rows, columns = np.mgrid[:32, :32]
    along = np.stack([rows, columns, rows + columns])[targets]
    wave = np.sin(along * generator.uniform(0.5, 0.9, (count, 1, 1)) + generator.uniform(0, 6, (count, 1, 1)))
    pixels = 128 + 60 * wave[..., None] + generator.normal(0, 25, (count, 32, 32, 3))
    return pixels.clip(0, 255).astype(np.uint8), targets


def _flipped(targets: np.ndarray, count: int, seed: int = 1) -> tuple[np.ndarray, set[int]]:
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(targets), count, replace=False)
    wrong = targets.copy()
    wrong[chosen] = (wrong[chosen] + generator.integers(1, NUM_CLASSES, count)) % NUM_CLASSES
    return wrong, set(chosen.tolist())


def _suspects(images: np.ndarray, targets: np.ndarray, **changes: object) -> list[tuple[int, int, float]]:
    options = {"num_classes": NUM_CLASSES, "usable": np.ones(len(targets), bool), "groups": np.arange(len(targets))}
    return suspect_labels(images, targets, **{**options, **changes})


def test_planted_labels_are_found_with_what_they_should_be() -> None:
    images, truth = _stripes(240)
    labels, planted = _flipped(truth, 10)
    found = _suspects(images, labels)
    named = {index for index, _, _ in found}
    assert len(named & planted) >= 9
    assert len(named - planted) <= 2
    assert all(suggested == truth[index] for index, suggested, _ in found if index in planted)
    shares = [share for _, _, share in found]
    assert shares == sorted(shares, reverse=True)
    assert 0.5 <= min(shares) <= max(shares) <= 1


def test_right_labels_are_left_alone() -> None:
    images, truth = _stripes(240)
    assert len(_suspects(images, truth)) <= 1


def test_nothing_is_suspected_of_noise() -> None:
    """Where images say nothing of their classes, contradictions prove nothing."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (300, 32, 32, 3)).astype(np.uint8)
    assert len(_suspects(images, generator.integers(0, NUM_CLASSES, 300))) <= 3


def test_a_rare_class_is_no_reason_for_suspicion() -> None:
    images, truth = _stripes(300)
    kept = np.flatnonzero((truth != 2) | (np.arange(300) < 36))
    assert len(_suspects(images[kept], truth[kept])) <= 1


def test_duplicates_do_not_vouch_for_each_other() -> None:
    """A mislabelled image stored five times is taught by none of its copies."""
    images, labels = _stripes(240)
    copies = np.repeat(3, 5)
    images = np.concatenate([images, images[copies]])
    labels = np.concatenate([labels, labels[copies]])
    mislabelled = [3, *range(240, 245)]
    labels[mislabelled] = (labels[3] + 1) % NUM_CLASSES
    groups = np.arange(245)
    groups[240:] = 3
    assert set(mislabelled) <= {index for index, _, _ in _suspects(images, labels, groups=groups)}


def test_unusable_images_take_no_part() -> None:
    images, truth = _stripes(240)
    labels, planted = _flipped(truth, 10)
    usable = np.ones(240, dtype=bool)
    usable[sorted(planted)[:5]] = False
    named = {index for index, _, _ in _suspects(images, labels, usable=usable)}
    assert not named & set(sorted(planted)[:5])
    assert named & set(sorted(planted)[5:])


@pytest.mark.parametrize("count", [0, 5, 19])
def test_too_few_images_to_tell(count: int) -> None:
    images, truth = _stripes(count)
    assert _suspects(images, truth) == []


def test_one_class_cannot_be_told_from_others() -> None:
    images, _ = _stripes(60)
    assert _suspects(images, np.zeros(60, dtype=np.int64), num_classes=1) == []


def test_equal_data_equal_answers() -> None:
    images, truth = _stripes(120)
    labels, _ = _flipped(truth, 6)
    assert _suspects(images, labels) == _suspects(images, labels)


def test_features_have_their_size_and_no_nonsense() -> None:
    images = np.concatenate(
        [_stripes(20)[0], np.zeros((1, 32, 32, 3), np.uint8), np.full((1, 32, 32, 3), 255, np.uint8)]
    )
    patterns = learn_patterns(images, np.arange(len(images)))
    found = features(images, patterns)
    assert found.shape == (22, NUM_FEATURES)
    assert np.isfinite(found).all()


class _Counted(IndexedImages):
    """Images that remember the most that were asked for at once."""

    def __init__(self, images: np.ndarray):
        super().__init__(images.shape)
        self._images, self.most = images, 0

    def _read(self, indices: np.ndarray) -> np.ndarray:
        self.most = max(self.most, len(indices))
        return self._images[indices]


def test_images_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resfit.data.suspects.PART", 32)
    monkeypatch.setattr("resfit.data.features.SAMPLED_IMAGES", 32)
    images, truth = _stripes(240)
    labels, planted = _flipped(truth, 10)
    counted = _Counted(images)
    assert len({index for index, _, _ in _suspects(counted, labels)} & planted) >= 8
    assert counted.most == 32


def test_planted_labels_among_real_images(shared: Path) -> None:
    from resfit.data.parquet import list_parquet
    from resfit.data.preprocessing import decode
    from resfit.data.thumbnails import SMALL

    listing = list_parquet([shared / "cifar10" / "test-00000-of-00001.parquet"]).listings["test"]()
    easy = [listing.labels.index(name) for name in ("airplane", "automobile", "frog")]
    places = np.flatnonzero(np.isin(listing.targets, easy))[:600]
    truth = np.searchsorted(np.sort(easy), listing.targets[places])
    images = np.stack([decode(listing.read(int(place)), SMALL) for place in places])
    labels, planted = _flipped(truth, 30)
    found = [index for index, _, _ in _suspects(images, labels)]
    right = len(planted & set(found))
    assert right >= 20
    assert right >= 0.4 * len(found)  # 5 % of 600 labels are wrong; a guess at random would be right once in 20
