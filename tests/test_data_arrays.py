"""NumPy arrays as people save them, and files that lie about themselves."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_images import pixels, sizes

from resfit.data.sources import open_data
from resfit.data.stored_arrays import open_npy, open_npz
from resfit.errors import DataError


def stack(count=40, first=0, **options):
    return np.stack([pixels(number, **options) for number in range(first, first + count)])


def in_turn(count=40):
    return np.arange(count) % 2


def held(splits):
    """Every image's bytes -> its label."""
    found = {}
    for role in splits.roles():
        part = splits.role(role)
        found |= {part.images[index].tobytes(): part.labels[part.targets[index]] for index in range(len(part))}
    return found


def expected(count=40, names=("0", "1"), **options):
    return {pixels(number, **options).tobytes(): names[number % 2] for number in range(count)}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("X", "Y"), ("data", "target")])
def test_one_set_in_an_npz(tmp_path, save, names):
    save(tmp_path / "flowers.npz", **{names[0]: stack(), names[1]: in_turn()})
    splits = open_data(tmp_path / "flowers.npz")
    assert sizes(splits) == {"train": 28, "validation": 4, "test": 8}
    assert held(splits) == expected()
    assert held(open_data(tmp_path)) == expected()


def test_positions_stand_for_names(tmp_path):
    np.savez(tmp_path / "a.npz", stack(), in_turn())
    assert held(open_data(tmp_path / "a.npz")) == expected()


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "val_images", "val_labels"),
        ("X_train", "Y_train", "X_valid", "Y_valid"),
    ],
)
def test_splits_by_array_names(tmp_path, names):
    arrays = [stack(), in_turn(), stack(6, first=100), in_turn(6)]
    np.savez_compressed(tmp_path / "a.npz", **dict(zip(names, arrays, strict=True)))
    assert sizes(open_data(tmp_path / "a.npz")) == {"train": 36, "validation": 4, "test": 6}


def test_splits_by_file_and_folder_names(tmp_path):
    for folder, count, first in (("train", 40, 0), ("test", 6, 100)):
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "folders" / folder).mkdir(parents=True)
        np.savez(tmp_path / "files" / f"{folder}.npz", images=stack(count, first), labels=in_turn(count))
        np.save(tmp_path / "folders" / folder / "images.npy", stack(count, first))
        np.save(tmp_path / "folders" / folder / "labels.npy", in_turn(count))
    for layout in ("files", "folders"):
        splits = open_data(tmp_path / layout)
        assert sizes(splits) == {"train": 36, "validation": 4, "test": 6}
        assert held(splits) == expected() | {pixels(number).tobytes(): str(number % 2) for number in range(100, 106)}


def test_a_pair_of_npy_files(tmp_path):
    np.save(tmp_path / "images.npy", np.asfortranarray(stack()))
    np.save(tmp_path / "labels.npy", in_turn())
    assert held(open_data(tmp_path)) == expected()
    np.save(tmp_path / "images.npy", stack())
    assert held(open_data(tmp_path)) == expected()


@pytest.mark.parametrize(
    "labels",
    [
        in_turn()[:, None],
        np.eye(2)[in_turn()],
        in_turn().astype(np.float32),
        in_turn() == 1,
        np.array(["0", "1"])[in_turn()],
        np.array([b"0", b"1"])[in_turn()],
    ],
)
def test_labels_in_every_form(tmp_path, labels):
    np.savez(tmp_path / "a.npz", images=stack(), labels=labels)
    assert held(open_data(tmp_path / "a.npz")) == expected()


def test_class_names_in_the_file(tmp_path):
    np.savez(tmp_path / "a.npz", images=stack(), labels=in_turn(), label_names=np.array(["zebra", "ant", "bee"]))
    splits = open_data(tmp_path / "a.npz")
    assert splits.labels == ("zebra", "ant")
    assert held(splits) == expected(names=("zebra", "ant"))
    np.savez(tmp_path / "a.npz", images=stack(), labels=in_turn() + 2, label_names=np.array(["zebra", "ant", "bee"]))
    with pytest.raises(DataError, match="labels that name no class: 3"):
        open_data(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("make", "channels"),
    [
        (lambda images: images.transpose(0, 3, 1, 2), 3),
        (lambda images: np.concatenate([images, images[..., :1]], axis=-1), 3),
        (lambda images: images.astype(np.int64), 3),
        (lambda images: images.astype(np.float32), 3),
        (lambda images: images / 255, 3),
        (lambda images: images[..., 0], 1),
        (lambda images: images[..., :1], 1),
        (lambda images: images[:, None, :, :, 0], 1),
        (lambda images: images[..., 0].astype(np.uint16) * 257, 1),
        (lambda images: images[..., 0].astype(">u2") * 257, 1),
        (lambda images: images[..., 0].astype(np.uint16), 1),
    ],
)
def test_pixels_in_every_form(tmp_path, make, channels):
    images = stack()
    np.savez(tmp_path / "a.npz", images=make(images), labels=in_turn())
    splits = open_data(tmp_path / "a.npz")
    assert held(splits) == {image[..., :channels].tobytes(): str(number % 2) for number, image in enumerate(images)}


