"""Folders with a table of labels: Hugging Face's metadata.csv, any other CSV, and every way they can be wrong."""

import csv
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_images import labels_by_name, place, sizes

from resfit.data.sources import open_data
from resfit.data.table_files import FileIndex
from resfit.errors import DataError

LABELS = ("bee", "ant")


def table(path, rows, header=("file_name", "label"), delimiter=",", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([header, *rows] if header else rows)
    return path


def images(folder, count=40, first=0):
    """`count` images in `folder`, and rows of their names with labels in turn."""
    for number in range(first, first + count):
        place(folder / f"{number}.png", number)
    return [(f"{number}.png", LABELS[number % 2]) for number in range(first, first + count)]


def in_turn(splits):
    return all(LABELS[int(Path(name).stem) % 2] == label for name, label in labels_by_name(splits).items())


def test_metadata_beside_the_images(tmp_path):
    table(tmp_path / "metadata.csv", images(tmp_path))
    splits = open_data(tmp_path)
    assert splits.labels == ("ant", "bee")
    assert sizes(splits) == {"train": 28, "validation": 4, "test": 8}
    assert len(labels_by_name(splits)) == 40
    assert in_turn(splits)


def test_metadata_in_each_split_folder(tmp_path):
    table(tmp_path / "train" / "metadata.csv", images(tmp_path / "train"))
    table(tmp_path / "test" / "metadata.csv", images(tmp_path / "test", 6, first=100))
    splits = open_data(tmp_path)
    assert sizes(splits) == {"train": 36, "validation": 4, "test": 6}
    assert splits.sources["test"] == f"test/metadata.csv in {tmp_path}"
    assert in_turn(splits)


def test_one_metadata_for_all_splits(tmp_path):
    rows = [
        (f"{folder}/{name}", label)
        for folder in ("train", "val", "test")
        for name, label in images(tmp_path / folder, 10)
    ]
    table(tmp_path / "metadata.csv", rows)
    assert sizes(open_data(tmp_path)) == {"train": 10, "validation": 10, "test": 10}


def test_json_lines_and_numbers_as_labels(tmp_path):
    rows = [{"file_name": name, "label": 9 + (label == "bee")} for name, label in images(tmp_path)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = open_data(tmp_path)
    assert splits.labels == ("9", "10")  # by value
    assert sum(sizes(splits).values()) == 40


@pytest.mark.parametrize(
    ("header", "delimiter", "encoding"),
    [
        (("id", "breed"), ",", "utf-8"),
        (("Image Path", "CLASS"), ";", "utf-8-sig"),
        (("filename", "target"), "\t", "utf-8"),
        (None, ",", "utf-8"),
    ],
)
def test_one_flat_folder_and_a_table_of_any_name(tmp_path, header, delimiter, encoding):
    rows = images(tmp_path / "pictures")
    if header and header[0] == "id":
        rows = [(Path(name).stem, label) for name, label in rows]
    table(tmp_path / "what they are.csv", rows, header, delimiter, encoding)
    splits = open_data(tmp_path)
    assert sum(sizes(splits).values()) == 40
    assert in_turn(splits)
    assert open_data(tmp_path / "what they are.csv").fingerprint == splits.fingerprint


def test_a_split_column(tmp_path):
    splits_in_turn = ("train", "train", "test", "Train", "train", "val", "val", "test", "train", "train")
    rows = [(*row, splits_in_turn[number % 10]) for number, row in enumerate(images(tmp_path))]
    path = table(tmp_path / "labels.csv", rows, ("file", "label", "split"))
    splits = open_data(path)
    assert sizes(splits) == {"train": 24, "validation": 8, "test": 8}
    assert splits.sources["test"] == "the test rows of labels.csv"
    table(path, [*rows[:-1], (*rows[-1][:2], "holdout")], ("file", "label", "split"))
    with pytest.raises(DataError, match=r"a split that is none of train(.|\n)*line 41 \(39\.png\)"):
        open_data(path)


def test_tables_named_after_splits_and_folders_of_equal_names(tmp_path):
    """As competitions lay it out: the same file names in train/ and test/, labels in a CSV for each."""
    table(tmp_path / "train.csv", images(tmp_path / "train"))
    table(tmp_path / "test.csv", images(tmp_path / "test", 6))
    table(tmp_path / "sample.csv", [("0", "0")], ("id", "label"))
    splits = open_data(tmp_path)
    assert sizes(splits) == {"train": 36, "validation": 4, "test": 6}
    assert {Path(name).parent.name for name in splits.test.names} == {"test"}
    assert {Path(name).parent.name for name in splits.train.names} == {"train"}


def test_class_folders_go_before_a_table_that_repeats_them(tmp_path):
    rows = []
    for folder in ("train", "test"):
        for name, label in images(tmp_path / folder, 20):
            (tmp_path / folder / label).mkdir(exist_ok=True)
            (tmp_path / folder / name).rename(tmp_path / folder / label / name)
            rows.append((f"{folder}/{label}/{name}", label))
    table(tmp_path / "index.csv", rows)
    assert open_data(tmp_path).sources["test"] == "test/"
    table(tmp_path / "index.csv", [(name, label.upper()) for name, label in rows])
    assert open_data(tmp_path).labels == ("ANT", "BEE")


def test_captions_are_no_labels(tmp_path):
    for name, label in images(tmp_path, 20):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / label / name)
    table(tmp_path / "metadata.csv", [("ant/1.png", "an ant")], ("file_name", "text"))
    assert sum(sizes(open_data(tmp_path)).values()) == 20


def test_what_is_wrong_with_class_folders_is_not_blamed_on_a_stray_table(tmp_path):
    for label in LABELS:
        place(tmp_path / label / "0.png", 0)
    (tmp_path / "wasp").mkdir()
    table(tmp_path / "notes.csv", [("a", "b")], ("who", "when"))
    with pytest.raises(DataError, match="class folders without images: wasp"):
        open_data(tmp_path)


def test_a_pipe_in_place_of_a_table_is_not_waited_for(tmp_path):
    for number in range(20):
        place(tmp_path / LABELS[number % 2] / f"{number}.png", number)
    os.mkfifo(tmp_path / "labels.csv")
    os.mkfifo(tmp_path / "metadata.csv")
    assert sum(sizes(open_data(tmp_path)).values()) == 20


def test_the_same_cut_wherever_the_folder_is_and_however_rows_are_ordered(tmp_path):
    rows = images(tmp_path / "one")
    images(tmp_path / "other")
    table(tmp_path / "one" / "labels.csv", rows)
    table(tmp_path / "other" / "labels.csv", rows[::-1])
    one, other = open_data(tmp_path / "one"), open_data(tmp_path / "other")
    marks = [{role: values["fingerprint"] for role, values in splits.roles().items()} for splits in (one, other)]
    assert marks[0] == marks[1]


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "a/../../secret.png", "/etc/hostname", "..\\secret.png", "C:\\secret.png", "..", "a\0b.png"],
)
def test_rows_that_point_outside_are_refused_and_not_followed(tmp_path, name):
    place(tmp_path / "secret.png", 0)
    rows = images(tmp_path / "data")
    (tmp_path / "data" / "metadata.jsonl").write_text(
        "\n".join(json.dumps({"file_name": file, "label": label}) for file, label in [*rows, (name, "ant")])
    )
    with pytest.raises(DataError, match=r"outside the data folder(.|\n)*line 41"):
        open_data(tmp_path / "data")


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.sampled_from(["..", ".", "a", "b.png", "", "\\", "/", "C:", "\0", "~"]) | st.text(), max_size=6)
)
def test_no_name_whatever_leads_outside(tmp_path_factory, parts):
    root = tmp_path_factory.getbasetemp() / "data"
    inside = FileIndex(root).inside(root / "train" / "metadata.csv", "/".join(parts))
    assert inside is None or os.path.normpath(root / inside).startswith(f"{root}{os.sep}")
    assert inside is None or not os.path.isabs(inside)


