"""`resfit report`: the page of a run again, or several runs side by side."""

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from resfit.errors import DataError, ResfitError, UsageError
from resfit.verbs.arguments import check_counts

COMPARISON = "comparison.html"
FIT = "fit.json"
MOST_RUNS = 6  # side by side; more columns would not fit a page
MOST_RIGHT = 12  # right answers with their pictures
MOST_SHARED = 12  # pictures that every compared run is asked about


def report(
    runs: Annotated[list[str], "run folder; several are set side by side"],
    *,
    data: Annotated[str | None, "where the images are now (default: where they were)"] = None,
    out: Annotated[str | None, "file to write (default: RUN/report.html, or comparison.html for several)"] = None,
    threads: Annotated[int | None, "processor threads (default: all usable cores)"] = None,
) -> dict[str, Any]:
    """Make a run's report.html again, or one page that compares several runs.

    Everything comes from the run folder; pictures need the images too, and are left out where those are gone
    or have changed. A run without a measured accuracy is evaluated on its test images first.
    """
    check_counts(threads=threads)
    folders = [Path(run) for run in ([runs] if isinstance(runs, str) else runs)]
    if len(folders) > MOST_RUNS:
        raise UsageError(f"{len(folders)} runs, expected at most {MOST_RUNS} side by side")
    from resfit.storage import keep_earlier

    if out is not None or len(folders) > 1:
        keep_earlier(out or COMPARISON)
    if len(folders) == 1:
        path, notes = _single(folders[0], data, out, threads)
    else:
        path, notes = _several(folders, data, out or COMPARISON)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return {"report": str(path), "runs": [str(folder) for folder in folders], "notes": list(notes)}


def render(result: dict[str, Any]) -> str:
    """Where the page is."""
    return f"report    {result['report']}"


