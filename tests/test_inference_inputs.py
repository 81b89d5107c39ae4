"""Files, folders, patterns, tars, parquet files and standard input to a stream of pictures."""

import gzip
import io
import os
import sys
import tarfile
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resfit.errors import DataError, MissingExtra, UsageError
from resfit.inference.inputs import pictures


def names(inputs, **options):
    return [picture.name for picture in pictures(inputs, **options)]


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "inner/c.jpeg", "notes.txt", ".hidden.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_a_folder_stands_for_its_images_at_any_depth_in_name_order(folder):
    assert names([folder]) == [str(folder / "a.PNG"), str(folder / "b.jpg"), str(folder / "inner/c.jpeg")]


def test_order_is_as_given_and_nothing_is_listed_twice(folder):
    assert names([folder / "b.jpg", folder])[0] == str(folder / "b.jpg")
    assert len(names([folder / "b.jpg", folder, folder / "b.jpg"])) == 3


def test_a_pattern_matches_files(folder):
    assert names([str(folder / "**/*.jp*")]) == [str(folder / "b.jpg"), str(folder / "inner/c.jpeg")]


def test_a_file_with_magic_characters_in_its_name_is_that_file(folder):
    odd = folder / "x[1].jpg"
    odd.write_bytes(b"x")
    assert names([str(odd)]) == [str(odd)]


def test_a_file_is_taken_whatever_its_name_ends_in(folder):
    assert names([folder / "notes.txt"]) == [str(folder / "notes.txt")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no images were given"),
        (["{}/nothing.jpg"], "there is no image .*nothing.jpg"),
        (["{}/*.gif"], "no file matches .*gif"),
        (["{}/empty"], "the folder .*empty has no images"),
    ],
)
def test_nothing_to_classify_is_a_usage_error_that_names_it(folder, given, message):
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        pictures([text.format(folder) for text in given])


def test_hidden_folders_are_passed_over_and_links_to_folders_not_entered(folder):
    (folder / ".cache").mkdir()
    (folder / ".cache" / "d.jpg").write_bytes(b"x")
    (folder / "round").symlink_to(folder, target_is_directory=True)
    assert len(names([folder])) == 3


def test_a_folder_is_gone_through_in_the_order_of_whole_names(tmp_path):
    for name in ("b/z.jpg", "b.jpg", "a/2.jpg", "a/10.jpg", "B.jpg", "b/a/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    given = [Path(name) for name in names([tmp_path])]
    assert given == sorted(tmp_path.rglob("*.jpg"))


def test_paths_on_standard_input_come_as_they_are(folder):
    lines = [
        f"{folder / 'b.jpg'}\n",
        "\n",
        f"{folder / 'absent.jpg'}\n",
        f"{folder / 'inner'}\n",
        str(folder / "b.jpg"),
    ]
    expected = [folder / "b.jpg", folder / "absent.jpg", folder / "inner/c.jpeg", folder / "b.jpg"]
    assert names(["-"], lines=lines) == [str(path) for path in expected]
    with pytest.raises(OSError, match="absent"):
        list(pictures(["-"], lines=lines))[1].read()


def test_standard_input_is_read_line_by_line():
    taken = []

    def lines():
        for number in range(100):
            taken.append(number)
            yield f"{number}.jpg\n"

    found = pictures(["-"], lines=lines())
    assert taken == []
    next(found)
    assert taken == [0]
    with pytest.raises(UsageError, match="named twice"):
        pictures(["-", "-"])


def tar(path, members):
    with tarfile.open(path, "w") as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def test_the_images_in_a_tar_need_no_labels(tmp_path):
    members = [
        ("2.png", b"two"),
        ("notes.txt", b"x"),
        ("sub/1.left.JPG", b"one"),
        ("sub/._1.jpg", b"mac"),
        ("2.jpg", b""),
    ]
    path = tar(tmp_path / "some.tar", members)
    found = [(picture.name, picture.read()) for picture in pictures([path])]
    assert found == [(f"{path}/2.png", b"two"), (f"{path}/sub/1.left.JPG", b"one"), (f"{path}/2.jpg", b"")]


@pytest.mark.parametrize("damage", ["cut", "overwritten", "compressed", "outside"])
def test_a_damaged_tar_gives_what_comes_before_and_then_its_error(tmp_path, damage):
    path = tar(tmp_path / "some.tar", [("1.png", b"x" * 600), ("../2.png" if damage == "outside" else "2.png", b"y")])
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:1000])
    elif damage == "overwritten":
        path.write_bytes(content[:1536] + b"\x07" * 512 + content[2048:])
    elif damage == "compressed":
        path.write_bytes(gzip.compress(content))
    *before, last = pictures([path])
    assert [picture.read() for picture in before] == ([] if damage in ("cut", "compressed") else [b"x" * 600])
    with pytest.raises(DataError, match=r"some\.tar"):
        last.read()


