"""Rows of answers to files: text, CSV, JSON lines or parquet, written as they come, whole or not at all."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from resfit.errors import MissingExtra, UsageError, nearest
from resfit.storage import keep_earlier, write_atomic

Format = Literal["text", "csv", "jsonl", "parquet"]
ENDINGS: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}
GROUP_CELLS = 1 << 16  # values of a parquet row group: what is held before it is written


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What each row holds beside path and error: so many best labels, and the probabilities of all if wanted.

    labels: the session's, by output. top_k: at most as many as there are labels.
    """

    labels: tuple[str, ...]
    top_k: int = 1
    probabilities: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """A name for each output that no other has: its label, with its number where labels repeat."""
        times = Counter(self.labels)
        numbered = tuple(f"{label} ({index})" for index, label in enumerate(self.labels))
        names = tuple(label if times[label] == 1 else other for label, other in zip(self.labels, numbered, strict=True))
        return names if len(set(names)) == len(names) else numbered


def format_of(path: str | Path | None, format: str | None = None) -> Format:
    """The format asked for, or the one a file's name ends in, or text; UsageError for one there is not."""
    if format is None:
        return ENDINGS.get(Path(path).suffix.lower(), "text") if path is not None else "text"
    for known in get_args(Format):
        if known == format:
            return known
    raise UsageError(f"there is no format {format!r}", hint=nearest(format, get_args(Format)))


def save_rows(path: str | Path, rows: Iterable[dict[str, Any]], *, format: Format, columns: Columns) -> None:
    """Write rows, as `inference.predict.predict_rows` gives them, while they come.

    The file appears when the last row is written. An earlier one is moved aside then, and stays as it is where
    the rows end with an error or are interrupted. UsageError for a folder in its place, MissingExtra for
    parquet without pyarrow, both before a row is asked for.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder, expected a file to write", hint="choose another --out")
    write = {"text": _write_text, "csv": _write_csv, "jsonl": _write_json_lines, "parquet": _write_parquet}[format]

    def content(file: BinaryIO) -> None:
        write(file, iter(rows), columns)
        keep_earlier(path)

    write_atomic(path, content)


def rows_as_text(rows: Iterable[dict[str, Any]], *, format: Format, columns: Columns) -> str:
    """What `save_rows` would write, for printing. Parquet is no text: UsageError."""
    if format == "parquet":
        raise UsageError("parquet cannot be printed", hint="name a file with --out")
    written = io.BytesIO()
    write = {"text": _write_text, "csv": _write_csv, "jsonl": _write_json_lines}[format]
    write(written, iter(rows), columns)
    return written.getvalue().decode("utf-8").removesuffix("\n")


def text_lines(row: dict[str, Any], *, width: int = 0) -> list[str]:
    """A line for a picture, and one for each further label; the path takes `width` characters at least."""
    if "error" in row:
        return [f"{row['path']:<{width}}  cannot be read: {row['error']}"]
    width = max(width, len(row["path"]))
    return [
        f"{'' if rank else row['path']:<{width}}  {answer['probability']:>6.1%}  {answer['label']}"
        for rank, answer in enumerate(row["top"])
    ]


def _write_text(file: BinaryIO, rows: Iterator[dict[str, Any]], _: Columns) -> None:
    for row in rows:
        file.write("".join(f"{line}\n" for line in text_lines(row)).encode())


def _write_json_lines(file: BinaryIO, rows: Iterator[dict[str, Any]], _: Columns) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _write_csv(file: BinaryIO, rows: Iterator[dict[str, Any]], columns: Columns) -> None:
    """path, label, probability, label_2, probability_2, .., a column a class if wanted, error."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    ranks = range(1, min(columns.top_k, len(columns.labels)) + 1)
    names = [name + ("" if rank == 1 else f"_{rank}") for rank in ranks for name in ("label", "probability")]
    classes = columns.classes if columns.probabilities else ()
    writer.writerow(["path", *names, *classes, "error"])
    for row in rows:
        top = [value for answer in row.get("top", ()) for value in (answer["label"], answer["probability"])]
        every = row.get("probabilities", {}).values()
        empty = [""] * (len(names) + len(classes)) if "error" in row else []
        writer.writerow([row["path"], *top, *every, *empty, row.get("error", "")])
    text.detach()  # the file is the caller's to close


def _write_parquet(file: BinaryIO, rows: Iterator[dict[str, Any]], columns: Columns) -> None:
    """path, label, probability, top (a list of label and probability), error, and if wanted probabilities: a list
    in the order of the labels, which the schema's metadata holds as JSON under `labels`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", extra="parquet", purpose="writing parquet") from error

    answer = pyarrow.struct([("label", pyarrow.string()), ("probability", pyarrow.float64())])
    fields = [
        ("path", pyarrow.string()),
        ("label", pyarrow.string()),
        ("probability", pyarrow.float64()),
        ("top", pyarrow.list_(answer)),
        ("error", pyarrow.string()),
    ]
    if columns.probabilities:
        fields.append(("probabilities", pyarrow.list_(pyarrow.float64())))
    metadata = {"labels": json.dumps(columns.labels, ensure_ascii=False)}
    schema = pyarrow.schema(fields, metadata=metadata)
    cells = len(fields) + 2 * columns.top_k + (len(columns.labels) if columns.probabilities else 0)
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for group in _groups(rows, max(1, GROUP_CELLS // cells)):
            plain = [{**row, "probabilities": list(row.get("probabilities", {}).values())} for row in group]
            writer.write_table(pyarrow.Table.from_pylist(plain, schema=schema))


def _groups(rows: Iterator[dict[str, Any]], size: int) -> Iterator[Sequence[dict[str, Any]]]:
    while group := list(islice(rows, size)):
        yield group
