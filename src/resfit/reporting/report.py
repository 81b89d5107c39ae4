"""report.html: one file that needs nothing else, readable on a telephone, in light and in dark."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resfit.budget import Verdict
from resfit.reporting import wording
from resfit.reporting.charts import candidates_picture, curve_picture, interval_picture
from resfit.reporting.content import Candidate, Mistake, ProvenAccuracy, ReportContent
from resfit.storage import write_atomic

REPORT_NAME = "report.html"
MOST_MATRIX_CLASSES = 30  # more would not fit a page; the commonest mix-ups are listed instead
MOST_MIX_UPS = 12
MISTAKE_EDGE = 96  # pixels; smaller images are enlarged without smoothing, larger ones made smaller


def write_report(folder: str | Path, content: ReportContent) -> Path:
    """Write FOLDER/report.html and return its path; the file refers to nothing outside itself."""
    path = Path(folder) / REPORT_NAME
    write_atomic(path, render_report(content).encode("utf-8"))
    return path


def render_report(content: ReportContent) -> str:
    """The page as text. Every value is escaped; a section without content is left out."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("resfit.reporting", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(REPORT_NAME).render(_page(content))


def _page(content: ReportContent) -> dict[str, Any]:
    test = content.test
    return {
        "content": content,
        "budgets": [_budget_row(verdict) for verdict in content.budgets],
        "nearest": _table(content.nearest),
        "accuracy": _accuracy(test) if test else None,
        "interval": interval_picture(test, content.min_accuracy) if test else None,
        "candidates": candidates_picture(
            content.candidates,
            latency_limit_ms=content.latency_limit_ms,
            file_limit_bytes=content.file_limit_bytes,
            min_accuracy=content.min_accuracy,
        ),
        "race": _race_rows(content.candidates, len(content.rungs)),
        "dropped": [_candidate_row(item) for item in content.candidates if not _raced(item)],
        "rungs": [_rung_words(content, index) for index in range(len(content.rungs))],
        "curve": curve_picture(content.curve),
        "confusion": _confusion(test) if test else None,
        "mix_ups": _mix_ups(test) if test else [],
        "mistakes": [_mistake(item) for item in content.mistakes],
        "provenance": {
            section: {name: wording.plain(value) for name, value in facts.items()}
            for section, facts in content.provenance.items()
            if facts
        },
    }


def _budget_row(verdict: Verdict) -> dict[str, Any]:
    """Words of one budget, and how much of an upper limit is used, for a bar."""
    used = None
    if verdict.measured is not None and verdict.name != "min_accuracy":
        used = 100 * verdict.measured / verdict.limit
    return {
        "flag": verdict.name,
        "name": wording.BUDGET_NAMES.get(verdict.name, verdict.name),
        "limit": wording.quantity(verdict.name, verdict.limit),
        "measured": wording.quantity(verdict.name, verdict.measured),
        "holds": verdict.holds,
        "basis": verdict.basis,
        "used": used,
    }


def _table(rows: tuple[Mapping[str, object], ...]) -> dict[str, Any] | None:
    """A table of mappings: every key with a value in some row is a column, in order of appearance."""
    if not rows:
        return None
    columns = list(dict.fromkeys(name for row in rows for name in row if row[name] is not None))
    return {
        "columns": [name.replace("_", " ") for name in columns],
        "rows": [[_cell(name, row.get(name)) for name in columns] for row in rows],
    }


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    return wording.percent(value) if name == "accuracy" and isinstance(value, float) else wording.plain(value)


def _accuracy(test: ProvenAccuracy) -> dict[str, str]:
    return {
        "value": wording.percent(test.accuracy),
        "low": wording.percent(test.low),
        "high": wording.percent(test.high),
        "num_images": f"{test.num_images:,}",
    }


def _candidate_row(item: Candidate) -> dict[str, Any]:
    return {
        "name": item.name,
        "outcome": item.outcome,
        "reason": item.reason,
        "latency": "" if item.latency_ms is None else wording.number(item.latency_ms),
        "size": "" if item.file_bytes is None else wording.number(item.file_bytes / 1000),
        "macs": "" if item.macs is None else wording.number(item.macs / 1e6),
    }


def _raced(item: Candidate) -> bool:
    """Whether a network belongs in the table of the race, as does a winner that had no rival."""
    return bool(item.accuracies) or item.outcome == "won"


def _race_rows(candidates: tuple[Candidate, ...], rungs: int) -> list[dict[str, Any]]:
    """Networks that raced, the winner first, then those that came furthest; "" where one ran no longer."""
    raced = [item for item in candidates if _raced(item)]
    raced.sort(
        key=lambda item: (
            item.outcome != "won",
            -len(item.accuracies),
            -max(item.accuracies[-1:], default=0.0),
        )
    )
    rungs = max([rungs, *(len(item.accuracies) for item in raced)])
    rows = []
    for item in raced:
        words = [wording.percent(value) for value in item.accuracies]
        rows.append({**_candidate_row(item), "accuracies": words + [""] * (rungs - len(words))})
    return rows


def _rung_words(content: ReportContent, index: int) -> str:
    rung = content.rungs[index]
    epochs = f"{wording.number(rung.epochs)} epoch{'' if rung.epochs == 1 else 's'}"
    return f"{rung.entered} in, {epochs}, {rung.seconds:.0f} s, {rung.kept} kept"


def _confusion(test: ProvenAccuracy) -> dict[str, Any] | None:
    """The matrix with a shade a cell: its share of the true class's images, 0 to 100."""
    if test.confusion is None or not 1 < len(test.labels) <= MOST_MATRIX_CLASSES:
        return None
    matrix = np.asarray(test.confusion)
    totals = matrix.sum(axis=1)
    rows = []
    for index, label in enumerate(test.labels):
        shares = matrix[index] / max(int(totals[index]), 1)
        cells = [
            {
                "count": int(matrix[index, other]),
                "shade": round(100 * float(shares[other])),
                "right": index == other,
            }
            for other in range(len(test.labels))
        ]
        recall = wording.percent(float(shares[index])) if totals[index] else ""
        rows.append({"label": label, "cells": cells, "total": int(totals[index]), "recall": recall})
    return {"labels": test.labels, "rows": rows}


def _mix_ups(test: ProvenAccuracy) -> list[dict[str, Any]]:
    """The commonest mistakes, true class -> predicted class, most frequent first."""
    if test.confusion is None or not test.labels:
        return []
    matrix = np.array(test.confusion)
    totals = matrix.sum(axis=1)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:MOST_MIX_UPS]
    found = []
    for index in order:
        label, predicted = divmod(int(index), matrix.shape[1])
        count = int(matrix[label, predicted])
        if count:
            share = wording.percent(count / int(totals[label]))
            names = {"label": test.labels[label], "predicted": test.labels[predicted]}
            found.append({**names, "count": count, "share": share})
    return found


def _mistake(item: Mistake) -> dict[str, str]:
    return {
        "image": _data_uri(item.pixels),
        "name": item.name,
        "label": item.label,
        "predicted": item.predicted,
        "probability": wording.percent(item.probability),
    }


def _data_uri(pixels: np.ndarray) -> str:
    """A PNG of height x width x (1 or 3) uint8 pixels, brought to about MISTAKE_EDGE on its longer side."""
    from PIL import Image

    pixels = np.asarray(pixels)
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if max(image.size) > MISTAKE_EDGE:
        image.thumbnail((MISTAKE_EDGE, MISTAKE_EDGE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
