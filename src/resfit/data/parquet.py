"""Hugging Face parquet: an image column, a label column, and class names in the schema's metadata."""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from resfit.data.listing import Listing
from resfit.data.origin import SPLIT_NAMES, WHOLE, Origin
from resfit.errors import DataError, MissingExtra

ROWS_AT_ONCE = 32
BUFFER_BYTES = 1 << 20  # of a column read at a time, where its row group may hold hundreds of megabytes
IMAGE_NAMES = ("image", "img")
LABEL_NAMES = ("label", "labels", "fine_label", "class", "target")
SPLIT_PREFIX = re.compile(rf"({'|'.join(SPLIT_NAMES)})(?=[-_.])", re.IGNORECASE)


def parquet_files(folder: Path) -> list[Path]:
    """The parquet files in `folder`, or in the one folder below that has some; DataError where several do."""
    direct = sorted(folder.glob("*.parquet"))
    if direct:
        return direct
    below = sorted(folder.glob("*/*.parquet"))
    parents = sorted({path.parent.name for path in below})
    if len(parents) > 1:
        raise DataError(
            f"{folder} holds parquet files in several folders: {', '.join(parents)}", hint="name one of them"
        )
    return below


def list_parquet(paths: list[Path]) -> Origin:
    """The splits that file names declare (`train-*.parquet`, `test-*.parquet`), or all as one set.

    DataError for files that are no parquet, columns that cannot be told apart, labels without a class or
    classes that differ between splits; MissingExtra without pyarrow.
    """
    pyarrow_parquet = _pyarrow()
    groups = _by_split(paths)
    tables = {role: _Files(pyarrow_parquet, files) for role, files in groups.items()}
    named = {table.class_names for table in tables.values()}
    if len(named) > 1:
        raise DataError("the parquet splits declare different class names: " + " / ".join(map(str, named)))
    labels = named.pop() or _labels_found(tables)
    if len(labels) < 2:
        raise DataError(f"{paths[0]} holds one class only: two or more expected")
    return Origin(
        labels=labels,
        listings={role: _reader(table, labels) for role, table in tables.items()},
        where={
            role: files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
            for role, files in groups.items()
        },
        basis="image content",
    )


def encoded_images(path: Path) -> Iterator[tuple[int, Callable[[], bytes]]]:
    """The images of one parquet file in its order, a row and a way to the encoded bytes each; no labels are needed.

    They come while the file is gone through, ROWS_AT_ONCE rows in memory. DataError for a file that cannot be
    read or whose image column cannot be told, and from the row's own `read` where it holds no image.
    """
    pyarrow_parquet = _pyarrow()
    try:
        with pyarrow_parquet.ParquetFile(path, buffer_size=BUFFER_BYTES) as file:
            column = _image_column(path, file.schema_arrow)
            rows = (
                value
                for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=[column])
                for value in batch.column(0).to_pylist()
            )
            for row, value in enumerate(rows):
                yield row, functools.partial(_row_bytes, path, row, value, column)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as parquet ({error})") from error


def _row_bytes(path: Path, row: int, value: Any, column: str) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise DataError(f"{path} row {row}: no image bytes in the column {column}")
    return content


def _pyarrow() -> ModuleType:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", extra="parquet", purpose="reading parquet") from error
    return pyarrow.parquet


