"""Files, folders and patterns to a list of images."""

import pytest

from resfit.errors import UsageError
from resfit.inference.inputs import image_paths


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "inner/c.jpeg", "notes.txt", ".hidden.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_a_folder_stands_for_its_images_at_any_depth_in_name_order(folder):
    assert image_paths([folder]) == [folder / "a.PNG", folder / "b.jpg", folder / "inner/c.jpeg"]


def test_order_is_as_given_and_nothing_is_listed_twice(folder):
    assert image_paths([folder / "b.jpg", folder])[0] == folder / "b.jpg"
    assert len(image_paths([folder / "b.jpg", folder, folder / "b.jpg"])) == 3


def test_a_pattern_matches_files(folder):
    assert image_paths([str(folder / "**/*.jp*")]) == [folder / "b.jpg", folder / "inner/c.jpeg"]


def test_a_file_with_magic_characters_in_its_name_is_that_file(folder):
    odd = folder / "x[1].jpg"
    odd.write_bytes(b"x")
    assert image_paths([str(odd)]) == [odd]


def test_a_file_is_taken_whatever_its_name_ends_in(folder):
    assert image_paths([folder / "notes.txt"]) == [folder / "notes.txt"]


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
        image_paths([text.format(folder) for text in given])
