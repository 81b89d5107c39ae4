"""Hugging Face parquet, with and without its metadata."""

import io
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resfit.data.sources import open_data
from resfit.errors import DataError, MissingExtra

NAMES = ("zebra", "ant")
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write(path, *, count=20, seed=0, labels=None, names=NAMES, image="image", label="label", plain=False, extra=None):
    """A parquet file of `count` images; `plain` stores bytes without Hugging Face's struct and metadata."""
    encoded = [png((seed, index)) for index in range(count)]
    images = encoded if plain else [{"bytes": content, "path": None} for content in encoded]
    columns = {image: images, label: labels if labels is not None else [index % 2 for index in range(count)]}
    table = pa.table({**columns, **(extra or {})})
    if not plain:
        features = {image: {"_type": "Image"}, label: {"_type": "Value"}}
        if names:
            features[label] = {"names": list(names), "_type": "ClassLabel"}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def sizes(splits):
    return {role: values["num_images"] for role, values in splits.roles().items()}


def test_train_and_test_files(tmp_path):
    write(tmp_path / "train-00000-of-00002.parquet", count=30)
    write(tmp_path / "train-00001-of-00002.parquet", count=30, seed=1)
    write(tmp_path / "test-00000-of-00001.parquet", count=8, seed=2)
    splits = open_data(tmp_path)
    assert sizes(splits) == {"train": 54, "validation": 6, "test": 8}
    assert splits.labels == NAMES  # the declared order, which the numbers refer to
    assert splits.train.images.shape[1:] == (6, 6, 3)
    assert splits.test is not None
    first, target = splits.test.read(1)
    assert (first == np.asarray(Image.open(io.BytesIO(png((2, 1)))))).all()
    assert target == 1


def test_validation_does_not_depend_on_how_rows_are_ordered_or_spread(tmp_path):
    write(tmp_path / "one" / "train.parquet", count=40)
    table = pq.read_table(tmp_path / "one" / "train.parquet")
    (tmp_path / "other").mkdir()
    for part in (0, 1):
        rows = table.take(list(range(39 - part, -1, -2)))
        pq.write_table(rows, tmp_path / "other" / f"train-{part}.parquet")
    one, other = open_data(tmp_path / "one"), open_data(tmp_path / "other")
    assert {role: v["fingerprint"] for role, v in one.roles().items()} == {
        role: v["fingerprint"] for role, v in other.roles().items()
    }


def test_a_data_folder_inside_and_a_single_file(tmp_path):
    write(tmp_path / "hub" / "data" / "train-0.parquet", count=40)
    assert sum(sizes(open_data(tmp_path / "hub")).values()) == 40
    assert sum(sizes(open_data(tmp_path / "hub" / "data" / "train-0.parquet")).values()) == 40


def test_columns_without_metadata(tmp_path):
    labels = ["cat", "dog", "10", "9"] * 10
    write(tmp_path / "0.parquet", count=40, labels=labels, image="img", label="fine_label", plain=True)
    assert open_data(tmp_path).labels == ("10", "9", "cat", "dog")
    write(tmp_path / "numbers" / "0.parquet", count=40, labels=[10, 9, 2, 1] * 10, plain=True)
    splits = open_data(tmp_path / "numbers")
    assert splits.labels == ("1", "2", "9", "10")
    write(tmp_path / "odd" / "0.parquet", count=40, image="picture", label="kind", plain=True)
    assert open_data(tmp_path / "odd").labels == ("0", "1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extra": {"a": [b""] * 20}, "image": "b", "plain": True}, r"several image columns \(b, a\)"),
        ({"extra": {"a": [0] * 20}, "label": "b", "plain": True}, r"several label columns \(b, a\)"),
        ({"label": "labels", "labels": [0.5] * 20, "plain": True}, "no label columns"),
        ({"labels": [-1] * 20}, r"name no class: -1(.|\n)*unlabelled"),
        ({"labels": [0, 1] * 9 + [0, 7]}, "name no class: 7"),
        ({"labels": [0, None] * 10}, "row 1: no label"),
        ({"names": ("one",), "labels": [0] * 20}, "one class only"),
        ({"names": ("zebra", "ant", "bee")}, "classes without a training image: bee"),
    ],
)
def test_tables_without_a_meaning_are_refused(tmp_path, options, message):
    write(tmp_path / "train.parquet", **options)
    with pytest.raises(DataError, match=message):
        open_data(tmp_path)


def test_rows_without_bytes_and_bad_images_are_named(tmp_path):
    rows = [{"bytes": None, "path": "a.png"}] * 20
    (tmp_path / "a").mkdir()
    pq.write_table(
        pa.table(
            {
                "image": pa.array(rows, STRUCT),
                "label": [0, 1] * 10,
            }
        ),
        tmp_path / "a" / "train.parquet",
    )
    with pytest.raises(DataError, match=r"train\.parquet row 0: no image bytes"):
        open_data(tmp_path / "a")
    (tmp_path / "b").mkdir()
    pq.write_table(
        pa.table({"image": [png(index) for index in range(19)] + [b"bad"], "label": [0, 1] * 10}),
        tmp_path / "b" / "train.parquet",
    )
    with pytest.raises(DataError, match=r"train\.parquet#19: not an image"):
        open_data(tmp_path / "b")


def test_splits_that_disagree_are_refused(tmp_path):
    write(tmp_path / "names" / "train.parquet")
    write(tmp_path / "names" / "test.parquet", names=("ant", "zebra"))
    with pytest.raises(DataError, match="different class names"):
        open_data(tmp_path / "names")
    write(tmp_path / "values" / "train.parquet", labels=["a", "b"] * 10, plain=True)
    write(tmp_path / "values" / "test.parquet", labels=["a", "c"] * 10, plain=True)
    with pytest.raises(DataError, match=r"lacks classes that other splits have: [bc]"):
        open_data(tmp_path / "values")
    write(tmp_path / "mixed" / "train.parquet")
    write(tmp_path / "mixed" / "more.parquet")
    with pytest.raises(DataError, match=r"more\.parquet names no split"):
        open_data(tmp_path / "mixed")
    for name in ("small", "large"):
        write(tmp_path / "several" / name / "train.parquet")
    with pytest.raises(DataError, match="several folders: large, small"):
        open_data(tmp_path / "several")


@pytest.mark.parametrize("content", [b"", b"PAR1 is not enough", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_file_that_is_no_parquet_is_named(tmp_path, content):
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.parquet: not readable as parquet"):
        open_data(tmp_path)


def test_a_missing_extra_says_what_to_install(tmp_path, monkeypatch):
    write(tmp_path / "train.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pyarrow(.|\n)*resfit\[parquet\]"):
        open_data(tmp_path)


def test_cifar10(shared):
    """The real files: names from the schema, test images as they are."""
    splits = open_data(shared / "cifar10", roles=("test",))
    assert splits.labels[:3] == ("airplane", "automobile", "bird")
    assert splits.test is not None
    assert splits.test.images.shape == (10000, 32, 32, 3)
    assert (np.bincount(splits.test.targets) == 1000).all()
    assert splits.preprocessing.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.005)
    assert splits.preprocessing.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=0.005)
