"""report.html of a training run, from what its folder holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resfit.measure.macs import macs, parameters
from resfit.reporting import run_record
from resfit.reporting.content import Answer, ReportContent
from resfit.reporting.report import REPORT_NAME, write_report
from resfit.reporting.run_record import RunRecord
from resfit.reporting.wording import duration, exact, in_use, number, percent, quantity, size


def write_run_report(
    record: RunRecord,
    *,
    mistakes: tuple[Answer, ...] = (),
    right: tuple[Answer, ...] = (),
    notes: tuple[str, ...] = (),
    path: str | Path | None = None,
) -> Path:
    """Write the report of a run, by default to report.html in its folder, and return its path.

    mistakes, right: answers to test images with their pictures; notes: what the reader must know besides.
    """
    place = record.folder / REPORT_NAME if path is None else Path(path)
    content = run_content(record, mistakes=mistakes, right=right, notes=notes)
    return write_report(place.parent, content, name=place.name)


def run_content(
    record: RunRecord,
    *,
    mistakes: tuple[Answer, ...] = (),
    right: tuple[Answer, ...] = (),
    notes: tuple[str, ...] = (),
) -> ReportContent:
    """Everything a run folder says, as the content of a page."""
    evaluation = record.evaluation
    return ReportContent(
        title=f"{record.model} on {Path(record.data).name}",
        headline=headline(record),
        command=str(record.request.get("command") or ""),
        created=str(_provenance_of(record).get("created", ""))[:10],
        notes=(*_provenance_of(record).get("notes", ()), *notes),
        facts=run_facts(record),
        test=run_record.test_of(record),
        curve=run_record.curve_of(record),
        classes=run_record.classes_of(evaluation) if evaluation else (),
        calibration=run_record.calibration_of(evaluation) if evaluation else None,
        mistakes=mistakes,
        right=right,
        network=run_record.network_of(record),
        audit=run_record.audit_of(record),
        provenance=run_provenance(record),
    )


def headline(record: RunRecord) -> str:
    """The verdict in one sentence."""
    if record.evaluation is not None:
        found = record.evaluation
        return f"{percent(found['accuracy'])} right on {found['num_images']:,} test images that served no choice."
    if record.config is None:
        epochs = record.last("epoch")
        return f"Not finished: stopped {'before its first epoch ended' if epochs is None else f'in epoch {epochs:g}'}."
    return "Its test images were not looked at again: there is no accuracy on record."


def run_facts(record: RunRecord) -> dict[str, str]:
    """The numbers to show large, by caption; those that are not known are left out."""
    facts: dict[str, str] = {}
    found, result = record.evaluation, record.result
    if found is not None:
        facts["test accuracy"] = percent(found["accuracy"])
        if len(found["labels"]) > 5:
            facts["true class among the first five"] = percent(found["top5_accuracy"])
        facts["test loss, nats"] = number(found["loss"])
        facts["calibration error, points"] = number(100 * found["ece"])
    elif (validation := record.last("validation_accuracy")) is not None:
        facts["validation accuracy, last"] = percent(validation)
    network = run_record.network_of(record)
    if network is not None:
        facts["weights"] = f"{parameters(network.spec):,}"
        facts["multiply-accumulates"] = quantity("macs_m", macs(network.spec, network.height, network.width) / 1e6)
    if (epochs := result.get("epochs", record.last("epoch"))) is not None:
        facts["epochs"] = number(epochs)
    if (seconds := result.get("elapsed_seconds", record.last("elapsed"))) is not None:
        facts["training time"] = duration(seconds)
    if (speed := result.get("images_per_second", record.last("images_per_second"))) is not None:
        precision = record.recipe.get("precision")
        facts[f"images a second{f', {precision}' if precision else ''}"] = number(speed)
    if peak := result.get("peak_memory_bytes"):
        facts["peak memory"] = size(peak)
    return facts


def _provenance_of(record: RunRecord) -> Mapping[str, Any]:
    return (record.config or {}).get("provenance") or {}


def run_provenance(record: RunRecord) -> dict[str, dict[str, object]]:
    """Where a run comes from: sections of facts by name."""
    result, origin = record.result, _provenance_of(record)
    data = origin.get("data") or {}
    return {
        "Data": {
            "path": record.data,
            **{role: f"{row['num_images']:,} images: {row['source']}" for role, row in record.roles.items()},
            **({"fingerprint": data["fingerprint"]} if "fingerprint" in data else {}),
            **_input(record),
        },
        "Training": in_use(record.recipe),
        "Model": {
            name: value
            for name, value in {
                "weights sha256": result.get("weights_sha256"),
                **{f"{name} sha256": digest for name, digest in ((record.config or {}).get("files") or {}).items()},
                "made": origin.get("created"),
                "resfit": origin.get("resfit_version"),
            }.items()
            if value
        },
        "Machine": exact(result.get("machine") or {}),
    }


def recipe_facts(record: RunRecord) -> dict[str, object]:
    """The recipe by name; what it does not set is left out."""
    return exact({name: value for name, value in record.recipe.items() if value is not None})


def _input(record: RunRecord) -> dict[str, object]:
    if record.config is None:
        return {}
    values = record.config["preprocessing"]
    shape = f"{values['height']} x {values['width']} pixels, {values['channels']} channel(s)"
    return {"input": shape, **exact({name: values[name] for name in ("mean", "std")})}
