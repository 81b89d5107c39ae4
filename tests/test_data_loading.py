"""Roles of images in memory, through the cache, and on demand: the same whichever it is."""

import numpy as np
import pytest
from cache_child import encoded, made_up, pixels, preprocessing

from resfit.data.cache import CacheOptions
from resfit.data.dataset import Skipped, Splits
from resfit.data.decoding import ImagesOnDemand
from resfit.data.loading import load_roles
from resfit.data.preprocessing import Preprocessing
from resfit.data.sources import open_data
from resfit.data.stored import FORMAT, StoredImages
from resfit.errors import DataError

SIDE = 6
KINDS = {"memory": np.ndarray, "cache": StoredImages, "demand": ImagesOnDemand}


def options(kind, folder):
    return CacheOptions(
        folder=folder, memory_bytes=10**9 if kind == "memory" else 0, max_bytes=0 if kind == "demand" else 10**9
    )


def load(kind, folder, listings, *, max_unreadable=0.0, shape=None):
    return load_roles(
        listings, shape or preprocessing(SIDE), cache=options(kind, folder), max_unreadable=max_unreadable
    )


def with_bad(*bad):
    """Reads images as they are, those at the places `bad` cut short."""
    return lambda index: encoded(index, SIDE)[: 20 if index in bad else None]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_images(tmp_path, kind):
    whole = made_up(150, SIDE)
    roles = {"train": whole.subset(np.arange(100)), "test": whole.subset(np.arange(100, 150))}
    for _ in range(2):
        datasets = load(kind, tmp_path, roles).datasets
        assert isinstance(datasets["train"].images, KINDS[kind])
        assert datasets["test"].images.shape == (50, SIDE, SIDE, 3)
        chosen = np.array([3, 49, 0])
        for row, index in zip(datasets["test"].images[chosen], chosen, strict=True):
            assert (row == pixels(100 + index, SIDE)).all()
        reference = load("memory", tmp_path, roles).datasets
        assert [datasets[role].fingerprint for role in roles] == [reference[role].fingerprint for role in roles]
        assert np.array_equal(datasets["train"].digests, reference["train"].digests)


@pytest.mark.parametrize("kind", KINDS)
def test_unreadable_images_are_left_out_by_name_up_to_the_share(tmp_path, kind):
    bad = made_up(100, SIDE, with_bad(7, 40))
    for _ in range(2):  # written, then found
        loaded = load(kind, tmp_path, {"train": bad}, max_unreadable=0.02)
        assert [(image.name, image.role) for image in loaded.skipped] == [("7.ppm", "train"), ("40.ppm", "train")]
        assert all(image.reason and "ppm" not in image.reason for image in loaded.skipped)
        kept = np.setdiff1d(np.arange(100), [7, 40])
        assert np.array_equal(loaded.kept["train"], kept)
        train = loaded.datasets["train"]
        assert train.names == tuple(f"{index}.ppm" for index in kept)
        assert np.array_equal(train.targets, kept % 2)
        assert all((train.images[place] == pixels(index, SIDE)).all() for place, index in enumerate(kept.tolist()))
    without = load("memory", tmp_path, {"train": made_up(100, SIDE).subset(kept)}).datasets["train"]
    assert train.fingerprint == without.fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_more_unreadable_images_than_the_share_are_an_error_that_names_ten(tmp_path, kind):
    bad = made_up(100, SIDE, with_bad(*range(0, 24, 2)))
    with pytest.raises(
        DataError, match=r"12 of 100 train images cannot be used:\n  0\.ppm: .*(\n.*){8}\n.*\n  and 2 more"
    ):
        load(kind, tmp_path, {"train": bad}, max_unreadable=0.11)
    assert not list(tmp_path.glob("*.images"))
    assert len(load(kind, tmp_path, {"train": bad}, max_unreadable=0.12).datasets["train"]) == 88


