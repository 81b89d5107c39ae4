"""A folder of images and a table of their labels: `metadata.csv` as Hugging Face's imagefolder reads it, or any CSV.

A table has a column of file names, relative to the table's own folder, and one of labels; a third may name the
split. Names are only looked up inside the data folder: a row that points outside it is refused, not followed.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resfit.data.folders import entries_of
from resfit.data.listing import Listing, read_file
from resfit.data.origin import SPLIT_NAMES, WHOLE, Origin, common_labels, declared_split
from resfit.data.table_files import FileIndex
from resfit.data.table_rows import Columns, Row, find_columns, read_rows
from resfit.errors import DataError

METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
CSV_SUFFIXES = (".csv", ".tsv")
MAX_NAMED = 10
EXPECTED = "expected: a CSV with the columns file_name and label, beside the images it names"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One labelled file: its path inside the data folder, with `/`, and whether it is there."""

    inside: str
    label: str
    found: bool


def metadata_tables(root: Path) -> dict[str, Path]:
    """Split (or `WHOLE`) -> metadata file: the root's own, else those of its split folders; empty without any.

    A metadata file without a label column (captions, boxes) is none of ours and is passed over.
    """
    own = _metadata_of(root)
    if own is not None:
        return {WHOLE: own}
    folders = [entry for entry in entries_of(root) if entry.is_dir() and entry.name.lower() in SPLIT_NAMES]
    found = {SPLIT_NAMES[folder.name.lower()]: _metadata_of(folder) for folder in folders}
    return {role: path for role, path in found.items() if path is not None}


def labelled_tables(root: Path) -> dict[str, Path]:
    """Split (or `WHOLE`) -> CSV with a file and a label column in `root`; empty without any.

    Files named after splits (`train.csv`, `test.csv`) go before others; DataError for several others.
    """
    usable = [path for path in entries_of(root) if path.suffix.lower() in CSV_SUFFIXES and _usable(path)]
    named: dict[str, Path] = {}
    for path in usable:
        role = declared_split(path.stem)
        if role is not None and role in named:
            raise DataError(f"{root} holds {named[role].name} and {path.name}, both for {role}: name one of them")
        if role is not None:
            named[role] = path
    if named or not usable:
        return named
    if len(usable) > 1:
        raise DataError(
            f"{root} holds several tables of labels: {', '.join(path.name for path in usable[:MAX_NAMED])}",
            hint=f"name one of them, for example {usable[0]}",
        )
    return {WHOLE: usable[0]}


def list_tables(root: Path, tables: Mapping[str, Path]) -> Origin:
    """The images that `tables` (split or `WHOLE` -> file) label, all inside the folder `root`.

    Splits are those of the tables, of their split column, or of the first folder of every file name. A row that
    repeats another is left out and counted on standard error; files that do not exist are kept, for decoding to
    name. DataError for tables without the columns, rows without a label, files labelled twice differently,
    names that point outside, or where no file exists.
    """
    index = FileIndex(root)
    splits: dict[str, dict[str, Item]] = {}
    repeated = 0
    for role, path in tables.items():
        columns = columns_of(path)
        rows = list(read_rows(path, columns))
        repeated += _collect(splits, role, rows, path, index)
    if not any(item.found for items in splits.values() for item in items.values()):
        raise DataError(f"none of the files that {_title(root, tables)} name exists", hint=EXPECTED)
    if repeated:
        print(f"left out {repeated} rows that repeat another", file=sys.stderr)
    where = {role: _where(root, tables, role) for role in splits}
    labels = common_labels({where[role]: {item.label for item in items.values()} for role, items in splits.items()})
    return Origin(
        labels=labels,
        listings={role: _listing_of(root, tuple(items.values()), labels) for role, items in splits.items()},
        where=where,
        basis="file names",
    )


def columns_of(path: Path) -> Columns:
    """The table's columns; DataError where none holds file names or labels."""
    columns = find_columns(path)
    if columns.file is None or columns.label is None:
        missing = "file names" if columns.file is None else "labels"
        raise DataError(f"{path} has no column of {missing} (columns: {', '.join(columns.names)})", hint=EXPECTED)
    return columns


