"""An audit lists every planted fault, all of them at once, and nothing else of a clean folder."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resfit.data.audit import Audit, audit_inventory
from resfit.data.inventory import UNLABELLED, picture, take_inventory
from resfit.errors import DataError, UsageError

CLASSES = ("plus", "ring", "wave")


def _drawing(label: str, seed: int, edge: int = 48) -> Image.Image:
    """A shape of the class on a background of rectangles, unlike those of any other seed."""
    generator = np.random.default_rng([seed, CLASSES.index(label)])
    pixels = np.full((edge, edge, 3), generator.uniform(60, 200, 3))
    for _ in range(8):
        top, left = generator.integers(0, edge - 6, 2)
        height, width = generator.integers(5, edge // 2, 2)
        pixels[top : top + height, left : left + width] = generator.uniform(0, 255, 3)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    for split, seeds in (("train", range(8)), ("test", range(100, 104))):
        for label in CLASSES:
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for seed in seeds:
                _drawing(label, seed).save(folder / f"{seed}.png")
    return tmp_path / "data"


def _audit(data: Path, **options: int) -> Audit:
    return audit_inventory(take_inventory(data), **options)


def test_a_clean_folder_has_nothing(clean: Path) -> None:
    found = _audit(clean)
    assert found.num_images == 36
    assert found.splits == {"train": 24, "test": 12}
    assert found.class_counts == {"train": dict.fromkeys(CLASSES, 8), "test": dict.fromkeys(CLASSES, 4)}
    assert found.imbalance == {"train": 1.0, "test": 1.0}
    assert not found.refusal
    for name in (
        "corrupt", "empty", "empty_classes", "ignored", "duplicates", "leaks", "label_conflicts", "tiny",
        "one_colour", "class_names", "class_names_twice",
    ):  # fmt: skip
        assert getattr(found, name) == [], name


def test_unreadable_files_are_all_named_with_reasons(clean: Path) -> None:
    folder = clean / "train" / "ring"
    whole = (folder / "0.png").read_bytes()
    (folder / "zero.jpg").touch()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.JPEG").write_text("no image")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    photo = folder / "photo.jpg"
    Image.effect_noise((300, 300), 60).convert("RGB").save(photo)
    photo.write_bytes(photo.read_bytes()[:-2000])
    found = _audit(clean)
    reasons = {Path(item["path"]).name: item["reason"] for item in found.corrupt}
    assert set(reasons) == {"zero.jpg", "cut.png", "text.JPEG", "gone.png", "photo.jpg"}
    assert "empty" in reasons["zero.jpg"]
    assert "no such file" in reasons["gone.png"]
    assert "truncated" in reasons["photo.jpg"]
    assert found.empty == [str(folder / "zero.jpg")]
    assert found.num_images == 41
    assert found.duplicates == []  # files that cannot be read are not each other's duplicates


def test_duplicates_leaks_and_conflicts_say_what_they_are(clean: Path) -> None:
    train, test = clean / "train", clean / "test"
    shutil.copy(train / "plus" / "1.png", train / "plus" / "copy.png")
    shutil.copy(train / "ring" / "2.png", test / "ring" / "leak.png")
    shutil.copy(train / "wave" / "3.png", train / "ring" / "conflict.png")
    again = Image.open(train / "plus" / "4.png").resize((96, 96))
    again.save(test / "plus" / "again.jpg", quality=80)
    found = _audit(clean)
    groups = {tuple(sorted(Path(path).name for path in group)): kind for group, kind in
              zip(found.duplicates, found.duplicate_kinds, strict=True)}  # fmt: skip
    assert groups == {
        ("1.png", "copy.png"): "exact",
        ("2.png", "leak.png"): "exact",
        ("3.png", "conflict.png"): "exact",
        ("4.png", "again.jpg"): "near",
    }
    leaks = {leak["kind"]: leak for leak in found.leaks}
    assert len(found.leaks) == 2
    assert leaks["exact"]["paths"] == [str(test / "ring" / "leak.png"), str(train / "ring" / "2.png")] or leaks[
        "exact"
    ]["paths"] == [str(train / "ring" / "2.png"), str(test / "ring" / "leak.png")]
    assert set(leaks["near"]["splits"]) == {"train", "test"}
    assert [sorted(item["labels"]) for item in found.label_conflicts] == [["ring", "wave"]]


def test_plain_and_tiny_images(clean: Path) -> None:
    Image.new("RGB", (48, 48), (10, 200, 30)).save(clean / "train" / "plus" / "green.png")
    Image.new("L", (48, 48), 255).save(clean / "train" / "ring" / "white.jpg")
    _drawing("wave", 50).resize((12, 9)).save(clean / "train" / "wave" / "small.png")
    found = _audit(clean)
    assert {Path(path).name for path in found.one_colour} == {"green.png", "white.jpg"}
    assert [(Path(item["path"]).name, item["width"], item["height"]) for item in found.tiny] == [("small.png", 12, 9)]
    assert found.duplicates == []


def test_tiny_goes_by_the_size_training_will_use(clean: Path) -> None:
    assert _audit(clean, img_size=192).tiny == []  # four times as large
    assert len(_audit(clean, img_size=224).tiny) == 36


def test_splits_that_differ_are_audited_all_the_same(clean: Path) -> None:
    (clean / "test" / "ring").rename(clean / "test" / "Ring")
    (clean / "train" / "none yet").mkdir()
    (clean / "train" / "wave" / "notes.txt").write_text("x")
    found = _audit(clean)
    assert found.num_images == 36
    assert found.refusal
    assert found.empty_classes == [{"split": "train", "class": "none yet"}]
    assert found.class_counts["train"]["none yet"] == 0
    assert "ring" not in found.class_counts["test"]
    names = {item["class"]: item for item in found.class_names}
    assert names["ring"]["written_there"] == ["Ring"]
    assert names["none yet"]["missing_from"] == ["test"]
    assert found.ignored == [str(clean / "train" / "wave" / "notes.txt")]


def test_one_class_and_no_class_at_all(clean: Path) -> None:
    found = _audit(clean / "train" / "plus")
    assert found.class_counts == {"whole": {UNLABELLED: 8}}
    assert found.refusal
    shutil.rmtree(clean / "train" / "ring")
    shutil.rmtree(clean / "train" / "wave")
    found = _audit(clean / "train")
    assert found.class_counts == {"whole": {"plus": 8}}
    assert "one class" in found.refusal


def test_two_folders_for_one_role_are_both_audited(clean: Path) -> None:
    shutil.copytree(clean / "test", clean / "val")
    shutil.copytree(clean / "test", clean / "valid")
    found = _audit(clean)
    assert set(found.splits) == {"train", "test", "val", "valid"}
    assert found.refusal
    assert all(set(leak["splits"]) == {"test", "val", "valid"} for leak in found.leaks)
    assert len(found.leaks) == 12


def test_small_pictures_count_as_duplicates_by_their_bytes_alone(tmp_path: Path) -> None:
    """At 8 x 8, many digits look the same and are not."""
    found = _audit(Path("digits"))
    assert found.num_images == 1797
    assert found.duplicates == []
    assert found.tiny == []
    assert sum(found.class_counts["whole"].values()) == 1797
    assert not list(tmp_path.iterdir())


def test_a_picture_for_people_keeps_its_shape(tmp_path: Path) -> None:
    for name, size in (("a", (300, 100)), ("b", (40, 30))):
        (tmp_path / name).mkdir()
        Image.effect_noise(size, 50).save(tmp_path / name / "x.png")
    turned = Image.effect_noise((300, 100), 50)
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "a" / "y.jpg", exif=exif)
    (tmp_path / "b" / "z.png").touch()
    inventory = take_inventory(tmp_path)
    shapes = {
        Path(name).name: None if made is None else made.shape
        for index, name in enumerate(inventory.listing.names)
        for made in [picture(inventory, index, edge=150)]
    }
    assert shapes == {"x.png": (30, 40, 3), "y.jpg": (150, 50, 3), "z.png": None}


def test_no_images_or_no_data_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no images|without images"):
        take_inventory(tmp_path / "empty")
    with pytest.raises(UsageError, match="no data at"):
        take_inventory(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_read_is_told(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = clean / "train" / "plus"
    listing = os.listdir

    def refusing(folder: Path) -> list[str]:
        if Path(folder) == locked:
            raise PermissionError(13, "Permission denied", str(folder))
        return listing(folder)

    monkeypatch.setattr(os, "listdir", refusing)
    found = _audit(clean)
    assert str(locked) in found.ignored
    assert "cannot be read" in found.refusal
    assert found.num_images == 28
