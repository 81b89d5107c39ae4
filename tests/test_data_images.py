"""Images that are not in memory are indexed as an array is, and gone through in parts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.data.dataset import ArrayDataset
from resfit.data.images import IndexedImages, Selection, in_parts, save_images, select

COUNT = 13
ARRAY = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 2, 1), dtype=np.uint8)


class Elsewhere(IndexedImages):
    """Images somewhere else; remembers how many were read at once."""

    def __init__(self, array):
        super().__init__(array.shape)
        self._array, self.most = array, 0

    def _read(self, indices):
        self.most = max(self.most, len(indices))
        return self._array[indices]


INDEX = st.one_of(
    st.integers(-COUNT, COUNT - 1),
    st.slices(COUNT),
    st.lists(st.integers(-COUNT, COUNT - 1), max_size=20).map(lambda chosen: np.array(chosen, dtype=np.int64)),
    st.lists(st.booleans(), min_size=COUNT, max_size=COUNT).map(np.array),
)


@settings(deadline=None)
@given(INDEX)
def test_indexing_is_numpys(index):
    images = Elsewhere(ARRAY)
    assert (images.shape, images.dtype, len(images)) == (ARRAY.shape, ARRAY.dtype, COUNT)
    assert np.array_equal(images[index], ARRAY[index])


@settings(deadline=None)
@given(st.lists(st.integers(0, COUNT - 1), max_size=20), st.data())
def test_a_selection_is_the_images_selected(chosen, data):
    chosen = np.array(chosen, dtype=np.int64)
    selection = select(Elsewhere(ARRAY), chosen)
    assert isinstance(selection, Selection)
    if len(chosen):
        index = data.draw(st.integers(-len(chosen), len(chosen) - 1))
        assert np.array_equal(selection[index], ARRAY[chosen][index])
    assert np.array_equal(selection[:], select(ARRAY, chosen))


@pytest.mark.parametrize("index", [COUNT, -COUNT - 1, np.array([0, COUNT]), np.array([0.5]), np.array([[0, 1]])])
def test_what_is_no_index_is_refused(index):
    with pytest.raises(IndexError):
        Elsewhere(ARRAY)[index]


def test_all_images_are_never_taken_by_accident():
    with pytest.raises(TypeError, match="in parts"):
        np.asarray(Elsewhere(ARRAY))


@settings(deadline=None)
@given(st.integers(1, 200))
def test_parts_are_all_images_in_order_and_bounded(part_bytes):
    images = Elsewhere(ARRAY)
    parts = list(in_parts(images, part_bytes=part_bytes))
    assert np.array_equal(np.concatenate(parts), ARRAY)
    assert images.most == max(1, min(COUNT, part_bytes // 6))


def test_a_saved_file_is_numpys_own(tmp_path):
    save_images(tmp_path / "one.npy", Elsewhere(ARRAY))
    np.save(tmp_path / "other.npy", ARRAY)
    assert np.array_equal(np.load(tmp_path / "one.npy", mmap_mode="r"), np.load(tmp_path / "other.npy"))


def test_a_data_set_is_the_same_wherever_its_images_are():
    targets = np.arange(COUNT) % 2
    here = ArrayDataset(images=ARRAY, targets=targets, labels=("a", "b"))
    there = ArrayDataset(images=Elsewhere(ARRAY), targets=targets, labels=("a", "b"))
    assert here.fingerprint == there.fingerprint
    chosen = np.array([4, 2, 9])
    assert here.subset(chosen).fingerprint == there.subset(chosen).fingerprint
    assert np.array_equal(there.subset(chosen).images[:], here.subset(chosen).images)
    assert there.class_counts() == {"a": 7, "b": 6}