def follows_folders(tables: Mapping[str, Path]) -> bool:
    """Whether every row says what its class folder says: the folders then say no less, and the splits too."""
    rows = [row for path in tables.values() for row in read_rows(path, columns_of(path))]
    return bool(rows) and all(
        _in_class_folder(row.file.replace("\\", "/").removeprefix("./").split("/"), row.label) for row in rows
    )


def _in_class_folder(parts: list[str], label: str) -> bool:
    if len(parts) == 3 and parts[0].lower() in SPLIT_NAMES:
        parts = parts[1:]
    return len(parts) == 2 and parts[0] == label


def _metadata_of(folder: Path) -> Path | None:
    return next((folder / name for name in METADATA_NAMES if _usable(folder / name)), None)


def _usable(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        columns = find_columns(path)
    except DataError:
        return False
    return columns.file is not None and columns.label is not None


def _title(root: Path, tables: Mapping[str, Path]) -> str:
    return " and ".join(path.relative_to(root).as_posix() for path in tables.values())


def _where(root: Path, tables: Mapping[str, Path], role: str) -> str:
    """What a split is called: by its own table, or as the part of a table for all."""
    own = tables.get(role)
    if own is not None:
        return f"{own.relative_to(root).as_posix()} in {root}"
    return f"the {role} rows of {_title(root, tables)}"


def _collect(splits: dict[str, dict[str, Item]], role: str, rows: list[Row], path: Path, index: FileIndex) -> int:
    """Add the rows of one table to `splits`; returns how many repeat another. DataError as `list_tables`."""
    _refuse_rows(path, "no file name or no label", [row for row in rows if not row.file or not row.label])
    outside = [row for row in rows if index.inside(path, row.file) is None]
    _refuse_rows(path, "a file outside the data folder, which is not followed", outside)
    repeated, contradicting = 0, []
    for row, split in zip(rows, _row_roles(role, rows, path), strict=True):
        items = splits.setdefault(split, {})
        inside, found = index.locate(path, row.file, split=split)
        if inside not in items:
            items[inside] = Item(inside=inside, label=row.label, found=found)
        elif items[inside].label == row.label:
            repeated += 1
        else:
            contradicting.append(row)
    _refuse_rows(path, "a file that another row labels differently", contradicting)
    return repeated


def _row_roles(role: str, rows: list[Row], path: Path) -> list[str]:
    """The split of each row: told by its table, a split column, or the first folder of every file name."""
    if role != WHOLE:
        return [role] * len(rows)
    if any(row.split for row in rows):
        unknown = [row for row in rows if row.split.lower() not in SPLIT_NAMES]
        _refuse_rows(path, f"a split that is none of {', '.join(SPLIT_NAMES)}", unknown)
        return [SPLIT_NAMES[row.split.lower()] for row in rows]
    first = [row.file.replace("\\", "/").removeprefix("./").partition("/")[0].lower() for row in rows]
    return [SPLIT_NAMES[name] for name in first] if set(first) <= set(SPLIT_NAMES) else [WHOLE] * len(rows)


def _refuse_rows(path: Path, what: str, rows: list[Row]) -> None:
    if rows:
        named = ", ".join(f"line {row.line} ({row.file or 'no name'})" for row in rows[:MAX_NAMED])
        more = f" and {len(rows) - MAX_NAMED} more" if len(rows) > MAX_NAMED else ""
        raise DataError(f"{path} has rows with {what}: {named}{more}", hint="mend or remove these rows")


def _listing_of(root: Path, items: tuple[Item, ...], labels: tuple[str, ...]) -> Callable[[], Listing]:
    @functools.cache
    def make() -> Listing:
        place = {label: target for target, label in enumerate(labels)}
        return Listing(
            names=tuple(str(root / item.inside) for item in items),
            keys=tuple(item.inside for item in items),
            targets=np.array([place[item.label] for item in items], dtype=np.int64),
            labels=labels,
            read=lambda index: read_file(root / items[index].inside),
        )

    return make