def test_a_split_folders_table_may_name_files_elsewhere_in_the_data(tmp_path):
    rows = [(f"../images/{name}", label) for name, label in images(tmp_path / "images")]
    table(tmp_path / "train" / "metadata.csv", rows)
    assert sum(sizes(open_data(tmp_path)).values()) == 40


def test_repeated_rows_are_counted_and_contradicting_ones_refused(tmp_path, capsys):
    rows = images(tmp_path)
    table(tmp_path / "labels.csv", [*rows, *rows[:3], ("./4.png", "bee")])
    assert sum(sizes(open_data(tmp_path)).values()) == 40
    assert "left out 4 rows that repeat another" in capsys.readouterr().err
    table(tmp_path / "labels.csv", [*rows, ("7.png", "bee")])
    with pytest.raises(DataError, match=r"another row labels differently: line 42 \(7\.png\)"):
        open_data(tmp_path)


def test_missing_files_are_named_and_left_out_only_up_to_the_share(tmp_path, capsys):
    rows = images(tmp_path, 100)
    (tmp_path / "40.png").unlink()
    table(tmp_path / "labels.csv", rows)
    with pytest.raises(DataError, match=r"40\.png: .*[Nn]o such file"):
        open_data(tmp_path)
    splits = open_data(tmp_path, max_unreadable=0.01)
    assert sum(sizes(splits).values()) == 99
    assert [Path(image.name).name for image in splits.skipped] == ["40.png"]
    told = capsys.readouterr().err
    assert "left out 1 of 100 images (1.00%)" in told
    assert "40.png" in told


