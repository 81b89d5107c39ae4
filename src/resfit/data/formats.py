"""What lies at a name or path: the kind of data is told from what is there, never from a flag."""

import sys
from pathlib import Path

from resfit.data.arrays import array_files, list_arrays
from resfit.data.digits import list_digits
from resfit.data.folders import entries_of, holds_images, list_folder
from resfit.data.origin import WHOLE, Origin, declared_split
from resfit.data.parquet import list_parquet, parquet_files
from resfit.data.tables import columns_of, follows_folders, labelled_tables, list_tables, metadata_tables
from resfit.data.tars import list_tars, tar_files
from resfit.errors import DataError, UsageError, nearest

EMBEDDED = "digits"
KINDS = "a folder of images, a table of labels (.csv), .parquet, .tar, .npz"


def origin_of(data: str) -> Origin:
    """The images that `data` declares, none decoded: "digits", or a path of one of these kinds.

    Class folders, with or without splits; a folder with `metadata.csv`, or with any CSV of files and labels;
    Hugging Face parquet; webdataset tars; NumPy arrays. UsageError for a path that is none of them; DataError
    as the kind's own reader says.
    """
    if data == EMBEDDED:
        return _embedded()
    path = Path(data).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UsageError(f"no data at {data}", hint=nearest(path.name, [EMBEDDED, *siblings[:1000]]))


def _embedded() -> Origin:
    if Path(EMBEDDED).is_dir():
        print(f"{EMBEDDED}: the embedded digits; write ./{EMBEDDED} for the folder", file=sys.stderr)
    digits = list_digits()
    return Origin(
        labels=digits.labels,
        listings={WHOLE: lambda: digits},
        where={WHOLE: "scikit-learn's digits"},
        basis="image content",
    )


def _file(path: Path) -> Origin:
    kind = path.suffix.lower()
    if kind == ".parquet":
        return list_parquet([path])
    if kind in (".csv", ".tsv", ".jsonl"):
        return list_tables(path.parent, {declared_split(path.stem) or WHOLE: path})
    if path.name.lower().endswith((".tar", ".tar.gz", ".tgz")):
        return list_tars(path.parent, [path])
    if kind in (".npz", ".npy"):
        return list_arrays(path.parent, [path])
    raise UsageError(f"{path}: {KINDS} or {EMBEDDED} expected")


def _folder(root: Path) -> Origin:
    """Tables that call themselves metadata go first and parquet next; then what the images lie among.

    An archive beside class folders is the one they were unpacked from, so it counts only where there are none.
    A table whose labels are the folders' own names says nothing new.
    """
    described = metadata_tables(root)
    if described:
        return list_tables(root, described)
    if parquet := parquet_files(root):
        return list_parquet(parquet)
    tables = labelled_tables(root)
    if holds_images(root):
        return list_tables(root, tables) if tables and not follows_folders(tables) else _class_folders(root)
    if tars := tar_files(root):
        return list_tars(root, tars)
    if arrays := array_files(root):
        return list_arrays(root, arrays)
    return list_tables(root, tables) if tables else _class_folders(root)


def _class_folders(root: Path) -> Origin:
    try:
        return list_folder(root)
    except DataError:
        entries = entries_of(root)
        if sum(entry.is_dir() for entry in entries) < 2:  # no class folders: a table was meant, and is told why not
            for table in entries:
                if table.suffix.lower() == ".csv" and table.is_file():
                    columns_of(table)
        raise
