"""Datasets in memory, and classes matched by name."""

import numpy as np
import pytest

from resfit.data.dataset import ArrayDataset, Splits
from resfit.data.labels import LabelMismatch, match_labels, match_splits, mere_numbers, named_after, numbered
from resfit.data.preprocessing import Preprocessing
from resfit.errors import DataError


def dataset(labels=("ant", "bee"), targets=(0, 1, 1), **values):
    images = np.arange(len(targets) * 4, dtype=np.uint8).reshape(-1, 2, 2, 1)
    return ArrayDataset(**{"images": images, "targets": np.array(targets), "labels": labels, **values})


def test_targets_move_to_the_models_order():
    matched = match_labels(dataset(), ("bee", "wasp", "ant"), num_classes=3)
    assert matched.targets.tolist() == [2, 0, 0]
    assert matched.labels == ("bee", "wasp", "ant")
    assert [matched.labels[target] for target in matched.targets] == ["ant", "bee", "bee"]


def test_equal_names_change_nothing():
    data = dataset()
    assert match_labels(data, data.labels, num_classes=2) is data


def test_differing_classes_are_named():
    with pytest.raises(LabelMismatch, match="does not know: bee; the model knows wasp"):
        match_labels(dataset(), ("ant", "wasp"), num_classes=2)


def test_a_model_without_names_takes_the_datas_order_when_counts_agree():
    data = dataset()
    assert match_labels(data, (), num_classes=2) is data
    with pytest.raises(LabelMismatch, match="10 classes apart"):
        match_labels(data, (), num_classes=10)


def test_mere_numbers_are_no_names():
    """Not even those of folders: an ImageNet checkpoint's output 3 is not the folder "3"."""
    assert mere_numbers(("0", "1"))
    assert not mere_numbers(("1", "0"))
    data = dataset()
    assert match_labels(data, ("0", "1"), num_classes=2) is data
    with pytest.raises(LabelMismatch, match="3 classes apart"):
        match_labels(data, ("0", "1", "2"), num_classes=3)
    with pytest.raises(LabelMismatch, match="3 classes apart"):
        match_labels(dataset(labels=("0", "2")), ("0", "1", "2"), num_classes=3)


def test_twelve_numbered_folders_are_taken_in_their_own_order():
    """As the training of a foreign checkpoint read them: 0, 1, 10, 11, 2 and so on."""
    labels, folders = numbered(12), tuple(sorted(numbered(12)))
    data = dataset(labels=folders)
    assert match_labels(data, labels, num_classes=12) is data
    assert named_after(labels, folders) == folders
    assert named_after(folders, labels) == folders
    assert named_after(labels, folders[:11]) == labels


def test_all_loaded_roles_take_the_models_order():
    shape = Preprocessing(height=2, width=2, channels=1, mean=(0.0,), std=(1.0,))
    splits = Splits(
        train=dataset(), validation=None, test=dataset(targets=(1, 1, 0)), labels=("ant", "bee"),
        sources={"train": "here"}, preprocessing=shape,
    )  # fmt: skip
    assert match_splits(splits, ("ant", "bee")) is splits
    assert match_splits(splits, ("0", "1")) is splits
    turned = match_splits(splits, ("bee", "cow", "ant"))
    assert turned.labels == ("bee", "cow", "ant")
    assert [turned.role(role).targets.tolist() for role in turned.roles()] == [[2, 0, 0], [0, 0, 2]]
    assert list(turned.roles()) == ["train", "test"]
    assert turned.sources == splits.sources
    with pytest.raises(LabelMismatch):
        match_splits(splits, ("bee", "cow"))


def test_fingerprint_follows_images_targets_labels_and_names():
    marks = {
        dataset().fingerprint,
        dataset(targets=(0, 1, 0)).fingerprint,
        dataset(labels=("ant", "cow")).fingerprint,
        dataset(names=("a", "b", "c")).fingerprint,
        dataset(images=np.ones((3, 2, 2, 1), dtype=np.uint8)).fingerprint,
    }
    assert len(marks) == 5
    assert dataset().fingerprint == dataset().fingerprint


def test_a_subset_keeps_names_and_pairs():
    part = dataset(names=("a", "b", "c")).subset(np.array([2, 0]))
    assert part.names == ("c", "a")
    assert part.targets.tolist() == [1, 0]
    assert part.read(1)[0].ravel().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "values",
    [
        {"images": np.zeros((3, 2, 2, 1), dtype=np.float32)},
        {"images": np.zeros((3, 2, 2), dtype=np.uint8)},
        {"images": np.zeros((2, 2, 2, 1), dtype=np.uint8)},
        {"targets": (0, 1, 2)},
        {"targets": (0, -1, 0)},
        {"names": ("a",)},
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(values):
    with pytest.raises(DataError):
        dataset(**values)
