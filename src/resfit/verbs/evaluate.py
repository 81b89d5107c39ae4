"""`resfit evaluate`: how often a model is right on images it was not made from."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from resfit.verbs.arguments import check_counts


def evaluate(
    model: Annotated[str, "run folder, fit folder, artifact file, checkpoint, or a network's name"],
    data: Annotated[str, "folder of class folders, Hugging Face parquet, or 'digits'"],
    *,
    split: Annotated[Literal["test", "validation", "train"], "which images"] = "test",
    engine: Annotated[
        Literal["onnxruntime", "torch"] | None, "runtime (default: the one of the file, or onnxruntime)"
    ] = None,
    img_size: Annotated[int | None, "square input size (default: the model's; the data's for a checkpoint)"] = None,
    mean: Annotated[tuple[float, ...] | None, "means a checkpoint was trained with, as fractions of 255"] = None,
    std: Annotated[tuple[float, ...] | None, "deviations a checkpoint was trained with"] = None,
    batch_size: Annotated[int, "images the network sees at once"] = 128,
    threads: Annotated[int | None, "processor threads (default: all usable cores)"] = None,
) -> dict[str, Any]:
    """Measure the accuracy of a model on labelled images.

    The images are those of the test role, unless --split says otherwise. A checkpoint from elsewhere says
    nothing about its preprocessing: what is assumed is printed, and --img-size, --mean and --std change it.
    """
    from resfit.inference.opening import artifact_of, session_of
    from resfit.inference.predict import evaluate_session

    check_counts(img_size=img_size, batch_size=batch_size, threads=threads)
    artifact = artifact_of(model)
    if artifact is not None:
        from resfit.engines.artifact import describe, open_session

        session = open_session(artifact, engine=engine, threads=threads)
        images, sources = _images(data, split, session.preprocessing, session.labels)
        logits, targets = evaluate_session(session, images, batch_size=batch_size)
        notes: tuple[str, ...] = ()
        trained = describe(artifact).trained
    else:
        loaded = _load(model, data, img_size=img_size, mean=mean, std=std)
        images, sources = _images(data, split, loaded.preprocessing, loaded.labels)
        with session_of(loaded, engine=engine, threads=threads) as session:
            logits, targets = evaluate_session(session, images, batch_size=batch_size)
        notes, trained = loaded.provenance.notes, loaded.provenance.trained
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return {
        "model": model,
        "data": data,
        "split": split,
        "source": sources[split],
        **_scores(logits, targets),
        "trained": trained,
        "engine": session.engine,
        "preprocessing": session.preprocessing.to_dict(),
        "notes": list(notes),
    }


def render(result: dict[str, Any]) -> str:
    """What a person sees of an evaluation."""
    low, high = result["accuracy_interval"]
    lines = [
        f"accuracy  {result['accuracy']:.2%} ({low:.2%} to {high:.2%}) "
        f"on {result['num_images']:,} {result['split']} images",
        f"loss      {result['loss']:.4f}",
        f"images    {result['source']}",
    ]
    if not result["trained"]:
        lines.append(f"weights   untrained: {result['model']} is the name of a network")
    return "\n".join(lines)


def _load(
    model: str,
    data: str,
    *,
    img_size: int | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> Any:
    """The model, set to the data's own image size where neither it nor the user says which."""
    from resfit.model.load import load

    loaded = load(model, mean=mean, std=std, img_size=img_size)
    if img_size is not None or Path(model).is_dir():
        return loaded
    from resfit.data.sources import image_shape

    height, width, _ = image_shape(data)
    sized = dataclasses.replace(loaded.preprocessing, height=height, width=width)
    return dataclasses.replace(loaded, preprocessing=sized)


def _images(data: str, split: str, preprocessing: Any, labels: tuple[str, ...]) -> tuple[Any, dict[str, str]]:
    from resfit.data.labels import match_labels
    from resfit.data.sources import open_data

    splits = open_data(data, preprocessing=preprocessing, roles=(split,))
    unnamed = labels == tuple(str(index) for index in range(len(labels)))  # as foreign checkpoints are given
    names = () if unnamed else labels
    return match_labels(splits.role(split), names, num_classes=len(labels)), splits.sources


def _scores(logits: Any, targets: Any) -> dict[str, Any]:
    from resfit.metrics.classification import accuracy, cross_entropy, wilson_interval

    correct = int((logits.argmax(1) == targets).sum())
    return {
        "accuracy": accuracy(logits, targets),
        "accuracy_interval": list(wilson_interval(correct, len(targets))),
        "loss": cross_entropy(logits, targets),
        "num_images": len(targets),
    }
