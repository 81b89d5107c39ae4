"""Webdataset tars, honest and hostile."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_images import encoded, labels_by_name, pixels, sizes

from resfit.data.sources import open_data
from resfit.data.tar_members import samples_of
from resfit.errors import DataError, UsageError


def pack(path, members, **options):
    """A tar of (name, content) pairs; a TarInfo stands for itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def samples(count=40, first=0, folder="", ending="cls", label=lambda number: str(number % 2)):
    for number in range(first, first + count):
        yield f"{folder}{number:04d}.png", encoded(number)
        yield f"{folder}{number:04d}.{ending}", label(number).encode()


def in_turn(splits, names=("0", "1")):
    return all(names[int(Path(name).stem) % 2] == label for name, label in labels_by_name(splits).items())


def test_shards_of_one_set(tmp_path):
    for shard in range(4):
        pack(tmp_path / f"colours-{shard:06d}.tar", samples(10, first=10 * shard))
    splits = open_data(tmp_path)
    assert sizes(splits) == {"train": 28, "validation": 4, "test": 8}
    assert splits.labels == ("0", "1")
    assert in_turn(splits)
    name = splits.train.name(3)
    assert name.startswith("colours-00000")
    assert (splits.train.images[3] == pixels(int(Path(name).stem))).all()


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-{0}.tar", "test-{0}.tar"),
        ("imagenet-train-{0}.tar", "imagenet-validation-{0}.tar"),
        ("train/{0}.tar", "val/{0}.tar"),
    ],
)
def test_splits_by_name_or_folder(tmp_path, train, test):
    for shard in range(2):
        pack(tmp_path / train.format(shard), samples(20, first=20 * shard))
    pack(tmp_path / test.format(0), samples(6, first=100))
    splits = open_data(tmp_path)
    assert sizes(splits) == {"train": 36, "validation": 4, "test": 6}
    assert in_turn(splits)


def test_class_names_beside_the_tars(tmp_path):
    pack(tmp_path / "train.tar", samples(20))
    pack(tmp_path / "test.tar", samples(6))
    (tmp_path / "classnames.txt").write_text("zebra\nant\nbee\n")
    splits = open_data(tmp_path)
    assert splits.labels == ("zebra", "ant")  # the order the numbers refer to; no image is of a bee
    assert in_turn(splits, ("zebra", "ant"))
    (tmp_path / "classnames.txt").write_text("zebra\n")
    with pytest.raises(DataError, match=r"0001\.png is of class 1, but 1 classes are named"):
        open_data(tmp_path)


def test_labels_as_text_and_in_json(tmp_path):
    pack(tmp_path / "text.tar", samples(label=lambda number: ("zebra", "ant")[number % 2] + "\n"))
    assert open_data(tmp_path / "text.tar").labels == ("ant", "zebra")
    pack(
        tmp_path / "json.tar",
        samples(ending="json", label=lambda number: json.dumps({"label": number % 2, "width": 6})),
    )
    assert in_turn(open_data(tmp_path / "json.tar"))


def test_other_members_are_passed_over(tmp_path):
    rest = [("readme.txt", b"hello"), ("0001.seg.png", encoded(1)), ("._0001.png", b"mac"), ("0001.txt", b"a picture")]
    path = pack(tmp_path / "data.tar", [*rest, *samples(folder="./")])
    assert sum(sizes(open_data(path)).values()) == 40


def test_a_tar_of_class_folders_with_splits(tmp_path):
    members = [
        (f"data/{split}/{('zebra', 'ant')[number % 2]}/{number}.png", encoded(number))
        for split, numbers in (("train", range(40)), ("test", range(100, 106)))
        for number in numbers
    ]
    splits = open_data(pack(tmp_path / "data.tar", members))
    assert sizes(splits) == {"train": 36, "validation": 4, "test": 6}
    assert in_turn(splits, ("zebra", "ant"))


def test_an_archive_beside_class_folders_is_not_read(tmp_path):
    pack(tmp_path / "data.tar", samples())
    for number in range(20):
        folder = tmp_path / ("zebra", "ant")[number % 2]
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.png").write_bytes(encoded(number))
    assert sum(sizes(open_data(tmp_path)).values()) == 20


@pytest.mark.parametrize("name", ["../../escaped.png", "/tmp/escaped.png", "a/../../escaped.png", "..\\escaped.png"])
def test_members_that_point_outside_are_refused(tmp_path, name):
    path = pack(tmp_path / "in" / "data.tar", [*samples(), (name, encoded(1))])
    with pytest.raises(DataError, match=r"escaped\.png' points outside"):
        open_data(path)
    assert not list(tmp_path.rglob("escaped*"))


