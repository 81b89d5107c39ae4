"""Rows of a table of labels: which column is which, and what each row says; CSV, TSV and JSON lines."""

import contextlib
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from resfit.data.folders import EXTENSIONS
from resfit.errors import DataError

# Column names people use, the likelier first; compared in lower case with "_" for spaces and hyphens.
FILE_COLUMNS = (
    "file_name", "filename", "file_names", "filenames", "file", "files", "file_path", "filepath", "filepaths",
    "image_file", "image_name", "image_path", "img_name", "img_path", "path", "paths", "image", "img", "image_id",
    "id", "name",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "labels", "class", "classes", "class_name", "class_label", "category", "target", "species", "breed",
    "y", "class_id",
)  # fmt: skip
SPLIT_COLUMNS = ("split", "set", "subset", "data_set", "dataset")
DELIMITERS = (",", ";", "\t")
MAX_LINE = 1_000_000  # characters of a first line that is looked at


@dataclass(frozen=True, kw_only=True)
class Columns:
    """`names` of all columns; the places of those that hold file names, labels and splits, None without one."""

    names: tuple[str, ...]
    file: int | None
    label: int | None
    split: int | None
    delimiter: str = ","
    has_header: bool = True


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row as written: `line` counts from 1; `split` is empty where no column says it."""

    line: int
    file: str
    label: str
    split: str = ""


def find_columns(path: Path) -> Columns:
    """What the table's columns hold, by their names; DataError for a file that is no text table.

    A CSV whose first row already names an image file has no header: file name and label come first and second.
    """
    if path.suffix.lower() == ".jsonl":
        first = next(_json_rows(path), (1, {}))[1]
        return _named(tuple(first))
    with _as_data_error(path), path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline(MAX_LINE)
    delimiter = max(DELIMITERS, key=head.count)
    names = tuple(next(csv.reader([head], delimiter=delimiter), ()))
    found = _named(names, delimiter=delimiter)
    headless = found.file is None and len(names) >= 2 and Path(names[0].strip()).suffix.lower() in EXTENSIONS
    return (
        Columns(names=names, file=0, label=1, split=None, delimiter=delimiter, has_header=False) if headless else found
    )


def read_rows(path: Path, columns: Columns) -> Iterator[Row]:
    """The table's rows, blank lines left out; `columns` must hold files and labels. DataError as `find_columns`."""
    if path.suffix.lower() == ".jsonl":
        for line, values in _json_rows(path):
            yield _row(line, [_text(values.get(name)) for name in columns.names], columns)
        return
    with _as_data_error(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=columns.delimiter)
        if columns.has_header:
            next(reader, None)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _row(reader.line_num, cells, columns)


def _row(line: int, cells: Sequence[str], columns: Columns) -> Row:
    def cell(place: int | None) -> str:
        return cells[place].strip() if place is not None and place < len(cells) else ""

    return Row(line=line, file=cell(columns.file), label=cell(columns.label), split=cell(columns.split))


def _named(names: tuple[str, ...], *, delimiter: str = ",") -> Columns:
    plain = [name.strip().lower().replace(" ", "_").replace("-", "_") for name in names]

    def place(known: tuple[str, ...]) -> int | None:
        return next((plain.index(name) for name in known if name in plain), None)

    return Columns(
        names=names,
        file=place(FILE_COLUMNS),
        label=place(LABEL_COLUMNS),
        split=place(SPLIT_COLUMNS),
        delimiter=delimiter,
    )


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    with _as_data_error(path), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                values = json.loads(line)
                if not isinstance(values, dict):
                    raise ValueError(f"line {number} is no JSON object")
                yield number, values


def _text(value: object) -> str:
    """A JSON value as a cell: text and whole numbers; anything else counts as no value."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


@contextlib.contextmanager
def _as_data_error(path: Path) -> Iterator[None]:
    """What reading a table raises, as an error that names the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text", hint="save the table as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except (csv.Error, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not readable as a table ({error})") from error
