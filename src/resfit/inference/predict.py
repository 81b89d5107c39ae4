"""A session and images: what it answers, row by row, or logits for a whole data set."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from resfit.data.dataset import ArrayDataset
from resfit.data.preprocessing import Decoding, Preprocessing
from resfit.engines.session import Session
from resfit.errors import DataError, EngineError
from resfit.inference.inputs import Picture
from resfit.inference.outputs import Columns
from resfit.inference.reading import Batch, read_batches
from resfit.metrics.classification import Tally, softmax

BATCH_SIZE = 32


def predict_rows(
    session: Session,
    pictures: Iterable[Picture],
    *,
    batch_size: int = BATCH_SIZE,
    top_k: int = 1,
    probabilities: bool = False,
    decoding: Decoding = "exact",
    strict: bool = False,
) -> Iterator[dict[str, Any]]:
    """One row an image, in the order given: path, label, probability, and top_k of (label, probability).

    probabilities: also those of all classes, by `Columns.classes`, in the order of the labels. decoding: as
    `data.preprocessing.decode` takes it. A picture that cannot be read gives a row with `error`, and no label;
    the others are not held up by it. strict: it is a DataError instead. The next batches are decoded while the
    session runs, and few are held, however many pictures there are.
    """
    columns = Columns(labels=session.labels, top_k=max(1, min(top_k, len(session.labels))), probabilities=probabilities)
    for batch in read_batches(pictures, session.preprocessing, batch_size=batch_size, decoding=decoding):
        if strict and batch.errors:
            position = min(batch.errors)
            raise DataError(
                f"{batch.names[position]}: {batch.errors[position]}",
                hint="mend or remove it; without --strict it is a row with this error",
            )
        yield from _batch_rows(session, batch, columns)


def evaluate_session(
    session: Session, dataset: ArrayDataset, *, batch_size: int = BATCH_SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, classes) float32 and targets (N,) int64 of every image of a data set, in its order.

    The images must have the size the session takes: DataError otherwise. How many classes the two have is
    the caller's to compare. `evaluation` needs no memory for the logits.
    """
    logits = [batch for batch, _ in _logit_batches(session, dataset, batch_size)]
    return np.concatenate(logits), dataset.targets


def evaluation(session: Session, dataset: ArrayDataset, *, batch_size: int = BATCH_SIZE) -> dict[str, Any]:
    """What a session's answers to a data set are worth, as plain data for JSON.

    Everything of `metrics.classification.summary`, and mistakes[] {index, path, label, predicted,
    probability}: the wrong answers given with most confidence, surest first, at most 20; `index` counts in the
    data set. hits[], with the same keys: the surest right answer of each class that has one. The data's
    classes must be the session's, in its order. Only a batch of images and of logits is held at a time.
    EngineError for an answer that is not finite, DataError as from `evaluate_session`.
    """
    labels = dataset.labels  # a checkpoint from elsewhere has no names of its own
    tally = Tally(len(labels))
    for logits, targets in _logit_batches(session, dataset, batch_size):
        broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(broken):
            raise EngineError(
                f"the model answers {dataset.name(tally.num_images + int(broken[0]))} with numbers that are not finite",
                hint="its weights are damaged, or it was trained at too high a learning rate",
            )
        tally.add(logits, targets)
    return {
        **tally.summary(labels),
        "mistakes": [_named(answer, dataset) for answer in tally.mistakes()],
        "hits": [_named(answer, dataset) for answer in tally.hits()],
    }


def _logit_batches(session: Session, dataset: ArrayDataset, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Logits and targets of each batch in order; DataError for no images and for those of another size."""
    if not len(dataset):
        raise DataError("there are no images to evaluate on")
    expected = _shape(session.preprocessing)
    found = dataset.images.shape[1:]
    if found != expected:
        raise DataError(
            f"the images are {_by(found)}, but the model takes {_by(expected)}",
            hint="read the data at the model's size and channels",
        )
    for start in range(0, len(dataset), batch_size):
        rows = slice(start, min(start + batch_size, len(dataset)))
        yield session.run(dataset.images[rows]), dataset.targets[rows]


def _named(answer: dict[str, Any], dataset: ArrayDataset) -> dict[str, Any]:
    return {
        "index": answer["index"],
        "path": dataset.name(answer["index"]),
        "label": dataset.labels[answer["target"]],
        "predicted": dataset.labels[answer["predicted"]],
        "probability": answer["probability"],
    }


def _batch_rows(session: Session, batch: Batch, columns: Columns) -> Iterator[dict[str, Any]]:
    answers = iter(softmax(session.run(batch.images)) if len(batch.images) else ())
    for position, name in enumerate(batch.names):
        path = printable(name)
        if position in batch.errors:
            yield {"path": path, "error": batch.errors[position]}
        else:
            yield {"path": path, **_answer(next(answers), columns)}


def printable(name: str) -> str:
    """A path as text: bytes that are no UTF-8, which file names may hold, as \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _answer(probabilities: np.ndarray, columns: Columns) -> dict[str, Any]:
    if not np.isfinite(probabilities).all():
        raise EngineError("the model answers with numbers that are not finite", hint="its weights are damaged")
    order = np.argsort(-probabilities, kind="stable")[: columns.top_k]
    top = [{"label": columns.labels[index], "probability": float(probabilities[index])} for index in order]
    row = {**top[0], "top": top}
    if columns.probabilities:
        row["probabilities"] = dict(zip(columns.classes, map(float, probabilities), strict=True))
    return row


def _shape(preprocessing: Preprocessing) -> tuple[int, int, int]:
    return preprocessing.height, preprocessing.width, preprocessing.channels


def _by(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{height} x {width} with {channels} channel{'s' * (channels != 1)}"