def test_the_share_is_of_all_roles_together(tmp_path):
    roles = {"train": made_up(90, SIDE, with_bad(1)), "test": made_up(10, SIDE, with_bad(2))}
    assert len(load("memory", tmp_path, roles, max_unreadable=0.02).skipped) == 2
    with pytest.raises(DataError, match="1 of 10 test images cannot be used"):
        load("memory", tmp_path, roles, max_unreadable=0.01)


def test_a_class_that_loses_its_last_image_is_an_error(tmp_path):
    odd = range(1, 10, 2)
    with pytest.raises(DataError, match=r"no train image of b can be used\n5 of 10"):
        load("memory", tmp_path, {"train": made_up(10, SIDE, with_bad(*odd))}, max_unreadable=1.0)


def test_an_image_that_cannot_be_read_at_all_is_left_out_like_one_that_cannot_be_decoded(tmp_path):
    def read(index):
        if index == 5:
            raise FileNotFoundError(2, "No such file or directory")
        return encoded(index, SIDE)

    for kind in KINDS:
        loaded = load(kind, tmp_path, {"train": made_up(20, SIDE, read)}, max_unreadable=0.1)
        assert loaded.skipped == (
            Skipped(name="5.ppm", role="train", reason="cannot be read (No such file or directory)"),
        )
    # Back again, it is another content: nothing remembers that it was once missing.
    assert len(load("cache", tmp_path, {"train": made_up(20, SIDE)}).datasets["train"]) == 20


def test_the_size_is_told_before_anything_is_written(tmp_path, capsys):
    seen = []

    def read(index):
        seen.append(capsys.readouterr().err)
        return encoded(index, SIDE)

    load("cache", tmp_path, {"train": made_up(100, SIDE, read)})
    told = next(place for place, text in enumerate(seen) if text)
    assert f"the decoded images take 11.3 kB in {tmp_path} (all files there: at most 1 GB)" in seen[told]
    assert told == 100  # when all digests are known, before the first image is decoded
    load("cache", tmp_path, {"train": made_up(100, SIDE)})
    assert capsys.readouterr().err == ""


def test_what_does_not_fit_is_told_and_decoded_on_demand(tmp_path, capsys):
    load("demand", tmp_path, {"train": made_up(10, SIDE)})
    assert "take 1.19 kB decoded and are not cached: 0 bytes are allowed" in capsys.readouterr().err


def test_little_stays_in_memory_without_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images = load_roles({"train": made_up(10, SIDE)}, preprocessing(SIDE)).datasets["train"].images
    assert isinstance(images, np.ndarray)
    assert not list(tmp_path.iterdir())


def test_what_free_memory_cannot_hold_goes_to_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("resfit.data.loading.available_memory", lambda: 1000)
    assert isinstance(load("memory", tmp_path, {"train": made_up(10, SIDE)}).datasets["train"].images, StoredImages)


def test_content_size_and_fit_decide_which_file_it_is(tmp_path):
    def files():
        return len(list(tmp_path.glob("*.images")))

    load("cache", tmp_path, {"train": made_up(10, SIDE)})
    load("cache", tmp_path, {"test": made_up(10, SIDE)})
    assert files() == 1  # another role of the same content
    load("cache", tmp_path, {"train": made_up(10, SIDE, lambda index: encoded(index + 1, SIDE))})
    assert files() == 2
    load("cache", tmp_path, {"train": made_up(10, SIDE)}, shape=preprocessing(SIDE + 1))
    assert files() == 3
    changes = {"height": SIDE, "width": SIDE, "channels": 3, "std": (1.0,) * 3}
    load("cache", tmp_path, {"train": made_up(10, SIDE)}, shape=Preprocessing(mean=(0.5,) * 3, **changes))
    assert files() == 3  # mean and deviation change no pixel
    load("cache", tmp_path, {"train": made_up(10, SIDE)}, shape=Preprocessing(mean=(0.5,) * 3, fit="squash", **changes))
    assert files() == 4


