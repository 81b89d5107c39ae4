"""`resfit predict`: a model and pictures in, a label and its probability for each out."""

import sys
from typing import Annotated, Any, Literal

from resfit.verbs.arguments import check_counts


def predict(
    model: Annotated[str, "run folder, fit folder, artifact file or checkpoint"],
    images: Annotated[list[str], "image files, folders of them, or patterns in quotes"],
    *,
    engine: Annotated[
        Literal["onnxruntime", "torch"] | None, "runtime (default: the one of the file, or onnxruntime)"
    ] = None,
    img_size: Annotated[int | None, "square input size of a checkpoint"] = None,
    mean: Annotated[tuple[float, ...] | None, "means a checkpoint was trained with, as fractions of 255"] = None,
    std: Annotated[tuple[float, ...] | None, "deviations a checkpoint was trained with"] = None,
    labels: Annotated[list[str] | None, "class names of a checkpoint, in the order of its outputs"] = None,
    batch_size: Annotated[int, "images the network sees at once"] = 32,
    top_k: Annotated[int, "labels shown for each image, best first"] = 1,
    threads: Annotated[int | None, "processor threads (default: all usable cores)"] = None,
) -> dict[str, Any]:
    """Say what is on pictures.

    A picture that cannot be read is named with the reason, the others are classified, and the exit code is 1.
    """
    from resfit.inference.inputs import image_paths
    from resfit.inference.opening import session_for
    from resfit.inference.predict import predict_rows

    check_counts(batch_size=batch_size, top_k=top_k, threads=threads)
    paths = image_paths([images] if isinstance(images, str) else images)
    given: dict[str, Any] = {"img_size": img_size, "mean": mean, "std": std, "labels": labels}
    with session_for(model, engine=engine, threads=threads, **given) as opened:
        for note in opened.notes:
            print(f"note: {note}", file=sys.stderr)
        rows = list(predict_rows(opened.session, paths, batch_size=batch_size, top_k=top_k))
    failed = sum("error" in row for row in rows)
    return {
        "model": model,
        "trained": opened.trained,
        "notes": list(opened.notes),
        "engine": opened.session.engine,
        "threads": opened.session.threads,
        "num_images": len(rows),
        "failed": failed,
        "predictions": rows,
        "exit_code": int(failed > 0),
    }


def render(result: dict[str, Any]) -> str:
    """A line for each picture, and for each further label asked for."""
    width = max(len(row["path"]) for row in result["predictions"])
    lines: list[str] = []
    for row in result["predictions"]:
        if "error" in row:
            lines.append(f"{row['path']:<{width}}  cannot be read: {row['error']}")
            continue
        for rank, answer in enumerate(row["top"]):
            shown = row["path"] if rank == 0 else ""
            lines.append(f"{shown:<{width}}  {answer['probability']:>6.1%}  {answer['label']}")
    if result["failed"]:
        lines.append(f"{result['failed']} of {result['num_images']} images could not be read")
    return "\n".join(lines)