def test_true_and_false_are_white_and_black(tmp_path):
    np.savez(tmp_path / "a.npz", images=stack(channels=1) > 127, labels=in_turn())
    assert set(np.unique(open_data(tmp_path / "a.npz").train.images)) == {0, 255}


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (stack().reshape(40, -1), in_turn(), "flat rows of pixels"),
        (stack()[..., :2], in_turn(), r"\(N, height, width\) expected"),
        (stack() / 127.5 - 1, in_turn(), "no known range(.|\n)*before any normalisation"),
        (np.full((40, 4, 4), np.nan), in_turn(), "no known range"),
        (stack().astype(np.int32) * 1000, in_turn(), "no known range"),
        (stack().astype(complex), in_turn(), "numbers expected"),
        (stack(), in_turn(39), "40 images, but 39 labels"),
        (stack(), in_turn() + 0.5, "one whole number or text an image"),
        (stack(), np.ones((40, 3)), "not one 1 a row"),
        (stack(), np.zeros(40, dtype=int), "one class only, 0"),
        (np.zeros((0, 4, 4, 3), np.uint8), in_turn(0), "no class"),
        (np.array([None] * 40), in_turn(), "never unpickled"),
        (stack(), np.array([{}] * 40), "never unpickled"),
        (np.uint8(3), in_turn(), "one entry an image"),
    ],
)
def test_arrays_without_a_meaning_are_refused(tmp_path, images, labels, message):
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    with pytest.raises(DataError, match=message):
        open_data(tmp_path / "a.npz")


def test_names_that_tell_no_pair_are_listed(tmp_path):
    np.savez(tmp_path / "a.npz", pictures=stack(), kinds=in_turn())
    with pytest.raises(DataError, match=r"no pair of images and labels \(a\.npz: pictures, a\.npz: kinds\)"):
        open_data(tmp_path / "a.npz")
    flat = stack().reshape(40, -1)
    np.savez(tmp_path / "a.npz", images=stack(), data=flat, target=in_turn(), classes=np.array(["b", "a", "c"]))
    assert held(open_data(tmp_path / "a.npz")) == expected()  # as scikit-learn's digits come: shapes decide
    np.savez(tmp_path / "a.npz", images=stack(), x=stack(), y=in_turn())
    with pytest.raises(DataError, match="several arrays could be meant: images, x"):
        open_data(tmp_path / "a.npz")


class Bait:
    """Unpickling it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_ever_unpickled(tmp_path):
    trap = tmp_path / "sprung"
    np.save(tmp_path / "images.npy", np.array([Bait(trap)] * 4, dtype=object), allow_pickle=True)
    np.save(tmp_path / "labels.npy", in_turn(4))
    trap.unlink(missing_ok=True)
    with pytest.raises(DataError, match="never unpickled"):
        open_data(tmp_path)
    (tmp_path / "images.npy").write_bytes(pickle.dumps(Bait(trap)))
    with pytest.raises(DataError, match="not readable as NumPy"):
        open_data(tmp_path)
    assert not trap.exists()


def header(shape, dtype="|u1"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(10**12, 32, 32, 3), (2**62, 2**62), (41, 6, 6, 3), (-1, 6, 6, 3)])
def test_headers_that_claim_more_than_there_is(tmp_path, shape):
    content = header(shape) + stack().tobytes()
    (tmp_path / "images.npy").write_bytes(content)
    np.save(tmp_path / "labels.npy", in_turn())
    with pytest.raises(DataError, match=r"declares|one entry an image"):
        open_data(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", content)
    with pytest.raises(DataError, match=r"declares|one entry an image"):
        open_data(tmp_path / "a.npz")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    """Ten million zeros in ten kilobytes, where two million may be held."""
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((100, 100, 1000), np.uint8), labels=in_turn(100))
    assert (tmp_path / "a.npz").stat().st_size < 20_000
    monkeypatch.setattr("resfit.data.stored_arrays.available_memory", lambda: 4_000_000)
    with pytest.raises(DataError, match="GB unpacked"):
        open_data(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=stack(), labels=in_turn())
    monkeypatch.setattr("resfit.data.stored_arrays.available_memory", lambda: 0)
    assert held(open_data(tmp_path / "b.npz")) == expected()  # read in places: nothing to hold


def test_an_encrypted_or_foreign_zip_is_named(tmp_path):
    for content in (b"", b"PK\x03\x04" + bytes(100), b"not a zip"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz is not readable as NumPy arrays"):
            open_data(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match="no pair of images and labels"):
        open_data(tmp_path / "a.npz")


def test_members_of_an_npz_are_never_written(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("../escaped.npy", header((1,)) + b"\0")
    with pytest.raises(DataError, match="no pair of images and labels"):
        open_data(tmp_path / "a.npz")
    assert not list(tmp_path.parent.glob("escaped*"))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32), changes=st.integers(1, 6), kind=st.sampled_from(["npy", "savez", "savez_compressed"])
)
def test_damaged_files_give_arrays_or_a_data_error(tmp_path_factory, seed, changes, kind):
    path = tmp_path_factory.mktemp("damaged") / ("a.npy" if kind == "npy" else "a.npz")
    images = stack(3)
    np.save(path, images) if kind == "npy" else getattr(np, kind)(path, images=images)
    content = bytearray(path.read_bytes())
    generator = np.random.default_rng(seed)
    for place in generator.integers(0, min(len(content), 300), changes):
        content[place] = generator.integers(256)
    path.write_bytes(content)
    try:
        for array in [open_npy(path)] if kind == "npy" else open_npz(path).values():
            assert array.read(0, len(array)).shape == array.shape
    except DataError:
        return