def _by_split(paths: list[Path]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in paths:
        match = SPLIT_PREFIX.match(path.name)
        groups.setdefault(SPLIT_NAMES[match[1].lower()] if match else WHOLE, []).append(path)
    if WHOLE in groups and len(groups) > 1:
        raise DataError(
            f"{groups[WHOLE][0].name} names no split, other parquet files beside it do",
            hint="name every file train-*, validation-* or test-*, or none",
        )
    return groups


def _labels_found(tables: dict[str, "_Files"]) -> tuple[str, ...]:
    """Class names where the schema declares none: the labels' own values, numbers in their order."""
    found = {role: set(table.label_values()) for role, table in tables.items()}
    every = set().union(*found.values())
    for role, values in found.items():
        missing = sorted(str(value) for value in every - values)
        if missing:
            raise DataError(f"the {role} parquet lacks classes that other splits have: {', '.join(missing[:10])}")
    ordered = sorted(every) if all(isinstance(value, int) for value in every) else sorted(map(str, every))
    return tuple(str(value) for value in ordered)


def _reader(table: "_Files", labels: tuple[str, ...]) -> Callable[[], Listing]:
    @functools.cache
    def make() -> Listing:
        encoded, names = table.images()
        return Listing(
            names=names,
            keys=tuple(hashlib.sha256(content).hexdigest() for content in encoded),
            targets=table.targets(labels),
            labels=labels,
            read=encoded.__getitem__,
        )

    return make


class _Files:
    """The parquet files of one split, with the columns that hold images and labels."""

    def __init__(self, pyarrow_parquet: ModuleType, paths: list[Path]):
        self._parquet, self._paths = pyarrow_parquet, paths
        try:
            schemas = [pyarrow_parquet.read_schema(path) for path in paths]
        except (OSError, ValueError) as error:
            raise DataError(f"{', '.join(path.name for path in paths)}: not readable as parquet ({error})") from error
        self._schema = schemas[0]
        for path, schema in zip(paths, schemas, strict=True):
            if schema.names != self._schema.names:
                raise DataError(f"{path} and {paths[0]} hold different columns")
        features = _features(self._schema)
        self._image = _image_column(paths[0], self._schema)
        self._label = self._label_column(features)
        names = features.get(self._label, {}).get("names")
        self.class_names: tuple[str, ...] = tuple(map(str, names)) if names else ()

    def _label_column(self, features: dict[str, Any]) -> str:
        fits = [field.name for field in self._schema if str(field.type) in _LABEL_TYPES]
        marked = [name for name in fits if features.get(name, {}).get("_type") == "ClassLabel"]
        preferred = [name for name in LABEL_NAMES if name in fits][:1]
        return _one_column(self._paths[0], self._schema, "label", preferred or marked or fits)

    def _column(self, name: str) -> list[tuple[Path, list[Any]]]:
        columns = []
        for path in self._paths:
            try:
                table = self._parquet.read_table(path, columns=[name])
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: not readable as parquet ({error})") from error
            columns.append((path, table.column(name).to_pylist()))
        return columns

    def images(self) -> tuple[list[bytes], tuple[str, ...]]:
        """Encoded bytes and a name a row; DataError for rows that hold no bytes."""
        encoded, names = [], []
        for path, values in self._column(self._image):
            for row, value in enumerate(values):
                encoded.append(_row_bytes(path, row, value, self._image))
                inside = value.get("path") if isinstance(value, dict) else None
                names.append(f"{path.name}#{row}" + (f" ({inside})" if inside else ""))
        return encoded, tuple(names)

    def label_values(self) -> list[int | str]:
        """The label column as stored; DataError naming a row without a label."""
        found: list[int | str] = []
        for path, values in self._column(self._label):
            if None in values:
                raise DataError(f"{path} row {values.index(None)}: no label in the column {self._label}")
            found.extend(values)
        return found

    def targets(self, labels: tuple[str, ...]) -> np.ndarray:
        """int64 (N,), indices into `labels`; DataError for a value that is none of them."""
        values = self.label_values()
        if self.class_names and all(isinstance(value, int) for value in values):
            known: dict[int | str, int] = {target: target for target in range(len(labels))}
        else:
            known = {label: target for target, label in enumerate(labels)}
            values = [str(value) for value in values]
        unknown = sorted({str(value) for value in values if value not in known})
        if unknown:
            raise DataError(
                f"{self._paths[0]}: labels that name no class: {', '.join(unknown[:10])}"
                f" ({len(labels)} classes declared)",
                hint="-1 marks an unlabelled split; leave its file out" if "-1" in unknown else None,
            )
        return np.array([known[value] for value in values], dtype=np.int64)


_LABEL_TYPES = frozenset(
    ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "string", "large_string"]
)


def _image_column(path: Path, schema: Any) -> str:
    features = _features(schema)
    fits = [field.name for field in schema if _holds_bytes(field.type)]
    marked = [name for name in fits if features.get(name, {}).get("_type") == "Image"]
    return _one_column(path, schema, "image", [name for name in IMAGE_NAMES if name in fits] or marked or fits)


def _one_column(path: Path, schema: Any, what: str, names: list[str]) -> str:
    if len(names) != 1:
        raise DataError(
            f"{path}: {'no' if not names else 'several'} {what} columns ({', '.join(names or schema.names)})",
            hint=f"name the {what} column {' or '.join(IMAGE_NAMES if what == 'image' else LABEL_NAMES)}",
        )
    return names[0]


def _holds_bytes(kind: Any) -> bool:
    text = str(kind)
    return text in ("binary", "large_binary") or text.startswith("struct<bytes: binary")


def _features(schema: Any) -> dict[str, Any]:
    """Column -> what Hugging Face's metadata says of it; empty where there is none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
