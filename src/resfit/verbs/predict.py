"""`resfit predict`: a model and pictures in, a label and its probability for each out."""

import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from resfit.errors import UsageError
from resfit.verbs.arguments import check_counts


def predict(
    model: Annotated[str, "run or fit folder, .resfit file, artifact or checkpoint"],
    images: Annotated[
        list[str], "image files, folders of them, patterns in quotes, tars, parquet files, or - for paths on input"
    ],
    *,
    out: Annotated[str | None, "file for the rows, written as they come, there when all are (default: printed)"] = None,
    format: Annotated[
        Literal["text", "csv", "jsonl", "parquet"] | None, "of the rows (default: as --out ends, or text)"
    ] = None,
    top_k: Annotated[int, "labels shown for each image, best first"] = 1,
    probabilities: Annotated[bool, "the probabilities of all classes in each row of csv, jsonl and parquet"] = False,
    strict: Annotated[bool, "stop at the first picture that cannot be read"] = False,
    decoding: Annotated[
        Literal["scaled", "exact"], "scaled reads large JPEGs at a fraction of their size; exact as training does"
    ] = "scaled",
    engine: Annotated[
        Literal["auto", "onnxruntime", "openvino", "torch", "torch-compiled"] | None,
        "runtime; auto: the fastest here, measured once (default: what auto found before, or the file's own)",
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "int8"] | None, "arithmetic of the runtime (default: as the file holds)"
    ] = None,
    img_size: Annotated[int | None, "square input size of a checkpoint"] = None,
    mean: Annotated[tuple[float, ...] | None, "means a checkpoint was trained with, as fractions of 255"] = None,
    std: Annotated[tuple[float, ...] | None, "deviations a checkpoint was trained with"] = None,
    labels: Annotated[list[str] | None, "class names of a checkpoint, in the order of its outputs"] = None,
    batch_size: Annotated[int, "images the network sees at once"] = 32,
    threads: Annotated[int | None, "processor threads (default: all usable cores)"] = None,
) -> dict[str, Any]:
    """Say what is on pictures.

    A picture that cannot be read is named with the reason, the others are classified, and the exit code is 1.
    Rows keep the order of the pictures. With --out memory does not grow with their number.
    """
    from resfit.inference.inputs import pictures
    from resfit.inference.opening import session_for
    from resfit.inference.outputs import Columns, format_of, save_rows
    from resfit.inference.predict import predict_rows

    check_counts(batch_size=batch_size, top_k=top_k, threads=threads)
    written = format_of(out, format)
    if out is None and written == "parquet":
        raise UsageError("parquet cannot be printed", hint="name a file with --out")
    found = pictures([images] if isinstance(images, str) else images)
    given: dict[str, Any] = {"img_size": img_size, "mean": mean, "std": std, "labels": labels}
    chosen: dict[str, Any] = {"engine": engine, "threads": threads, "precision": precision, "batch_size": batch_size}
    with session_for(model, **chosen, **given) as opened:
        for note in (*opened.notes, *([opened.choice] if opened.choice else [])):
            print(f"note: {note}", file=sys.stderr)
        session = opened.session
        rows = _Counted(
            predict_rows(
                session,
                found,
                batch_size=batch_size,
                top_k=top_k,
                probabilities=probabilities,
                decoding=decoding,
                strict=strict,
            )
        )
        held: dict[str, Any] = {}
        if out is None:
            held["predictions"] = list(rows)
        else:
            columns = Columns(labels=session.labels, top_k=top_k, probabilities=probabilities)
            save_rows(out, rows, format=written, columns=columns)
    return {
        "model": model,
        "trained": opened.trained,
        "notes": list(opened.notes),
        "engine": session.engine,
        "engine_reason": opened.choice,
        "precision": session.precision,
        "threads": session.threads,
        "labels": list(session.labels),
        "decoding": decoding,
        "top_k": top_k,
        "probabilities": probabilities,
        "out": out,
        "format": written,
        "num_images": rows.count,
        "failed": rows.failed,
        **held,
        "exit_code": int(rows.failed > 0),
    }


class _Counted:
    """Rows as they pass, counted."""

    def __init__(self, rows: Iterable[dict[str, Any]]):
        self._rows = rows
        self.count, self.failed = 0, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self._rows:
            self.count += 1
            self.failed += "error" in row
            yield row


def render(result: dict[str, Any]) -> str:
    """The rows in their format, or where they were written."""
    from resfit.inference.outputs import Columns, rows_as_text, text_lines

    if result["out"] is not None:
        lines = [f"{result['num_images']:,} rows as {result['format']} in {result['out']}"]
    elif result["format"] != "text":
        columns = Columns(labels=tuple(result["labels"]), top_k=result["top_k"], probabilities=result["probabilities"])
        return rows_as_text(result["predictions"], format=result["format"], columns=columns)
    else:
        width = max((len(row["path"]) for row in result["predictions"]), default=0)
        lines = [line for row in result["predictions"] for line in text_lines(row, width=width)]
    if result["failed"]:
        lines.append(f"{result['failed']} of {result['num_images']} images could not be read")
    return "\n".join(lines)