def test_a_table_of_other_files_is_refused_at_once(tmp_path):
    images(tmp_path)
    table(tmp_path / "labels.csv", [(f"img_{number}.png", "ant") for number in range(10)])
    with pytest.raises(DataError, match=r"none of the files that labels\.csv name exists"):
        open_data(tmp_path)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([("0.png", "ant"), ("1.png", "")], ("file_name", "label"), r"no file name or no label: line 3 \(1\.png\)"),
        ([("0.png",)], ("file_name", "label"), r"no label: line 2 \(0\.png\)"),
        ([("", "ant")], ("file_name", "label"), r"line 2 \(no name\)"),
        ([("0.png", "ant"), ("1.png", "ant")], ("file_name", "label"), "one class only, ant"),
        ([("0.png", "ant")], ("file_name", "caption"), r"no column of labels \(columns: file_name, caption\)"),
        ([("ant", "wing")], ("label", "part"), "no column of file names"),
        ([], ("file_name", "label"), "none of the files"),
    ],
)
def test_tables_without_a_meaning_are_refused(tmp_path, rows, header, message):
    images(tmp_path, 4)
    table(tmp_path / "labels.csv", rows, header)
    with pytest.raises(DataError, match=message):
        open_data(tmp_path)


def test_splits_with_other_classes_are_refused(tmp_path):
    table(tmp_path / "train.csv", images(tmp_path))
    table(tmp_path / "test.csv", [("0.png", "ant"), ("2.png", "ant")])
    with pytest.raises(DataError, match=r"test\.csv in .* lacks classes that other splits have: bee"):
        open_data(tmp_path)


def test_several_tables_are_not_chosen_from(tmp_path):
    table(tmp_path / "a.csv", images(tmp_path))
    table(tmp_path / "b.csv", images(tmp_path))
    with pytest.raises(DataError, match=r"several tables of labels: a\.csv, b\.csv"):
        open_data(tmp_path)
    assert sum(sizes(open_data(tmp_path / "b.csv")).values()) == 40


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file_name,label\nä.png,ant\n".encode("latin-1"), "not UTF-8"),
        (b"file_name,label\n\x00\x00\n", "label|readable"),
        (b"file_name,label\n" + b'"' + b"a" * 200_000, "not readable as a table"),
        (b"", r"no column of file names"),
    ],
)
def test_files_that_are_no_tables_are_named(tmp_path, content, message):
    images(tmp_path, 4)
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_data(tmp_path / "labels.csv")
    assert "labels.csv" in str(caught.value)


@pytest.mark.parametrize("content", ["[1, 2]", "{broken", "[" * 100_000])
def test_json_lines_that_are_none_are_named(tmp_path, content):
    images(tmp_path, 4)
    (tmp_path / "metadata.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"metadata\.jsonl is not readable"):
        open_data(tmp_path / "metadata.jsonl")
