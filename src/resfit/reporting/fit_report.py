"""report.html of a fit, from its result and the logits of the proof."""

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from resfit.budget import Verdict
from resfit.data.dataset import ArrayDataset
from resfit.metrics.classification import Tally
from resfit.reporting.answers import Look, answers_of
from resfit.reporting.content import Candidate, Epoch, NetworkLayout, ProvenAccuracy, ReportContent, Rung
from resfit.reporting.report import REPORT_NAME, write_report
from resfit.reporting.run_record import calibration_of, classes_of
from resfit.reporting.wording import exact, in_use, percent, quantity, size

MOST_RIGHT = 12
CURVES = ("epoch", "loss", "validation_accuracy", "validation_loss", "lr", "images_per_second")


def write_fit_report(
    folder: str | Path,
    result: Mapping[str, Any],
    logits: np.ndarray,
    test: ArrayDataset,
    *,
    network: NetworkLayout | None = None,
    look: Look | None = None,
    path: str | Path | None = None,
) -> Path:
    """Write FOLDER/report.html, or `path`; from what fit returns and the proven file's logits (N, classes).

    network: the winner, to be drawn; look: where it looks, for the pictures.
    """
    tally = Tally(len(test.labels))
    tally.add(logits, test.targets)
    scores = tally.summary(test.labels)
    verdicts = tuple(Verdict(**row) for row in result["budgets"])
    limits = {verdict.name: verdict.limit for verdict in verdicts}
    holds = all(verdict.holds for verdict in verdicts)
    content = ReportContent(
        title=f"{result['model']} for {Path(result['data']).name}",
        headline=_headline(result, holds),
        holds=holds if verdicts else None,
        command=_command(result),
        budgets=verdicts,
        nearest=tuple(result["nearest"]),
        facts=_facts(result),
        notes=_notes(result),
        created=datetime.now(UTC).date().isoformat(),
        test=_proven(result, tally, test),
        candidates=_candidates(result),
        rungs=_rungs(result),
        latency_limit_ms=limits.get("latency_ms"),
        file_limit_bytes=limits["file_kb"] * 1000 if "file_kb" in limits else None,
        min_accuracy=limits.get("min_accuracy"),
        curve=tuple(
            Epoch(**{name: row[name] for name in CURVES if name in row}) for row in result["history"]
        ),
        classes=classes_of(scores),
        calibration=calibration_of(scores),
        mistakes=answers_of([_named(row, test) for row in tally.mistakes()], test, look),
        right=answers_of([_named(row, test) for row in tally.hits()[:MOST_RIGHT]], test, look),
        network=network,
        provenance=_provenance(result),
    )  # fmt: skip
    place = Path(folder) / REPORT_NAME if path is None else Path(path)
    return write_report(place.parent, content, name=place.name)


def _proven(result: Mapping[str, Any], tally: Tally, test: ArrayDataset) -> ProvenAccuracy:
    low, high = result["accuracy_interval"]
    return ProvenAccuracy(
        accuracy=result["accuracy"], low=low, high=high, num_images=len(test), labels=test.labels,
        confusion=tally.confusion, source=result["roles"]["test"]["source"],
    )  # fmt: skip


def _named(row: Mapping[str, Any], test: ArrayDataset) -> dict[str, Any]:
    """A row of a tally with the classes' names."""
    return {**row, "label": test.labels[row["target"]], "predicted": test.labels[row["predicted"]]}


def _headline(result: Mapping[str, Any], holds: bool) -> str:
    found = f"{percent(result['accuracy'])} right on {result['num_images']:,} images that served no choice"
    if not result["budgets"]:
        return found
    return f"Every budget holds, with {found}." if holds else f"Over budget: {', '.join(result['binding'])}. {found}."


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    measured, artifact = result["measured"], result["artifact"]
    facts = {f"accuracy on {result['num_images']:,} test images": percent(result["accuracy"])}
    if "latency_ms" in measured:
        facts[f"latency, {result['threads']} threads"] = quantity("latency_ms", measured["latency_ms"])
    facts[f"artifact, {artifact['precision']}"] = size(artifact["file_bytes"])
    if "memory_bytes" in measured:
        facts["memory to run it"] = size(measured["memory_bytes"])
    if measured.get("macs"):
        facts["multiply-accumulates"] = quantity("macs_m", measured["macs"] / 1e6)
    return facts