def write(
    folder: str | Path, model: Any, splits: Any, outcome: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> Path:
    """Record what a training measured in its folder, and write its report.html.

    outcome: what train returns; evaluation: of the model on the test images, from `inference.predict.evaluation`.
    """
    from resfit.measure.machine import machine
    from resfit.reporting.run_record import AUDIT, EVALUATION, RESULT, read_run, write_record

    result = {name: value for name, value in outcome.items() if name not in evaluation and name != "recipe"}
    write_record(folder, RESULT, {**result, "machine": machine()})
    write_record(folder, EVALUATION, evaluation)
    write_record(folder, AUDIT, splits.audit)
    return _compose(read_run(folder), model, splits.test)


def _compose(record: Any, model: Any, test: Any, *, notes: tuple[str, ...] = (), path: str | None = None) -> Path:
    """The page of a run whose model and test images are at hand, or None where they are not."""
    from resfit.reporting.answers import answers_of
    from resfit.reporting.run_report import write_run_report

    shown: dict[str, Any] = {}
    if record.evaluation is not None and model is not None and test is not None:
        from resfit.inference.activation_maps import activation_maps

        look = functools.partial(activation_maps, model)
        shown["mistakes"] = answers_of(record.evaluation["mistakes"], test, look)
        hits = record.evaluation["hits"]
        shown["right"] = answers_of(hits[:: -(-len(hits) // MOST_RIGHT) or 1], test, look)
    return write_run_report(record, **shown, notes=notes, path=path)


def _single(folder: Path, data: str | None, out: str | None, threads: int | None) -> tuple[Path, tuple[str, ...]]:
    from resfit.reporting.run_record import EVALUATION, read_run, write_record

    record = read_run(folder)
    model = _model(record)
    test, notes = (None, ()) if model is None else _test_images(record, model, data)
    if (folder / FIT).is_file():
        return _fit_again(folder, model, test, notes, out, threads), ()
    if record.evaluation is None and model is not None and test is not None:
        write_record(folder, EVALUATION, _evaluated(model, test, threads))
        record = read_run(folder)
    return _compose(record, model, test, notes=notes, path=out), notes


def _model(record: Any) -> Any:
    """The finished model of a run, None before there is one."""
    from resfit.model.run_folder import load_run

    return None if record.config is None else load_run(record.folder)


def _test_images(record: Any, model: Any, data: str | None) -> tuple[Any, tuple[str, ...]]:
    """The images a run was tested on, or None with a sentence on why; an error where the user says where they are."""
    from resfit.data.labels import match_labels
    from resfit.data.sources import open_data
    from resfit.verbs.request import path_of

    place = data or path_of(record.request, record.data)
    opening = record.request.get("opening") or {}
    kept = {name: opening[name] for name in ("split_seed", "max_unreadable") if name in opening}
    try:
        images = open_data(place, preprocessing=model.preprocessing, roles=("test",), **kept).role("test")
        matched = match_labels(images, model.labels, num_classes=len(model.labels))
        expected = record.roles.get("test", {}).get("fingerprint", images.fingerprint)
        if images.fingerprint != expected:
            raise DataError(f"the test images of {record.data} are not those of the training any more")
    except ResfitError as error:
        if data is not None:
            raise
        return None, (f"Without pictures: {error.message}.",)
    return matched, ()


def _evaluated(model: Any, test: Any, threads: int | None) -> dict[str, Any]:
    from resfit.inference.opening import session_of
    from resfit.inference.predict import evaluation

    with session_of(model, threads=threads) as session:
        return evaluation(session, test, batch_size=128)


def _fit_again(
    folder: Path, model: Any, test: Any, notes: tuple[str, ...], out: str | None, threads: int | None
) -> Path:
    """The page of a fit, whose proven file answers the test images again."""
    import json

    from resfit.engines.artifact import open_session
    from resfit.inference.activation_maps import activation_maps
    from resfit.inference.opening import artifact_of
    from resfit.inference.predict import evaluate_session
    from resfit.reporting.fit_report import write_fit_report
    from resfit.reporting.network_drawing import layout_of

    if test is None:
        raise DataError(f"the report of the fit {folder} needs its images. {' '.join(notes)}", hint="say where: --data")
    artifact = artifact_of(str(folder))
    assert artifact is not None
    session = open_session(artifact, threads=threads)
    logits, _ = evaluate_session(session, test, batch_size=128)
    result = json.loads((folder / FIT).read_text(encoding="utf-8"))
    look = functools.partial(activation_maps, model)
    return write_fit_report(folder, result, logits, test, network=layout_of(model), look=look, path=out)


def _several(folders: list[Path], data: str | None, out: str) -> tuple[Path, tuple[str, ...]]:
    from resfit.reporting.comparison_report import write_comparison
    from resfit.reporting.run_record import read_run

    records = [read_run(folder) for folder in folders]
    shared, notes = _shared_pictures(records, data)
    return write_comparison(out, records, shared=shared, notes=notes), notes


def _shared_pictures(records: list[Any], data: str | None) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Images that some run was surest and wrong about, with what every run says of them."""
    import numpy as np

    from resfit.inference.activation_maps import activation_maps
    from resfit.reporting.answers import answers_of

    models = [_model(record) for record in records]
    if any(record.evaluation is None for record in records) or len({model.labels for model in models}) > 1:
        return (), ()
    opened = [_test_images(record, model, data) for record, model in zip(records, models, strict=True)]
    notes = tuple(dict.fromkeys(note for _, found in opened for note in found))
    tests = [test for test, _ in opened]
    if any(test is None for test in tests) or len({test.names for test in tests}) > 1:
        return (), notes
    chosen = _surest(records)
    columns = []
    for model, test in zip(models, tests, strict=True):
        rows = _rows(model, test, np.array(chosen, dtype=np.int64))
        columns.append(answers_of(rows, test, functools.partial(activation_maps, model)))
    return tuple(zip(*columns, strict=True)), notes


def _surest(records: list[Any]) -> list[int]:
    """Places of each run's worst mistakes in turn, without repetition."""
    lists = [[row["index"] for row in record.evaluation["mistakes"]] for record in records]
    longest = max(map(len, lists), default=0)
    turns = [places[turn] for turn in range(longest) for places in lists if turn < len(places)]
    return list(dict.fromkeys(turns))[:MOST_SHARED]


def _rows(model: Any, test: Any, places: Any) -> list[dict[str, Any]]:
    """What a model says of some images, as rows of an evaluation."""
    from resfit.engines.torch import model_session
    from resfit.metrics.classification import softmax

    if not len(places):
        return []
    probabilities = softmax(model_session(model).run(test.images[places]))
    return [
        {
            "index": int(place),
            "label": test.labels[int(test.targets[place])],
            "predicted": test.labels[int(row.argmax())],
            "probability": float(row.max()),
        }
        for place, row in zip(places, probabilities, strict=True)
    ]
