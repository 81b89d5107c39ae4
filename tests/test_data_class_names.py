"""Class names that differ between splits are told, with what they were probably meant to be."""

from resfit.data.class_names import name_differences, written_twice


def test_equal_splits_have_nothing_to_tell() -> None:
    assert name_differences({"train": ("cat", "dog"), "test": ("dog", "cat")}) == []
    assert name_differences({"whole": ("cat", "dog")}) == []


def test_a_missing_class_is_named() -> None:
    assert name_differences({"train": ("cat", "dog", "tiger"), "test": ("cat", "dog")}) == [
        {"class": "tiger", "splits": ["train"], "missing_from": ["test"], "written_there": []}
    ]


def test_another_case_spelling_or_spacing_is_recognised() -> None:
    for here, there in (("gas_pump", "Gas Pump"), ("tench", "trench"), ("parachute", "parachutes"), ("ÉTÉ", "été")):
        found = {item["class"]: item for item in name_differences({"train": ("x", here), "test": ("x", there)})}
        assert found[here]["written_there"] == [there]
        assert found[there]["written_there"] == [here]


def test_a_class_of_both_splits_is_no_misspelling_of_another() -> None:
    found = name_differences({"train": ("cats", "cat"), "test": ("cat",)})
    assert found == [{"class": "cats", "splits": ["train"], "missing_from": ["test"], "written_there": []}]


def test_one_split_that_writes_a_class_twice() -> None:
    assert written_twice({"train": ("gas pump", "Gas_Pump", "dog"), "test": ("dog",)}) == [["Gas_Pump", "gas pump"]]
    assert written_twice({"train": ("1", "2", "10"), "test": ("+", "-")}) == []
