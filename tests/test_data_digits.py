"""The embedded digits are scikit-learn's, and are split in three."""

import numpy as np
from sklearn.datasets import load_digits

from resfit.data.digits import list_digits
from resfit.data.preprocessing import Preprocessing, decode
from resfit.data.sources import open_data


def test_digits_are_scikit_learns():
    reference = load_digits()
    listing = list_digits()
    shape = Preprocessing(height=8, width=8, channels=1, mean=(0.0,), std=(1.0,))
    images = np.stack([decode(listing.read(index), shape) for index in range(len(listing))])
    assert images.shape == (1797, 8, 8, 1)
    assert (images[..., 0] == np.round(reference.images * 255 / 16)).all()
    assert (listing.targets == reference.target).all()


def test_digits_have_three_disjoint_stratified_roles():
    splits = open_data("digits")
    assert splits.test is not None
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    names = [name for part in parts.values() for name in part.names]
    assert len(names) == len(set(names)) == 1797
    assert splits.labels == tuple("0123456789")
    assert abs(len(parts["test"]) - 0.2 * 1797) < 5
    assert abs(len(parts["validation"]) - 0.08 * 1797) < 5
    for part in parts.values():
        counts = np.bincount(part.targets, minlength=10)
        assert counts.max() - counts.min() <= 0.1 * counts.max() + 1
    assert splits.preprocessing.channels == 1
    assert (splits.preprocessing.height, splits.preprocessing.width) == (8, 8)


def test_statistics_are_those_of_the_training_images():
    splits = open_data("digits")
    pixels = splits.train.images / 255
    assert abs(splits.preprocessing.mean[0] - pixels.mean()) < 1e-6
    assert abs(splits.preprocessing.std[0] - pixels.std()) < 1e-6


def test_one_role_alone_is_the_same_images_and_statistics():
    whole, alone = open_data("digits"), open_data("digits", roles=("test",))
    assert whole.test is not None
    assert alone.test is not None
    assert alone.test.fingerprint == whole.test.fingerprint
    assert (alone.test.images == whole.test.images).all()
    assert alone.preprocessing == whole.preprocessing
    assert list(alone.roles()) == ["test"]


def test_the_cut_was_written_down():
    """Another cut would move images that a stored model has trained on into the test set."""
    roles = open_data("digits").roles()
    assert {role: values["fingerprint"][:16] for role, values in roles.items()} == {
        "train": "f2fbac578368b731",
        "validation": "5041d1f8209d95da",
        "test": "2dd5050968822d42",
    }


def test_a_models_preprocessing_is_what_is_decoded_to():
    shape = Preprocessing(height=16, width=12, channels=3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))
    splits = open_data("digits", preprocessing=shape, roles=("validation",))
    assert splits.validation.images.shape[1:] == (16, 12, 3)
    assert splits.preprocessing == shape
