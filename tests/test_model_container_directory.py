"""A damaged directory of a `.resfit` file, under a true checksum, is refused whatever is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from container_files import at_kinds, rewrite, varied_model

from resfit.coding.codec import number_bytes
from resfit.errors import ModelError
from resfit.model.container import load_container, save_container


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a file with tensors of every kind."""
    path = tmp_path_factory.mktemp("whole") / "c.resfit"
    save_container(varied_model(), path, codec="huffman")
    return path.read_bytes()


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(plain: bytes) -> bytes:
        assert old in plain
        return plain.replace(old, new, 1)

    return change


def described(*keys: str, to: object) -> Callable[[bytes], bytes]:
    """A value of the description replaced."""

    def change(plain: bytes) -> bytes:
        start = plain.index(b'{"')
        description = inner = json.loads(plain[start:])
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = to
        return plain[:start] + json.dumps(description).encode()

    return change


HUGE = {"depths": [1, 1], "strides": [1, 2], "stem": "cifar", "stem_width": 8, "num_classes": 3, "norm": "group"}
DAMAGED_DIRECTORIES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda plain: plain[:0],
    "unknown float type": lambda plain: b"\x09" + plain[1:],
    "other float type": lambda plain: b"\x01" + plain[1:],
    "more tensors than bytes": lambda plain: plain[:1] + number_bytes(1 << 40) + plain[2:],
    "a tensor too many": lambda plain: plain[:1] + bytes([plain[1] + 1]) + plain[2:],
    "a tensor too few": lambda plain: plain[:1] + bytes([plain[1] - 1]) + plain[2:],
    "a name of a stranger": replaced(b"fc.weight\n", b"fc.weighs\n"),
    "a name that leads elsewhere": replaced(b"fc.weight\n", b"../../etc\n"),
    "a name with a space": replaced(b"fc.weight\n", b"fc weight\n"),
    "a name of no bytes": replaced(b"fc.weight\n", b"\n"),
    "a name twice": replaced(b"conv1.bias\n", b"conv1.weight\n"),
    "another shape": replaced(b"\x04\x08\x03\x03\x03", b"\x04\x08\x03\x03\x01"),
    "a huge dimension": replaced(b"\x04\x08\x03\x03\x03", b"\x04\x08\x03\x03" + number_bytes(1 << 61)),
    "too many dimensions": replaced(b"\x04\x08\x03\x03\x03", b"\x05\x08\x03\x03\x03\x01"),
    "cut in the middle": lambda plain: plain[: len(plain) // 3],
    "the description is a list": lambda plain: plain[: plain.index(b'{"')] + b"[1]",
    "the description is no JSON": lambda plain: plain[:-1],
    "the description is deep": lambda plain: plain[: plain.index(b'{"')] + b"[" * 100_000,
    "the description is no text": lambda plain: plain[:-2] + b"\xff\xfe",
    "no spec": described("spec", to=None),
    "spec is a list": described("spec", to=[1]),
    "unknown field": described("spec", "colour", to="red"),
    "other activation": described("spec", "activation", to="rel"),
    "a huge depth": described("spec", "depths", to=[1, 10**12]),
    "a width beyond floats": described("spec", "widths", to=[8, 10**400]),
    "a width whose groups no search finds": described("spec", to={**HUGE, "widths": [2**61 - 1, 32]}),
    "null depths": described("spec", "depths", to=None),
    "another depth": described("spec", "depths", to=[1, 3]),
    "ten million classes": described("spec", "num_classes", to=10**7),
    "labels too few": described("labels", to=["a"]),
    "labels are text": described("labels", to="abc"),
    "labels are numbers": described("labels", to=[1, 2, 3]),
    "a label that steers a terminal": described("labels", to=["a", "b", "\x1b[2J"]),
    "preprocessing empty": described("preprocessing", to={}),
    "preprocessing null": described("preprocessing", to=None),
    "mean null": described("preprocessing", "mean", to=None),
    "mean too long": described("preprocessing", "mean", to=[0.1] * 9),
    "provenance empty": described("provenance", to={}),
    "data of a provenance is a list": described("provenance", "data", to=[1]),
    "data of a provenance is text": described("provenance", "data", to="x"),
    "notes are text": described("provenance", "notes", to="abc"),
    "a note that steers a terminal": described("provenance", "notes", to=["\x1b[2J"]),
    "trained is a number": described("provenance", "trained", to=1),
    "provenance of more": described("provenance", "colour", to=1),
    "ranges reversed": described("activation_ranges", "input", to=[1, 0]),
    "ranges text": described("activation_ranges", "input", to="ab"),
    "ranges a list": described("activation_ranges", to=[1]),
}


@pytest.mark.parametrize("damage", DAMAGED_DIRECTORIES.values(), ids=DAMAGED_DIRECTORIES.keys())
def test_a_damaged_directory_is_refused(tmp_path: Path, whole: bytes, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "c.resfit"
    path.write_bytes(whole)
    rewrite(path, plain=damage)
    with pytest.raises(ModelError) as caught:
        load_container(path)
    assert str(path) in caught.value.message


DAMAGED_COLUMNS = {
    "unknown kind": (0, 6),
    "float as counter": (-1, 1),
    "one bit": ("grids", 1),
    "seventeen bits": ("grids", 17),
    "axis beyond the shape": ("axis", 4),
    "another axis": ("axis", 1),
    "a shift beyond": ("shift", 24),
}


@pytest.mark.parametrize(("where", "value"), DAMAGED_COLUMNS.values(), ids=DAMAGED_COLUMNS.keys())
def test_damaged_columns_are_refused(tmp_path: Path, whole: bytes, where: int | str, value: int) -> None:
    path = tmp_path / "c.resfit"
    path.write_bytes(whole)
    model = varied_model()
    count = len(model.weights)

    def change(plain: bytes) -> bytes:
        kinds = at_kinds(plain, count)
        grids = plain[kinds : kinds + count].count(2)
        places = {
            0: kinds, -1: kinds + count - 1, "grids": kinds + count, "axis": kinds + count + 1,
            "shift": kinds + count + 2 * grids + 2,
        }  # fmt: skip
        at = places[where]
        return plain[:at] + bytes([value]) + plain[at + 1 :]

    rewrite(path, plain=change)
    with pytest.raises(ModelError) as caught:
        load_container(path)
    assert str(path) in caught.value.message
