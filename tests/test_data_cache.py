"""The cache folder: bounded, the longest unused goes first, nothing in use and nothing of others is touched."""

import errno
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from resfit.data import cache as cache_module
from resfit.data.cache import CacheOptions, DoesNotFit, ImageCache, told_bytes
from resfit.data.locking import locked, try_lock
from resfit.data.stored import StoredImages, stored_bytes
from resfit.errors import UsageError

SHAPE = (10, 4, 4, 3)
SIZE = stored_bytes(SHAPE)


def key(number):
    return f"{number:064x}"


def array(number):
    return np.random.default_rng(number).integers(0, 256, SHAPE, dtype=np.uint8)


def make(cache, number):
    """The cached images of a number."""
    images = array(number)

    def fill(writer):
        for index, image in enumerate(images):
            writer.write(index, image)
        return {}

    return cache.make(key(number), SHAPE, fill, images.__getitem__)


def numbers(folder):
    return {int(path.stem, 16) for path in folder.glob(f"{'?' * 64}.images")}


def unused_since(folder, number, seconds):
    path = folder / f"{key(number)}.images"
    moment = path.stat().st_mtime - seconds
    os.utime(path, (moment, moment))


def of(folder, files=2, **changes):
    return ImageCache(CacheOptions(folder=folder, max_bytes=files * SIZE, **changes))


def test_what_was_made_is_found(tmp_path):
    cache = of(tmp_path)
    assert cache.find(key(1), SHAPE, array(1).__getitem__) is None
    assert np.array_equal(make(cache, 1)[:], array(1))
    assert np.array_equal(cache.find(key(1), SHAPE, array(1).__getitem__)[:], array(1))


def test_what_is_there_is_not_made_again(tmp_path):
    cache = of(tmp_path)
    make(cache, 1)
    found = cache.make(key(1), SHAPE, lambda _: pytest.fail("written twice"), array(1).__getitem__)
    assert isinstance(found, StoredImages)


def test_the_longest_unused_goes_first(tmp_path):
    cache = of(tmp_path)
    for number in (1, 2):
        make(cache, number)
    unused_since(tmp_path, 1, 100)
    unused_since(tmp_path, 2, 50)
    cache.find(key(1), SHAPE, array(1).__getitem__)  # used just now
    make(cache, 3)
    assert numbers(tmp_path) == {1, 3}
    assert len(list(tmp_path.glob("*.lock"))) == 3  # of the two files, and of the folder


def test_what_is_in_use_stays(tmp_path):
    cache = of(tmp_path)
    used = [make(cache, number) for number in (1, 2)]
    unused_since(tmp_path, 1, 100)
    with pytest.raises(DoesNotFit, match="what other runs use fills"):
        make(cache, 3)
    assert numbers(tmp_path) == {1, 2}
    del used[1]
    make(cache, 3)
    assert numbers(tmp_path) == {1, 3}
    assert np.array_equal(used[0][:], array(1))


def test_what_is_not_the_caches_is_not_touched(tmp_path):
    others = [tmp_path / name for name in ("notes.txt", "holiday.images", f"{'x' * 63}.partial")]
    for path in others:
        path.write_bytes(b"x" * SIZE)
    cache = of(tmp_path, files=1)
    for number in (1, 2):
        make(cache, number)
    assert all(path.read_bytes() == b"x" * SIZE for path in others)
    assert numbers(tmp_path) == {2}


def test_leftovers_of_killed_processes_make_room(tmp_path):
    left = tmp_path / f"{key(7)}.partial"
    written = tmp_path / f"{key(8)}.partial"
    for path in (left, written):
        path.write_bytes(b"x" * SIZE)
        path.with_suffix(".lock").touch()
    with locked(written.with_suffix(".lock")):
        make(of(tmp_path), 1)
    assert written.exists()
    assert not left.exists()


def test_what_is_larger_than_allowed_does_not_fit_and_removes_nothing(tmp_path):
    make(of(tmp_path), 1)
    small = ImageCache(CacheOptions(folder=tmp_path, max_bytes=SIZE - 1))
    with pytest.raises(DoesNotFit, match="are more than the"):
        make(small, 2)
    assert numbers(tmp_path) == {1}


def test_half_of_the_free_space_is_the_most(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 3 * SIZE})
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: usage)
    cache = of(tmp_path, files=10)
    assert cache.allowed_bytes() == 3 * SIZE // 2
    make(cache, 1)
    usage.free = 2 * SIZE  # the file took its part: what it may take stays the same
    assert cache.allowed_bytes() == 3 * SIZE // 2


@pytest.mark.parametrize("end", [b"", b"x"])
def test_a_damaged_file_is_written_anew(tmp_path, end, capsys):
    cache = of(tmp_path)
    make(cache, 1)
    path = tmp_path / f"{key(1)}.images"
    path.write_bytes(path.read_bytes()[:-1] + end)
    assert np.array_equal(make(cache, 1)[:], array(1))
    assert "is damaged" in capsys.readouterr().err
    assert cache.find(key(1), SHAPE, array(1).__getitem__) is not None


def test_a_failure_amid_writing_leaves_no_file(tmp_path):
    def fill(writer):
        writer.write(0, array(1)[0])
        raise RuntimeError("amid")

    cache = of(tmp_path)
    with pytest.raises(RuntimeError, match="amid"):
        cache.make(key(1), SHAPE, fill, array(1).__getitem__)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
    make(cache, 1)


@pytest.mark.parametrize("call", ["pwrite", "posix_fallocate", "replace", "fsync"])
def test_a_disk_that_fills_up_is_a_reason_and_leaves_no_file(tmp_path, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(DoesNotFit, match="No space left on device"):
        make(of(tmp_path), 1)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_file_systems_that_cannot_allocate_are_written_all_the_same(tmp_path, monkeypatch):
    def cannot(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    assert np.array_equal(make(of(tmp_path), 1)[:], array(1))


def test_a_folder_that_cannot_be_made_is_a_reason(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DoesNotFit, match="Not a directory"):
        make(of(tmp_path / "file" / "below"), 1)


def test_without_file_locks_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "CAN_LOCK", False)
    with pytest.raises(DoesNotFit, match="no file locks"):
        make(of(tmp_path), 1)
    assert not list(tmp_path.iterdir())


def test_options_are_checked(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file, expected a folder"):
        CacheOptions(folder=tmp_path / "file")
    for name in ("max_bytes", "memory_bytes"):
        with pytest.raises(UsageError, match=f"{name} -1: 0 or more expected"):
            CacheOptions(**{name: -1})


def test_the_folder_is_where_the_system_keeps_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert CacheOptions().place == tmp_path / "xdg" / "resfit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert CacheOptions().place == tmp_path / ".cache" / "resfit"
    assert CacheOptions(folder=Path("~/mine")).place == tmp_path / "mine"


def test_who_waits_for_a_lock_file_that_is_removed_takes_the_new_one(tmp_path):
    path = tmp_path / "one.lock"
    waiting, released, held = threading.Event(), threading.Event(), []

    def wait():
        with locked(path, on_wait=waiting.set), try_lock(path) as free:
            held.append(released.is_set() and path.exists() and not free)

    waiter = threading.Thread(target=wait)
    with locked(path):
        waiter.start()
        assert waiting.wait(60)
        path.unlink()
        time.sleep(0.1)  # for who does not wait to be seen at it
        released.set()
    waiter.join(60)
    assert held == [True]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (54_800_000, "54.8 MB"), (20 * 10**9, "20 GB")],
)
def test_sizes_for_people(count, text):
    assert told_bytes(count) == text
