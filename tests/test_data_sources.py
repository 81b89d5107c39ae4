"""What `open_data` promises whatever kind the data is: fit, normalisation, unreadable files, formats."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_images import labels_by_name, pixels, place, sizes
from PIL import Image

from resfit.data.preprocessing import Preprocessing, decode, fit_image
from resfit.data.sources import image_shape, open_data
from resfit.data.statistics import channel_statistics
from resfit.errors import DataError, UsageError


def folder(root, count=40, **options):
    for number in range(count):
        place(root / ("zebra", "ant")[number % 2] / f"{number:03d}.png", number, **options)
    return root


@pytest.mark.parametrize("fit", ["crop", "letterbox", "squash"])
def test_images_come_to_the_size_as_asked(tmp_path, fit):
    folder(tmp_path, size=(10, 20))
    splits = open_data(tmp_path, img_size=8, fit=fit)
    assert splits.preprocessing.fit == fit
    image = Image.fromarray(pixels(int(splits.test.name(0)[-7:-4]), size=(10, 20)))
    assert (splits.test.images[0] == fit_image(image, splits.preprocessing)).all()
    again = open_data(tmp_path, preprocessing=splits.preprocessing, fit="crop", roles=("test",))
    assert (again.test.images[:] == splits.test.images[:]).all()  # the model's own fit is followed


def test_the_fits_differ(tmp_path):
    folder(tmp_path, size=(10, 20))
    shown = [open_data(tmp_path, img_size=8, fit=fit).test.images[:] for fit in ("crop", "letterbox", "squash")]
    assert not (shown[0] == shown[1]).all()
    assert not (shown[0] == shown[2]).all()
    assert (shown[1][:, 0] == 128).all()  # bars above and below a wide picture


def test_normalisations(tmp_path):
    for number in range(40):
        level = 50 + number if number % 2 else 200
        path = tmp_path / ("zebra", "ant")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (level, 0, 255)).save(path)
    found = {name: open_data(tmp_path, normalize=name) for name in ("standardize", "minmax", "none")}
    train = found["minmax"].train.images[:] / 255
    shape = found["minmax"].preprocessing
    scaled = (train - shape.mean) / shape.std
    assert scaled[..., 0].min() == pytest.approx(0, abs=1e-4)
    assert scaled[..., 0].max() == pytest.approx(1, abs=1e-4)
    assert np.isfinite(scaled).all()  # channels that never vary
    assert found["none"].preprocessing.mean == (0, 0, 0)
    assert found["none"].preprocessing.std == (1, 1, 1)
    standard = found["standardize"].preprocessing
    assert standard.mean[0] == pytest.approx(train[..., 0].mean(), abs=1e-5)
    assert standard.std[0] == pytest.approx(train[..., 0].std(), abs=1e-5)
    assert found["none"].train.fingerprint == found["minmax"].train.fingerprint


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), low=st.integers(0, 200), span=st.integers(1, 55), cut=st.integers(0, 8))
def test_minmax_brings_what_was_seen_to_zero_and_one_however_it_is_cut(seed, low, span, cut):
    images = np.random.default_rng(seed).integers(low, low + span + 1, (8, 3, 3, 2), dtype=np.uint8)
    offset, scale = channel_statistics([images[:cut], images[cut:]], "minmax")
    assert (offset, scale) == channel_statistics([images], "minmax")
    varies = images.reshape(-1, 2).min(0) < images.reshape(-1, 2).max(0)
    scaled = ((images / 255 - offset) / scale).reshape(-1, 2)
    assert np.abs(scaled.min(0)).max() < 1e-3
    assert np.abs(scaled.max(0)[varies] - 1).max(initial=0) < 1e-3


def test_statistics_do_not_depend_on_which_roles_are_decoded(tmp_path):
    folder(tmp_path)
    (tmp_path / "ant" / "001.png").write_bytes(b"broken")
    (tmp_path / "ant" / "003.png").write_bytes(b"broken")
    whole = open_data(tmp_path, max_unreadable=0.2)
    assert open_data(tmp_path, max_unreadable=0.2, roles=("test",)).preprocessing == whole.preprocessing


def test_unreadable_images_are_left_out_by_name_up_to_the_share(tmp_path, capsys):
    folder(tmp_path, count=100)
    whole = labels_by_name(open_data(tmp_path))
    bad = [tmp_path / ("zebra", "ant")[number % 2] / f"{number:03d}.png" for number in (10, 20, 31)]
    for path in bad:
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="images cannot be used"):
        open_data(tmp_path, max_unreadable=0.02)
    capsys.readouterr()
    splits = open_data(tmp_path, max_unreadable=0.03)
    assert {image.name for image in splits.skipped} == set(map(str, bad))
    assert labels_by_name(splits) == {name: label for name, label in whole.items() if name not in set(map(str, bad))}
    told = capsys.readouterr().err
    assert "left out 3 of 100 images (3.00%) that cannot be used" in told
    assert all(str(path) in told for path in bad)
    assert splits.fingerprint != open_data(folder(tmp_path / "again", count=100)).fingerprint


def test_only_ten_of_many_unreadable_images_are_told(tmp_path, capsys):
    folder(tmp_path, count=100)
    for number in range(0, 48, 2):
        (tmp_path / "zebra" / f"{number:03d}.png").write_bytes(b"")
    assert len(open_data(tmp_path, max_unreadable=0.5).skipped) == 24
    told = capsys.readouterr().err
    assert told.count(".png (") == 10
    assert "and 14 more" in told


def test_a_class_that_loses_all_its_images_is_never_passed_over(tmp_path):
    folder(tmp_path, count=100)
    for path in (tmp_path / "zebra").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="zebra"):
        open_data(tmp_path, max_unreadable=1.0)


@pytest.mark.parametrize(
    "values",
    [
        {"fit": "stretch"},
        {"normalize": "zscore"},
        {"max_unreadable": -0.1},
        {"max_unreadable": 1.5},
        {"max_unreadable": float("nan")},
    ],
)
def test_impossible_requests_are_refused(tmp_path, values):
    with pytest.raises(UsageError, match=str(next(iter(values.values())))):
        open_data(folder(tmp_path, count=10), **values)


@pytest.mark.parametrize(
    ("ending", "kind", "options"),
    [
        (".PNG", "PNG", {}),
        (".Jpg", "JPEG", {"quality": 95}),
        (".JPEG", "JPEG", {"quality": 95}),
        (".WebP", "WEBP", {"lossless": True}),
        (".BMP", "BMP", {}),
        (".TIF", "TIFF", {}),
        (".tiff", "TIFF", {"compression": "tiff_lzw"}),
        (".gif", "GIF", {}),
        (".PPM", "PPM", {}),
    ],
)
def test_every_format_with_its_extension_in_any_case(tmp_path, ending, kind, options):
    for number in range(40):
        image = Image.new("RGB", (8, 8), ((200, 30, 30), (30, 30, 200))[number % 2])
        path = tmp_path / ("zebra", "ant")[number % 2] / f"{number}{ending}"
        path.parent.mkdir(exist_ok=True)
        image.save(path, kind, **options)
    splits = open_data(tmp_path)
    assert sum(sizes(splits).values()) == 40
    reds = splits.train.images[:, :, :, 0].mean(axis=(1, 2)) > 100
    assert [splits.labels[target] for target in splits.train.targets] == ["zebra" if red else "ant" for red in reds]


def test_pipes_devices_and_folders_are_named_and_never_waited_for(tmp_path):
    folder(tmp_path)
    os.mkfifo(tmp_path / "ant" / "pipe.png")
    (tmp_path / "ant" / "endless.png").symlink_to("/dev/zero")
    splits = open_data(tmp_path, max_unreadable=0.1)
    assert {Path(image.name).name for image in splits.skipped} == {"pipe.png", "endless.png"}
    assert all("not a regular file" in image.reason for image in splits.skipped)


def test_own_size_is_that_of_upright_images(tmp_path):
    """Phones store all pictures lying and mark those that stand."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(10):
        path = tmp_path / ("zebra", "ant")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert image_shape(tmp_path) == (30, 20, 3)
    Image.new("RGB", (30, 20)).save(tmp_path / "ant" / "1.jpg")
    assert image_shape(tmp_path) == (224, 224, 3)


