"""What a run folder says of its training, read without torch.

    metrics.csv      a row an epoch                  recipe.json      what was trained by
    request.json     what was asked for              config.json      the finished model; absent until then
    evaluation.json  its answers to the test images  audit.json       what reading the data found
    result.json      what the training measured      (the last three: written where a report is first made)

Only recipe.json must be there: a report is made of what there is.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resfit.errors import DataError, ResfitError, UsageError
from resfit.nn.spec import ResNetSpec
from resfit.reporting.content import (
    Calibration,
    ClassScore,
    ConfidenceBin,
    DataAudit,
    Epoch,
    NetworkLayout,
    ProvenAccuracy,
)
from resfit.storage import write_atomic

EVALUATION, AUDIT, RESULT = "evaluation.json", "audit.json", "result.json"
LIMIT_BYTES = 256_000_000  # of a file that is read: a confusion matrix of 5,000 classes has 60 MB


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The files of a run folder, parsed; an absent one is None, or empty.

    rows: of metrics.csv, numbers where they are numbers; config: of the finished model.
    """

    folder: Path
    recipe: Mapping[str, Any]
    request: Mapping[str, Any]
    rows: tuple[Mapping[str, float | str], ...]
    config: Mapping[str, Any] | None
    evaluation: Mapping[str, Any] | None
    audit: Mapping[str, Any] | None
    result: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The network's name as the user gave it."""
        return str(self.request.get("model") or self.result.get("model") or "network")

    @property
    def data(self) -> str:
        """The data's path as the user gave it."""
        return str(self.request.get("data") or self.result.get("data") or "data")

    @property
    def spec(self) -> ResNetSpec | None:
        """The network, where the folder says which it is."""
        values = (self.config or self.request).get("spec")
        return None if values is None else ResNetSpec.from_dict(dict(values))

    @property
    def roles(self) -> Mapping[str, Mapping[str, Any]]:
        """The roles of the images that the model was made from: num_images, source, fingerprint."""
        data = ((self.config or {}).get("provenance") or {}).get("data") or {}
        return data.get("roles") or self.result.get("roles") or {}

    def last(self, column: str) -> float | None:
        """The last number of a column of metrics.csv."""
        values = [row[column] for row in self.rows if isinstance(row.get(column), float)]
        return float(values[-1]) if values else None


def read_run(folder: str | Path) -> RunRecord:
    """The record of a run folder; UsageError where it is none, DataError for a damaged file, by its name."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", hint="name the folder of a training, such as runs/photos-1")
    recipe = _read(folder / "recipe.json")
    if recipe is None:
        raise UsageError(f"{folder} holds no training: it has no recipe.json", hint="name a folder that train wrote")
    record = RunRecord(
        folder=folder,
        recipe=recipe,
        request=_read(folder / "request.json") or {},
        rows=_rows(folder / "metrics.csv"),
        config=_read(folder / "config.json"),
        evaluation=_read(folder / EVALUATION),
        audit=_read(folder / AUDIT),
        result=_read(folder / RESULT) or {},
    )
    _check(record)
    return record


def write_record(folder: str | Path, name: str, values: Mapping[str, Any]) -> None:
    """Write one of the JSON files of a run folder."""
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(Path(folder) / name, text.encode("utf-8") + b"\n")


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object, None where there is no such file."""
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise DataError(f"{path} is larger than resfit writes it")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is damaged: {error}", hint="remove it, and report writes the page without it"
        ) from error
    if not isinstance(values, dict):
        raise DataError(f"{path} holds {type(values).__name__}, expected one JSON object")
    return values


def _rows(path: Path) -> tuple[dict[str, float | str], ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return tuple(
        {str(name): _number(value) for name, value in row.items() if value} for row in csv.DictReader(io.StringIO(text))
    )


def _number(text: str | list[str]) -> float | str:
    try:
        return float(str(text))
    except ValueError:
        return str(text)


def curve_of(record: RunRecord) -> tuple[Epoch, ...]:
    """The training's curve; rows without an epoch or a loss are left out."""
    points = []
    for row in record.rows:
        values = {name: value for name, value in row.items() if isinstance(value, float) and math.isfinite(value)}
        if "epoch" in values and "loss" in values:
            names = ("validation_accuracy", "validation_loss", "lr", "images_per_second")
            optional = {name: values.get(name) for name in names}
            points.append(Epoch(epoch=values["epoch"], loss=values["loss"], **optional))
    return tuple(points)


def test_of(record: RunRecord) -> ProvenAccuracy | None:
    """The accuracy on the test images, where it was measured."""
    found = record.evaluation
    if found is None:
        return None
    low, high = found["accuracy_interval"]
    return ProvenAccuracy(
        accuracy=found["accuracy"], low=low, high=high, num_images=found["num_images"],
        labels=tuple(found["labels"]), confusion=found["confusion"],
        source=record.roles.get("test", {}).get("source", ""),
    )  # fmt: skip


def classes_of(evaluation: Mapping[str, Any]) -> tuple[ClassScore, ...]:
    """Scores by class of an evaluation."""
    return tuple(ClassScore(**row) for row in evaluation["per_class"])


def calibration_of(evaluation: Mapping[str, Any]) -> Calibration:
    """Calibration of an evaluation."""
    bins = tuple(ConfidenceBin(**row) for row in evaluation["reliability"])
    return Calibration(ece=evaluation["ece"], bins=bins)


def network_of(record: RunRecord) -> NetworkLayout | None:
    """The network at its input size; None before the size is known."""
    spec, config = record.spec, record.config
    if spec is None or config is None:
        return None
    size = config["preprocessing"]
    return NetworkLayout(spec=spec, height=size["height"], width=size["width"])


def audit_of(record: RunRecord) -> DataAudit | None:
    """What reading the data found, where it was recorded."""
    found = record.audit
    if found is None:
        return None
    return DataAudit(
        num_images=found["num_images"],
        class_counts=found.get("class_counts", {}),
        skipped=tuple((name, reason) for name, reason in found.get("skipped", ())),
        duplicates=found.get("duplicates", 0),
        leaks=found.get("leaks", 0),
    )


def _check(record: RunRecord) -> None:
    """DataError naming the file whose values cannot be what resfit wrote."""
    parts: dict[str, Callable[[], object]] = {
        EVALUATION: lambda: _evaluation_parts(record),
        AUDIT: lambda: audit_of(record),
        "config.json": lambda: (network_of(record), record.roles),
    }
    for name, part in parts.items():
        try:
            part()
        except (KeyError, TypeError, ValueError, AttributeError, ResfitError) as error:
            raise DataError(
                f"{record.folder / name} is not as resfit writes it: {error!r}",
                hint="remove it, and report writes the page without it",
            ) from error


def _evaluation_parts(record: RunRecord) -> tuple[object, ...]:
    """Everything that is read from an evaluation; KeyError, TypeError or ValueError where it cannot be."""
    found = record.evaluation
    if found is None:
        return ()
    for row in (*found["mistakes"], *found["hits"]):
        if not 0 <= row["index"] < found["num_images"] or not {row["label"], row["predicted"]} <= set(found["labels"]):
            raise ValueError(f"no image or no class as in {row}")
    return test_of(record), classes_of(found), calibration_of(found)
