"""The cache between real processes: two at once, one killed amid writing, a full disk, and bounded memory."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from cache_child import made_up, pixels, preprocessing

from resfit.data.cache import CacheOptions
from resfit.data.loading import load_roles
from resfit.data.stored import StoredImages

CHILD = Path(__file__).with_name("cache_child.py")


def begin(folder, count, side, what):
    command = [sys.executable, str(CHILD), str(folder), str(count), str(side), what]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def report(child):
    out, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    return json.loads(out.splitlines()[-1]), errors


def content(count, side):
    return hashlib.sha256(b"".join(pixels(index, side).tobytes() for index in range(count))).hexdigest()


def test_of_two_processes_at_once_one_writes_and_the_other_waits_for_its_file(tmp_path):
    count, side = 200, 8
    children = [begin(tmp_path, count, side, "race") for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    (tmp_path / "start").touch()
    reports = [report(child) for child in children]
    assert {each["sha256"] for each, _ in reports} == {content(count, side)}
    # All are read once for their digests, and by one of the two once more to decode them.
    assert sorted(each["reads"] for each, _ in reports) == [count, 2 * count]
    assert {each["kind"] for each, _ in reports} == {"StoredImages"}
    assert len(list(tmp_path.glob("*.images"))) == 1
    assert not list(tmp_path.glob("*.partial"))


def test_a_process_killed_amid_writing_leaves_nothing_that_counts(tmp_path):
    count, side = 200, 8
    child = begin(tmp_path, count, side, "stop")
    assert child.stdout.readline().startswith("amid")
    assert len(list(tmp_path.glob("*.partial"))) == 1
    child.kill()
    child.communicate()
    assert len(list(tmp_path.glob("*.partial"))) == 1
    assert not list(tmp_path.glob("*.images"))
    options = CacheOptions(folder=tmp_path, memory_bytes=0)
    loaded = load_roles({"train": made_up(count, side)}, preprocessing(side), cache=options)
    images = loaded.datasets["train"].images
    assert isinstance(images, StoredImages)
    assert all((images[index] == pixels(index, side)).all() for index in range(count))
    assert len(list(tmp_path.glob("*.images"))) == 1
    assert not list(tmp_path.glob("*.partial"))


def test_on_a_full_disk_images_are_decoded_on_demand(tmp_path):
    found, errors = report(begin(tmp_path, 50, 8, "full"))
    assert found["kind"] == "ImagesOnDemand"
    assert found["sha256"] == content(50, 8)
    assert "File too large; they are decoded whenever they are asked for" in errors
    assert not [path for path in tmp_path.iterdir() if path.stat().st_size]


def test_memory_stays_bounded_whatever_the_cache_holds(tmp_path):
    count, side = 400, 224  # 60 MB
    total = count * side * side * 3
    grown = {}
    for what, kind in (("memory", "ndarray"), ("cache", "StoredImages"), ("cache", "StoredImages")):
        found, _ = report(begin(tmp_path, count, side, what))
        assert found["kind"] == kind
        grown.setdefault(what, []).append(found["grown_bytes"])
    assert grown["memory"][0] > 0.9 * total
    assert max(grown["cache"]) < 0.4 * total  # threads, Pillow's decoders and a few batches