def test_a_tars_members_are_not_held(tmp_path, monkeypatch):
    path = tar(tmp_path / "some.tar", [(f"{number}.png", b"x") for number in range(50)])
    opened = []
    monkeypatch.setattr(
        tarfile, "open", lambda *args, open=tarfile.open, **options: opened.append(open(*args, **options)) or opened[0]
    )
    for _ in pictures([path]):
        assert len(opened[0].members) <= 1


@pytest.mark.parametrize("nested", [True, False])
def test_the_rows_of_a_parquet_file(tmp_path, nested):
    contents = [b"one", b"two", None, *[b"x"] * 80]
    values = [{"bytes": value, "path": "a.png"} for value in contents] if nested else contents
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()}) if nested else pa.binary()
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table({"image": pa.array(values, kind), "other": list(range(83))}), path)
    found = list(pictures([path]))
    assert [picture.name for picture in found] == [f"{path}#{row}" for row in range(83)]
    assert [found[row].read() for row in (0, 1, 3)] == [b"one", b"two", b"x"]
    with pytest.raises(DataError, match="row 2: no image bytes"):
        found[2].read()


@pytest.mark.parametrize("content", ["garbage", "no images"])
def test_a_parquet_file_without_images_is_one_picture_with_its_error(tmp_path, content):
    path = tmp_path / "some.parquet"
    path.write_bytes(b"PAR1 no")
    if content == "no images":
        pq.write_table(pa.table({"number": [1, 2]}), path)
    (picture,) = pictures([path])
    with pytest.raises(DataError, match=r"some\.parquet"):
        picture.read()


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = tmp_path / "some.parquet"
    path.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match="parquet"):
        list(pictures([path]))


def test_a_folder_without_images_stands_for_its_tars(tmp_path):
    tar(tmp_path / "b.tar", [("1.png", b"x")])
    tar(tmp_path / "a.TAR", [("1.png", b"x")])
    assert names([tmp_path]) == [f"{tmp_path}/a.TAR/1.png", f"{tmp_path}/b.tar/1.png"]
    (tmp_path / "c.png").write_bytes(b"x")
    assert names([tmp_path]) == [str(tmp_path / "c.png")]


def test_a_folder_holds_names_and_no_more(tmp_path):
    """The pictures of a folder of 4,000 files: a path and what reads it would be over 500 bytes each."""
    for number in range(4000):
        (tmp_path / f"{number:05}.jpg").touch()
    tracemalloc.start()
    assert sum(1 for _ in pictures([tmp_path])) == 4000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000 * 250


def test_a_folder_that_cannot_be_listed_is_a_picture_that_cannot_be_read(folder, monkeypatch):
    def listdir(path, listdir=os.listdir):
        if str(path).endswith("inner"):
            raise PermissionError("no")
        return listdir(path)

    monkeypatch.setattr("os.listdir", listdir)
    *_, last = pictures([folder])
    assert last.name == str(folder / "inner")
    with pytest.raises(IsADirectoryError):
        last.read()


def test_names_on_standard_input_need_not_be_text(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"b\xff.png\nc.png\n"), encoding="ascii"))
    assert names(["-"]) == [os.fsdecode(b"b\xff.png"), "c.png"]
