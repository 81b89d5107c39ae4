"""Rows of answers in every format, whole or not at all."""

import csv
import json
import sys

import pyarrow.parquet as pq
import pytest

from resfit.errors import MissingExtra, UsageError
from resfit.inference.outputs import Columns, format_of, rows_as_text, save_rows

ANSWERS = [{"label": "cat, black", "probability": 0.75}, {"label": "dog", "probability": 0.25}]
EVERY = {"cat, black": 0.75, "dog": 0.25, "owl": 0.0}
ROWS = [
    {"path": "a/1.jpg", **ANSWERS[0], "top": ANSWERS, "probabilities": EVERY},
    {"path": "b,2.jpg", "error": "no such file"},
]
COLUMNS = Columns(labels=tuple(EVERY), top_k=2, probabilities=True)

TEXT = "a/1.jpg   75.0%  cat, black\n          25.0%  dog\nb,2.jpg  cannot be read: no such file\n"
CSV = (
    'path,label,probability,label_2,probability_2,"cat, black",dog,owl,error\n'
    'a/1.jpg,"cat, black",0.75,dog,0.25,0.75,0.25,0.0,\n'
    '"b,2.jpg",,,,,,,,no such file\n'
)
JSON_LINES = (
    '{"path": "a/1.jpg", "label": "cat, black", "probability": 0.75, "top": [{"label": "cat, black", '
    '"probability": 0.75}, {"label": "dog", "probability": 0.25}], "probabilities": '
    '{"cat, black": 0.75, "dog": 0.25, "owl": 0.0}}\n'
    '{"path": "b,2.jpg", "error": "no such file"}\n'
)


@pytest.mark.parametrize(("format", "expected"), [("text", TEXT), ("csv", CSV), ("jsonl", JSON_LINES)])
def test_the_bytes_of_each_format(tmp_path, format, expected):
    path = tmp_path / "new" / "rows"
    save_rows(path, iter(ROWS), format=format, columns=COLUMNS)
    assert path.read_text(encoding="utf-8") == expected
    assert rows_as_text(ROWS, format=format, columns=COLUMNS) == expected.removesuffix("\n")


def test_parquet_holds_the_same(tmp_path):
    path = tmp_path / "rows.parquet"
    save_rows(path, iter(ROWS), format="parquet", columns=COLUMNS)
    table = pq.read_table(path)
    assert table.column_names == ["path", "label", "probability", "top", "error", "probabilities"]
    assert json.loads(table.schema.metadata[b"labels"]) == list(EVERY)
    first, second = table.to_pylist()
    assert first == {**ROWS[0], "error": None, "probabilities": list(EVERY.values())}
    assert (second["path"], second["label"], second["error"]) == ("b,2.jpg", None, "no such file")


def test_parquet_is_written_in_groups(tmp_path):
    labels = tuple(str(index) for index in range(2000))
    columns = Columns(labels=labels, top_k=1, probabilities=True)
    answer = {"label": "0", "probability": 1.0}
    every = dict.fromkeys(labels, 0.0005)
    rows = [{"path": f"{number}", **answer, "top": [answer], "probabilities": every} for number in range(100)]
    save_rows(tmp_path / "rows.parquet", iter(rows), format="parquet", columns=columns)
    file = pq.ParquetFile(tmp_path / "rows.parquet")
    assert file.metadata.num_row_groups == 4
    assert file.read().column("path").to_pylist() == [str(number) for number in range(100)]


@pytest.mark.parametrize("format", ["text", "csv", "jsonl", "parquet"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, UsageError("stop")])
def test_what_is_interrupted_leaves_the_earlier_file_and_nothing_else(tmp_path, format, error):
    path = tmp_path / "rows"
    path.write_text("earlier")

    def rows():
        yield from ROWS
        raise error

    with pytest.raises((KeyboardInterrupt, UsageError)):
        save_rows(path, rows(), format=format, columns=COLUMNS)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_an_earlier_file_is_kept_aside(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text("earlier")
    save_rows(path, iter(ROWS), format="csv", columns=COLUMNS)
    assert path.read_text() == CSV
    assert (tmp_path / "rows.csv.1").read_text() == "earlier"
    assert "rows.csv.1" in capsys.readouterr().err


def test_a_folder_in_its_place_is_refused_before_a_row_is_asked_for(tmp_path):
    def rows():
        raise AssertionError("asked")
        yield

    with pytest.raises(UsageError, match="is a folder"):
        save_rows(tmp_path, rows(), format="csv", columns=COLUMNS)


def test_labels_that_repeat_have_columns_of_their_own():
    columns = Columns(labels=("crane", "bus", "crane"), probabilities=True)
    assert columns.classes == ("crane (0)", "bus", "crane (2)")
    assert Columns(labels=("a (1)", "a", "a")).classes == ("a (1) (0)", "a (1)", "a (2)")
    header = rows_as_text([], format="csv", columns=columns)
    assert next(csv.reader([header])) == ["path", "label", "probability", "crane (0)", "bus", "crane (2)", "error"]


def test_the_format_is_the_one_asked_for_or_that_of_the_name():
    assert [format_of(name) for name in ("a.csv", "a.JSONL", "a.parquet", "a.txt", None)] == [
        "csv", "jsonl", "parquet", "text", "text",
    ]  # fmt: skip
    assert format_of("a.csv", "jsonl") == "jsonl"
    with pytest.raises(UsageError, match="no format 'json'"):
        format_of(None, "json")
    with pytest.raises(UsageError, match="cannot be printed"):
        rows_as_text(ROWS, format="parquet", columns=COLUMNS)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="parquet"):
        save_rows(tmp_path / "rows.parquet", iter(ROWS), format="parquet", columns=COLUMNS)
    assert list(tmp_path.iterdir()) == []