def test_a_damaged_image_is_decoded_from_its_source_and_the_file_written_anew(tmp_path, capsys):
    roles = {"train": made_up(10, SIDE)}
    load("cache", tmp_path, roles)
    (path,) = tmp_path.glob("*.images")
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    images = load("cache", tmp_path, roles).datasets["train"].images
    assert (images[0] == pixels(0, SIDE)).all()
    assert "is damaged (image 0)" in capsys.readouterr().err
    load("cache", tmp_path, roles)
    assert path.read_bytes() == whole


def test_a_file_of_another_format_is_neither_read_nor_removed(tmp_path, capsys, monkeypatch):
    roles = {"train": made_up(10, SIDE)}
    for module in ("stored", "loading"):
        monkeypatch.setattr(f"resfit.data.{module}.FORMAT", FORMAT - 1)
    load("cache", tmp_path, roles)
    (earlier,) = tmp_path.glob("*.images")
    before = earlier.read_bytes()
    monkeypatch.undo()
    capsys.readouterr()
    images = load("cache", tmp_path, roles).datasets["train"].images
    assert (images[0] == pixels(0, SIDE)).all()
    assert "damaged" not in capsys.readouterr().err
    assert earlier.read_bytes() == before  # an earlier resfit may share the folder
    assert len(list(tmp_path.glob("*.images"))) == 2


def test_an_image_that_changed_meanwhile_is_an_error(tmp_path):
    moved = [0]
    changing = made_up(10, SIDE, lambda index: encoded(index + moved[0], SIDE))
    demand = load("demand", tmp_path, {"train": changing}).datasets["train"].images
    moved[0] = 1
    with pytest.raises(DataError, match=r"4\.ppm: changed since this run first read it"):
        demand[4]
    reads = []

    def read(index):
        reads.append(index)
        return encoded(index + len(reads) // 10, SIDE)

    with pytest.raises(DataError, match="changed while it was read"):
        load("cache", tmp_path, {"train": made_up(10, SIDE, read)})
    assert len(list(tmp_path.glob("*.images"))) == 0


def test_splits_tell_what_loading_found(tmp_path):
    train = made_up(60, SIDE, with_bad(3))
    test = made_up(40, SIDE, lambda index: encoded(index + 50 if index else 51, SIDE))  # 0 and 1 are equal
    loaded = load("memory", tmp_path, {"train": train, "test": test}, max_unreadable=0.1)
    splits = Splits(
        train=loaded.datasets["train"],
        validation=None,
        test=loaded.datasets["test"],
        labels=("a", "b"),
        sources={},
        preprocessing=preprocessing(SIDE),
        skipped=loaded.skipped,
    )
    assert splits.skipped == loaded.skipped
    assert splits.audit == {
        "num_images": {"train": 59, "test": 40},
        "skipped": [["3.ppm", loaded.skipped[0].reason]],
        "duplicates": 9,  # 51 to 59 are in both; 51 twice in test
        "leaks": 10,
        "class_counts": {"train": {"a": 30, "b": 29}, "test": {"a": 20, "b": 20}},
    }


def test_data_is_the_same_whichever_way_it_is_loaded(tmp_path, shapes_folder):
    opened = {kind: open_data(shapes_folder, cache=options(kind, tmp_path / "cache")) for kind in KINDS}
    assert {kind: type(splits.train.images) for kind, splits in opened.items()} == KINDS
    assert len({splits.fingerprint for splits in opened.values()}) == 1
    assert len({splits.preprocessing for splits in opened.values()}) == 1


def test_images_that_leak_between_splits_are_told_in_one_line(tmp_path, capsys):
    for split, first in (("train", 0), ("test", 2)):
        for label in range(2):
            folder = tmp_path / split / "ab"[label]
            folder.mkdir(parents=True)
            for index in range(first, first + 3):
                (folder / f"{index}.ppm").write_bytes(encoded(100 * label + index, SIDE))
    splits = open_data(tmp_path, roles=("train", "test"))
    leaked = splits.audit["leaks"]
    assert 0 < leaked <= 2  # some of what test shares with train was cut off for validation
    told = f"{leaked} validation or test images are, byte for byte, in an earlier split too"
    assert capsys.readouterr().err == f"{told}: resfit audit {tmp_path} names them\n"
