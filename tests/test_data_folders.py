"""Class folders as people have them, and every way they can be wrong."""

import zlib

import numpy as np
import pytest
from PIL import Image

from resfit.data.sources import image_shape, open_data
from resfit.errors import DataError, UsageError


def write(path, *, seed=0, size=(12, 12), channels=3):
    """An image of noise at `path`; different seeds, different content."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(path)


def fill(folder, classes=("bee", "ant"), count=20, **options):
    for label in classes:
        for index in range(count):
            write(folder / label / f"{index}.png", seed=zlib.crc32(f"{label}{index}".encode()), **options)
    return folder


def sizes(splits):
    return {role: values["num_images"] for role, values in splits.roles().items()}


def test_one_folder_is_cut_in_three(tmp_path):
    splits = open_data(str(fill(tmp_path)))
    assert splits.labels == ("ant", "bee")  # string order
    assert sizes(splits) == {"train": 28, "validation": 4, "test": 8}
    every = [name for role in ("train", "validation", "test") for name in splits.role(role).names]
    assert len(set(every)) == 40
    for role in ("train", "validation", "test"):
        part = splits.role(role)
        assert all(f"/{part.labels[part.read(index)[1]]}/" in part.name(index) for index in range(len(part)))


def test_the_cut_survives_a_move_of_the_folder(tmp_path):
    one, other = open_data(fill(tmp_path / "one")), open_data(fill(tmp_path / "other"))
    assert one.fingerprint == other.fingerprint
    assert {role: v["fingerprint"] for role, v in one.roles().items()} == {
        role: v["fingerprint"] for role, v in other.roles().items()
    }


@pytest.mark.parametrize("second", ["val", "valid", "validation", "test", "Test"])
def test_train_with_one_more_split_makes_that_the_test(tmp_path, second):
    fill(tmp_path / "train", count=30)
    fill(tmp_path / second, count=5)
    splits = open_data(tmp_path)
    assert sizes(splits) == {"train": 54, "validation": 6, "test": 10}
    assert splits.sources["test"] == f"{second}/"
    assert "train/" in splits.sources["validation"]


def test_all_three_splits_are_what_they_say(tmp_path):
    for name, count in (("train", 6), ("val", 3), ("test", 2)):
        fill(tmp_path / name, count=count)
    splits = open_data(tmp_path)
    assert sizes(splits) == {"train": 12, "validation": 6, "test": 4}
    assert splits.sources["validation"] == "val/"


def test_a_class_may_be_called_train(tmp_path):
    splits = open_data(fill(tmp_path, classes=("train", "car", "bus")))
    assert splits.labels == ("bus", "car", "train")


def test_own_size_and_channels(tmp_path):
    fill(tmp_path / "small", size=(20, 12), channels=1)
    assert image_shape(tmp_path / "small") == (12, 20, 1)
    assert open_data(tmp_path / "small").train.images.shape[1:] == (12, 20, 1)
    fill(tmp_path / "mixed")
    write(tmp_path / "mixed" / "ant" / "0.png", size=(13, 12))
    assert image_shape(tmp_path / "mixed") == (224, 224, 3)
    chosen = open_data(tmp_path / "mixed", img_size=10, channels=1)
    assert chosen.train.images.shape[1:] == (10, 10, 1)
    fill(tmp_path / "large", size=(300, 300), count=5)
    assert image_shape(tmp_path / "large") == (224, 224, 3)


def test_extensions_in_any_case_hidden_files_and_the_rest(tmp_path, capsys):
    fill(tmp_path)
    (tmp_path / "ant" / "0.png").rename(tmp_path / "ant" / "0.PNG")
    for name in (".DS_Store", "Thumbs.db", "ant/.hidden.png", "notes.txt", "ant/labels.csv"):
        (tmp_path / name).write_text("not an image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "ant" / "deeper").mkdir()
    assert sum(sizes(open_data(tmp_path)).values()) == 40
    told = capsys.readouterr().err
    assert "ignored 3 entries that are not images" in told
    for name in ("notes.txt", "labels.csv", "deeper"):
        assert name in told


def test_links_are_followed_and_broken_ones_named(tmp_path):
    fill(tmp_path / "elsewhere", classes=("ant",))
    fill(tmp_path / "data", classes=("bee",))
    (tmp_path / "data" / "ant").symlink_to(tmp_path / "elsewhere" / "ant")
    assert sum(sizes(open_data(tmp_path / "data")).values()) == 40
    (tmp_path / "data" / "bee" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png: cannot be read"):
        open_data(tmp_path / "data")


def test_bad_images_are_all_named_up_to_ten(tmp_path):
    fill(tmp_path, count=60)
    for index in range(15):
        (tmp_path / "ant" / f"{index}.png").write_bytes(b"" if index % 2 else b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(DataError) as caught:
        open_data(tmp_path)
    message = str(caught.value)
    bad = int(message.split(" of ")[0])
    assert 10 < bad <= 15
    assert message.count(".png: ") == 10
    assert f"and {bad - 10} more" in message


def test_one_bad_test_image_is_not_passed_over(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", count=3)
    (tmp_path / "test" / "bee" / "1.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"1 of 6 test images cannot be used(.|\n)*bee/1\.png"):
        open_data(tmp_path)


def test_layouts_without_a_meaning_are_refused(tmp_path):
    cases = {
        "no class folders": lambda root: write(root / "loose.png"),
        "one class only, ant": lambda root: fill(root, classes=("ant",)),
        "class folders without images: wasp": lambda root: (fill(root), (root / "wasp").mkdir()),
        "no images in its 2 folders": lambda root: [(root / name).mkdir(parents=True) for name in "ab"],
        r"lacks classes that other splits have: bee": lambda root: (
            fill(root / "train"),
            fill(root / "test", classes=("ant",)),
        ),
        r"test lacks classes that other splits have: wasp|train lacks": lambda root: (
            fill(root / "train"),
            fill(root / "val"),
            fill(root / "test", classes=("ant", "bee", "wasp")),
        ),
        r"other folders \(extra\)": lambda root: (fill(root / "train"), fill(root / "extra")),
        "val and validation": lambda root: [fill(root / name) for name in ("train", "val", "validation")],
        r"test holds no class folders": lambda root: (fill(root / "train"), write(root / "test" / "1.png")),
        "no validation images": lambda root: fill(root, count=2),
        "no train images": lambda root: (fill(root / "val"), fill(root / "test")),
    }
    for number, (message, make) in enumerate(cases.items()):
        root = tmp_path / str(number)
        root.mkdir()
        make(root)
        with pytest.raises(DataError, match=message):
            open_data(root)


def test_a_test_folder_alone_serves_a_test(tmp_path):
    fill(tmp_path / "test", count=4)
    splits = open_data(tmp_path, roles=("test",))
    assert sizes(splits) == {"test": 8}
    with pytest.raises(DataError, match="train images were not loaded"):
        _ = splits.train


def test_only_the_roles_asked_for_are_decoded(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test")
    (tmp_path / "train" / "ant" / "3.png").write_bytes(b"broken")
    shape = open_data(tmp_path / "test").preprocessing
    assert sizes(open_data(tmp_path, roles=("test",), preprocessing=shape)) == {"test": 40}


def test_fingerprints_follow_content_labels_and_names(tmp_path):
    def mark(name):
        return open_data(fill(tmp_path / name), roles=("train",)).train.fingerprint

    first = mark("first")
    fill(tmp_path / "second")
    for change in (
        lambda root: write(next((root / "ant").iterdir()), seed=99),
        lambda root: (root / "ant").rename(root / "wasp"),
    ):
        root = fill(tmp_path / f"changed{change.__code__.co_firstlineno}")
        change(root)
        marks = {role: v["fingerprint"] for role, v in open_data(root).roles().items()}
        original = {role: v["fingerprint"] for role, v in open_data(tmp_path / "second").roles().items()}
        assert marks != original
    assert first == open_data(tmp_path / "second").train.fingerprint
    assert first == open_data(tmp_path / "second", img_size=5).train.fingerprint  # of the files, not the size


@pytest.mark.parametrize(
    "values", [{"img_size": 0}, {"img_size": 10**7}, {"channels": 2}, {"roles": ("all",)}, {"roles": ()}]
)
def test_impossible_requests_are_refused(tmp_path, values):
    with pytest.raises(UsageError):
        open_data(fill(tmp_path, count=5), **values)


def test_wrong_paths_name_the_nearest_right_one(tmp_path):
    fill(tmp_path / "photos", count=1)
    with pytest.raises(UsageError, match="did you mean photos"):
        open_data(tmp_path / "photo")
    with pytest.raises(UsageError, match="did you mean digits"):
        open_data("digit")
    (tmp_path / "archive.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"a folder of images, a table .* or digits expected"):
        open_data(tmp_path / "archive.zip")


def test_photographs(shared):
    """A real folder of JPEGs with train/ and val/."""
    splits = open_data(shared / "photos", img_size=32, roles=("validation",))
    assert splits.labels == ("cassette_player", "church", "gas_pump", "parachute", "tench")
    assert len(splits.validation) == 250
    assert splits.validation.images.shape == (250, 32, 32, 3)
    assert (np.bincount(splits.validation.targets) > 30).all()
