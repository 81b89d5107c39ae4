"""`resfit evaluate`: how often a model is right on images it was not made from."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from resfit.errors import UsageError
from resfit.verbs.arguments import check_counts
from resfit.verbs.model_and_data import cut_notes, load_for, own_split_seed

SHOWN_CLASSES = 20
SHOWN_MISTAKES = 5


def evaluate(
    model: Annotated[str, "run or fit folder, .resfit file, artifact, checkpoint, or a network's name"],
    data: Annotated[str, "images: class folders, a table of labels, parquet, tars, NumPy arrays, or 'digits'"],
    *,
    split: Annotated[Literal["test", "validation", "train"], "which images"] = "test",
    engine: Annotated[
        Literal["auto", "onnxruntime", "openvino", "torch", "torch-compiled"] | None,
        "runtime; auto: the fastest here, measured once (default: the one of the file, or onnxruntime)",
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "int8"] | None, "arithmetic of the runtime (default: as the file holds)"
    ] = None,
    img_size: Annotated[int | None, "square input size (default: the model's; the data's for a checkpoint)"] = None,
    mean: Annotated[tuple[float, ...] | None, "means a checkpoint was trained with, as fractions of 255"] = None,
    std: Annotated[tuple[float, ...] | None, "deviations a checkpoint was trained with"] = None,
    fit: Annotated[
        Literal["crop", "letterbox", "squash"] | None,
        "how other shapes come to that size (default: the model's, or crop)",
    ] = None,
    split_seed: Annotated[int | None, "seed of the cut of data without splits (default: the model's own, or 0)"] = None,
    max_unreadable: Annotated[float, "share of images, 0 to 1, that may be left out as unreadable"] = 0.0,
    cache: Annotated[str | None, "folder for decoded images (default: resfit in the user's cache folder)"] = None,
    batch_size: Annotated[int, "images the network sees at once"] = 128,
    threads: Annotated[int | None, "processor threads (default: all usable cores)"] = None,
) -> dict[str, Any]:
    """Measure how often a model is right on labelled images, how sure it is, and where it errs.

    The images are those of the test role, unless --split says otherwise. A checkpoint from elsewhere says
    nothing about its preprocessing: what is assumed is printed, and --img-size, --mean, --std and --fit change it.
    """
    from resfit.engines.artifact import describe, engines_for
    from resfit.inference.opening import DEFAULT_ENGINE, artifact_of, built_session
    from resfit.measure.choice import open_chosen

    check_counts(img_size=img_size, batch_size=batch_size, threads=threads)
    artifact, loaded = artifact_of(model), None
    # Only where auto is asked for does what was measured decide the engine: the same command, the same numbers
    chosen: dict[str, Any] = {"threads": threads, "precision": precision, "batch_size": batch_size}
    opened: contextlib.AbstractContextManager[tuple[Any, str | None]]
    if artifact is not None:
        _refuse_changes(artifact, img_size=img_size, mean=mean, std=std, fit=fit)
        opened = contextlib.nullcontext(open_chosen(artifact, engine=engine or engines_for(artifact)[0], **chosen))
        trained = describe(artifact).trained
    else:
        loaded = load_for(model, data, img_size=img_size, mean=mean, std=std, fit=fit)
        opened = built_session(loaded, engine=engine or DEFAULT_ENGINE, **chosen)
        trained = loaded.provenance.trained
    own = own_split_seed(model, loaded)
    opening = _opening(split_seed if split_seed is not None else own or 0, max_unreadable, cache)
    notes = cut_notes(own, split_seed) + (loaded.provenance.notes if loaded is not None else ())
    with opened as (session, reason):
        scores = _scores(session, data, split, batch_size, opening)
    notes += (reason,) if reason else ()
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return {
        "model": model,
        "data": data,
        "split": split,
        **scores,
        "trained": trained,
        "engine": session.engine,
        "engine_reason": reason,
        "precision": session.precision,
        "threads": session.threads,
        "preprocessing": session.preprocessing.to_dict(),
        "notes": list(notes),
    }


def render(result: dict[str, Any]) -> str:
    """What a person sees of an evaluation."""
    low, high = result["accuracy_interval"]
    lines = [
        f"accuracy     {result['accuracy']:.2%} ({low:.2%} to {high:.2%}) "
        f"on {result['num_images']:,} {result['split']} images"
    ]
    if len(result["labels"]) > 5:
        lines.append(f"top 5        {result['top5_accuracy']:.2%}")
    lines += [
        f"balanced     {result['balanced_accuracy']:.2%}, the mean of the classes' recalls",
        f"loss         {result['loss']:.4f}",
        f"calibration  {_calibration(result)}",
        f"images       {result['source']}",
    ]
    if not result["trained"]:
        lines.append(f"weights      untrained: {result['model']} is the name of a network")
    return "\n".join([*lines, "", *_class_table(result), *_mistake_lines(result)])


def _calibration(result: dict[str, Any]) -> str:
    confidence = sum(row["count"] * row["confidence"] for row in result["reliability"] if row["count"])
    over = 100 * (confidence / result["num_images"] - result["accuracy"])
    tendency = f"{abs(over):.1f} points {'surer' if over > 0 else 'less sure'} than right on average"
    return f"ECE {result['ece']:.4f}, Brier score {result['brier']:.4f}; {tendency}"


def _class_table(result: dict[str, Any]) -> list[str]:
    """A line a class; of many classes, those whose images are least often right."""
    tested = [row for row in result["per_class"] if row["num_images"]]
    rows = tested
    if len(tested) > SHOWN_CLASSES:
        rows = sorted(tested, key=lambda row: row["recall"])[:SHOWN_CLASSES]
    width = max(5, *(len(row["label"]) for row in rows))
    lines = [f"{'class':<{width}}  images  precision  recall      F1"]
    for row in rows:
        name, count = f"{row['label']:<{width}}", f"{row['num_images']:>6,}"
        precision = "-" if row["precision"] is None else f"{row['precision']:.1%}"
        lines.append(f"{name}  {count}  {precision:>9}  {row['recall']:>6.1%}  {row['f1']:>6.1%}")
    if len(rows) < len(tested):
        lines.append(f"the {len(rows)} of {len(tested)} classes with the lowest recall")
    return lines


def _mistake_lines(result: dict[str, Any]) -> list[str]:
    mistakes = result["mistakes"][:SHOWN_MISTAKES]
    if not mistakes:
        return []
    named = [
        f"  {row['path']}: {row['label']}, taken for {row['predicted']} with {row['probability']:.1%}"
        for row in mistakes
    ]
    return ["", "surest mistakes", *named]


def _refuse_changes(artifact: Path, **given: Any) -> None:
    """An artifact's preprocessing is part of it: a flag that would change it is a UsageError."""
    flags = ", ".join("--" + name.replace("_", "-") for name, value in given.items() if value is not None)
    if flags:
        raise UsageError(f"{artifact} is an artifact: what {flags} would change is part of it", hint="leave it out")


def _opening(split_seed: int, max_unreadable: float, cache: str | None) -> dict[str, Any]:
    """How the data is opened."""
    from resfit.data.cache import CacheOptions

    options = None if cache is None else CacheOptions(folder=Path(cache))
    return {"split_seed": split_seed, "max_unreadable": max_unreadable, "cache": options}


def _scores(session: Any, data: str, split: str, batch_size: int, opening: dict[str, Any]) -> dict[str, Any]:
    """The images of a role, read as the session takes them, and what its answers to them are worth."""
    from resfit.data.labels import match_labels
    from resfit.data.sources import open_data
    from resfit.inference.predict import evaluation

    labels = session.labels
    splits = open_data(data, preprocessing=session.preprocessing, roles=(split,), **opening)
    images = match_labels(splits.role(split), labels, num_classes=len(labels))
    return {
        "source": splits.sources[split],
        "skipped": splits.audit["skipped"],
        **evaluation(session, images, batch_size=batch_size),
    }