def test_the_kinds_are_named_where_there_is_none(tmp_path):
    (tmp_path / "data.txt").write_text("hello")
    with pytest.raises(UsageError, match=r"a table of labels \(\.csv\), \.parquet, \.tar, \.npz or digits expected"):
        open_data(tmp_path / "data.txt")


def test_a_models_preprocessing_replaces_fit_and_statistics(tmp_path):
    shape = Preprocessing(height=5, width=9, channels=1, mean=(0.25,), std=(0.5,), fit="squash")
    splits = open_data(folder(tmp_path), preprocessing=shape, normalize="minmax", fit="letterbox")
    assert splits.preprocessing == shape
    assert splits.train.images.shape[1:] == (5, 9, 1)


@pytest.mark.parametrize("fit", ["crop", "letterbox", "squash"])
def test_real_photographs_in_every_fit(shared, fit):
    shape = Preprocessing(height=32, width=32, channels=3, mean=(0,) * 3, std=(1,) * 3, fit=fit)
    for path in sorted((shared / "jpegs").glob("*.JPEG"))[:8]:
        shown = decode(path, shape)
        assert shown.shape == (32, 32, 3)
        with Image.open(path) as image:
            square = abs(image.width - image.height) * 32 < max(image.size) * 2
        bars = (shown[0] == 128).all() or (shown[:, 0] == 128).all()
        assert bars == (fit == "letterbox" and not square)