def _command(result: Mapping[str, Any]) -> str:
    """The command line that asks for this fit again, defaults written out."""
    words = ["resfit", "fit", shlex.quote(result["data"])]
    limits = {row["name"]: row["limit"] for row in result["budgets"]}
    for name in (*limits, "img_size", "time_minutes", "max_drop", "seed", "threads"):
        value = limits.get(name, result.get(name))
        if value is not None:
            words.append(f"--{name.replace('_', '-')} {value:.12g}")
    return " ".join(words)


def _notes(result: Mapping[str, Any]) -> tuple[str, ...]:
    """What int8 cost, where it was tried; both accuracies are on the validation images."""
    drop = result["int8_drop"]
    if drop is None:
        return ()
    if result["artifact"]["precision"] == "int8":
        return (f"Stored as int8, which costs {drop:.2f} points of accuracy on the validation images.",)
    limit = f"--max-drop {result['max_drop']:g}"
    return (f"Kept as float32: int8 would cost {drop:.2f} points on the validation images, over {limit}.",)


def _candidates(result: Mapping[str, Any]) -> tuple[Candidate, ...]:
    """One a network: at the precision that fits, else the one with a time, else float32."""
    entrants = {row["network"]: row for row in result["race"]["entrants"]}
    best: dict[str, Mapping[str, Any]] = {}
    for row in result["candidates"]:
        held = best.get(row["network"])
        if held is None or (row["fits"], row["latency_ms"] is not None) > (
            held["fits"],
            held["latency_ms"] is not None,
        ):
            best[row["network"]] = row
    return tuple(_candidate(row, entrants.get(name), name == result["model"]) for name, row in best.items())


def _candidate(row: Mapping[str, Any], entrant: Mapping[str, Any] | None, won: bool) -> Candidate:
    accuracies = tuple(entrant["accuracies"]) if entrant else ()
    reason = row["reason"]
    if won:
        outcome = "won"
    elif entrant and entrant["failed"]:
        outcome, reason = "failed", entrant["failed"][-1]
    elif entrant:
        outcome = "raced"
    else:
        outcome, reason = "dropped", reason or "not raced: the time allowed fewer networks"
    return Candidate(
        name=row["network"],
        outcome=outcome,  # type: ignore[arg-type]
        reason=reason,
        latency_ms=row["latency_ms"],
        file_bytes=None if row["file_kb"] is None else round(row["file_kb"] * 1000),
        macs=None if row["macs_m"] is None else round(row["macs_m"] * 1e6),
        accuracies=accuracies,
    )


def _rungs(result: Mapping[str, Any]) -> tuple[Rung, ...]:
    rungs = []
    for number, rung in enumerate(result["race"]["rungs"]):
        epochs = [row["epochs"][number] for row in result["race"]["entrants"] if len(row["epochs"]) > number]
        rungs.append(
            Rung(
                entered=rung["entered"], kept=rung["kept"], seconds=rung["seconds"],
                epochs=float(np.median(epochs)) if epochs else 0.0,
            )
        )  # fmt: skip
    return tuple(rungs)


def _provenance(result: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    artifact = result["artifact"]
    return {
        "Data": {
            **{role: f"{row['num_images']:,} images: {row['source']}" for role, row in result["roles"].items()},
            "fingerprint": result["fingerprint"],
        },
        "Artifact": {"file": Path(artifact["path"]).name, "sha256": artifact["sha256"], **result["basis"]},
        "Training": in_use(result["recipe"]),
        "Machine": {**exact(result["machine"]), "engine": result["engine"], "threads": result["threads"]},
    }