def test_links_and_devices_are_left_out_and_told(tmp_path, capsys):
    odd = []
    for kind, name in ((tarfile.SYMTYPE, "9000.png"), (tarfile.LNKTYPE, "9001.png"), (tarfile.FIFOTYPE, "9002.png")):
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        odd.append((member, b""))
    assert sum(sizes(open_data(pack(tmp_path / "data.tar", [*odd, *samples()]))).values()) == 40
    assert "left out 3 members that are no files: 9000.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("0.png", b""), ("0.jpg", b"")], r"0\.png and 0\.jpg are both the image of one sample"),
        ([*samples(4), ("9.png", b"")], r"1 of 5 images have no label: 9\.png"),
        ([("9.png", b"")], "1 of 1 images have no label"),
        ([("9.cls", b"1")], "holds no images"),
        ([("9.png", b""), ("9.cls", b"\xff\xfe")], r"9\.cls is not readable as a label"),
        ([("9.png", b""), ("9.json", b"[" * 100_000)], r"9\.json is not readable as a label"),
        ([("9.png", b""), ("9.cls", b"1" * 2_000_000)], "too much to be one"),
        (list(samples(4, label=lambda _: "ant")), "one class only, ant"),
    ],
)
def test_tars_without_a_meaning_are_refused(tmp_path, members, message):
    with pytest.raises(DataError, match=message):
        open_data(pack(tmp_path / "data.tar", members))


def test_classes_that_differ_between_splits_are_refused(tmp_path):
    pack(tmp_path / "train.tar", samples())
    pack(tmp_path / "test.tar", samples(4, label=lambda _: "1"))
    with pytest.raises(DataError, match=r"test\.tar lacks classes that other splits have: 0"):
        open_data(tmp_path)
    pack(tmp_path / "test.tar", samples(4))
    pack(tmp_path / "more.tar", samples(4))
    with pytest.raises(DataError, match=r"more\.tar has images of no split"):
        open_data(tmp_path)


def test_compressed_tars_say_what_to_do(tmp_path):
    path = tmp_path / "data.tar.gz"
    path.write_bytes(gzip.compress(pack(tmp_path / "data.tar", samples()).read_bytes()))
    with pytest.raises(DataError, match=r"compressed tar(.|\n)*uncompress"):
        open_data(path)


def test_a_damaged_header_does_not_end_the_set_in_silence(tmp_path):
    """tarfile stops there as if it were the end; the images after it would be lost."""
    path = pack(tmp_path / "data.tar", samples())
    content = bytearray(path.read_bytes())
    content[20 * 1024 + 148 : 20 * 1024 + 156] = b"garbage!"  # a header's checksum
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not a whole tar \(what follows byte 20480 is no member\)"):
        open_data(path)


def test_a_second_tar_behind_the_first_is_not_lost_in_silence(tmp_path):
    first = pack(tmp_path / "data.tar", samples()).read_bytes()
    (tmp_path / "data.tar").write_bytes(first + pack(tmp_path / "b.tar", samples(first=40)).read_bytes())
    with pytest.raises(DataError, match="not a whole tar"):
        open_data(tmp_path / "data.tar")


@pytest.mark.parametrize("size", [2**33 - 1, 2**62, -1])
def test_a_header_that_lies_about_its_size(tmp_path, size):
    member = tarfile.TarInfo("9.png")
    member.size = size
    whole = pack(tmp_path / "data.tar", samples()).read_bytes()
    header = member.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "data.tar").write_bytes(header + encoded(1).ljust(512, b"\0") + whole)
    with pytest.raises(DataError, match="not a whole tar"):
        open_data(tmp_path / "data.tar")


def test_a_bad_image_in_a_tar_is_named(tmp_path):
    path = pack(tmp_path / "data.tar", [*samples(), ("9000.png", b"\x89PNG\r\n\x1a\n lies"), ("9000.cls", b"1")])
    with pytest.raises(DataError, match=r"data\.tar/9000\.png: "):
        open_data(path)
    splits = open_data(path, max_unreadable=0.05)
    assert [image.name for image in splits.skipped] == ["data.tar/9000.png"]


def test_a_tar_that_shrinks_while_it_is_used_is_noticed(tmp_path):
    path = pack(tmp_path / "data.tar", samples())
    last = samples_of(path)[-1]
    path.write_bytes(path.read_bytes()[: last.offset + 5])
    from resfit.data.tar_members import read_member

    with pytest.raises(OSError, match="shorter than when it was opened"):
        read_member(last)


def test_no_tar_at_all(tmp_path):
    for content in (b"", b"not a tar", bytes(2048)):
        (tmp_path / "data.tar").write_bytes(content)
        with pytest.raises(DataError, match=r"not a whole tar|holds no images"):
            open_data(tmp_path / "data.tar")
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"\.tar"):
        open_data(tmp_path / "data.zip")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 6), cut=st.booleans())
def test_damaged_tars_give_samples_or_a_data_error(tmp_path_factory, seed, changes, cut):
    path = tmp_path_factory.mktemp("damaged") / "data.tar"
    content = bytearray(pack(path, samples(3)).read_bytes())
    generator = np.random.default_rng(seed)
    for place in generator.integers(0, len(content), changes):
        content[place] = generator.integers(256)
    end = int(generator.integers(len(content))) if cut else len(content)
    path.write_bytes(content[:end])
    try:
        found = samples_of(path)
    except DataError:
        return
    assert all(sample.offset >= 0 and sample.offset + sample.num_bytes <= end for sample in found)
