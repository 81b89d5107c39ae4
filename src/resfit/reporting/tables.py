"""The tables of a report as words: budgets, race, confusion, classes, data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resfit.budget import Verdict
from resfit.reporting import wording
from resfit.reporting.content import Candidate, ClassScore, DataAudit, ProvenAccuracy, Rung

MOST_MATRIX_CLASSES = 30  # more would not fit a page; the commonest mix-ups are listed instead
MOST_MIX_UPS = 12
MOST_CLASSES = 24  # rows of a table of classes that are shown at once; the rest unfolds
MOST_SKIPPED = 20
LONG_LABEL = 3  # letters; longer names head a matrix's columns upright, so that the columns stay narrow


def budget_row(verdict: Verdict) -> dict[str, Any]:
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


def table(rows: Sequence[Mapping[str, object]]) -> dict[str, Any] | None:
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


def accuracy_words(test: ProvenAccuracy) -> dict[str, str]:
    """The proven accuracy, the ends of its interval and the number of images."""
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


def race_rows(candidates: Sequence[Candidate], rungs: int) -> list[dict[str, Any]]:
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


def dropped_rows(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Networks that never raced."""
    return [_candidate_row(item) for item in candidates if not _raced(item)]


def rung_words(rung: Rung) -> str:
    """One round of the race in a phrase."""
    epochs = f"{wording.number(rung.epochs)} epoch{'' if rung.epochs == 1 else 's'}"
    return f"{rung.entered} in, {epochs}, {rung.seconds:.0f} s, {rung.kept} kept"


def confusion_table(test: ProvenAccuracy) -> dict[str, Any] | None:
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
    return {"labels": test.labels, "rows": rows, "tall": max(map(len, test.labels)) > LONG_LABEL}


def mix_ups(test: ProvenAccuracy) -> list[dict[str, Any]]:
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


def class_rows(classes: Sequence[ClassScore]) -> dict[str, Any] | None:
    """A row a class in words, the weakest first where there are too many to show at once."""
    if not classes:
        return None
    many = len(classes) > MOST_CLASSES
    ordered = sorted(classes, key=lambda item: 2.0 if item.f1 is None else item.f1) if many else classes
    rows = [
        {
            "label": item.label,
            "num_images": f"{item.num_images:,}",
            **{name: _share(getattr(item, name)) for name in ("precision", "recall", "f1")},
            "bar": None if item.f1 is None else round(100 * item.f1, 1),
        }
        for item in ordered
    ]
    return {"shown": rows[:MOST_CLASSES], "folded": rows[MOST_CLASSES:], "weakest_first": many}


def _share(fraction: float | None) -> str:
    return "none" if fraction is None else wording.percent(fraction)


def audit_table(audit: DataAudit) -> dict[str, Any]:
    """What reading the data found, in words, and its classes with bars as long as their share of the largest."""
    roles = [role for role, count in audit.num_images.items() if count]
    labels = list(dict.fromkeys(label for role in roles for label in audit.class_counts.get(role, {})))
    if len(labels) > MOST_CLASSES:
        first = roles[0]
        labels.sort(key=lambda label: audit.class_counts.get(first, {}).get(label, 0))
    counts = {label: [audit.class_counts.get(role, {}).get(label, 0) for role in roles] for label in labels}
    largest = max([row[0] for row in counts.values()], default=0) or 1
    rows = [
        {"label": label, "counts": [f"{count:,}" for count in row], "bar": round(100 * row[0] / largest, 1)}
        for label, row in counts.items()
    ]
    return {
        "roles": roles,
        "totals": [f"{audit.num_images[role]:,}" for role in roles],
        "shown": rows[:MOST_CLASSES],
        "folded": rows[MOST_CLASSES:],
        "findings": _findings(audit),
        "skipped": [{"name": name, "reason": reason} for name, reason in audit.skipped[:MOST_SKIPPED]],
        "skipped_more": max(len(audit.skipped) - MOST_SKIPPED, 0),
    }


def _findings(audit: DataAudit) -> list[dict[str, Any]]:
    """Sentences with whether each is a clean bill."""
    skipped, duplicates, leaks = len(audit.skipped), audit.duplicates, audit.leaks
    unread = f"{_counted(skipped, 'file')} could not be read and {'was' if skipped == 1 else 'were'} left out"
    shared = (
        f"{_counted(leaks, 'image')} in more than one of the roles: "
        f"a score on {'it' if leaks == 1 else 'them'} proves nothing"
    )
    equal = f"{_counted(duplicates, 'group')} of images with equal content"
    return [
        {"clean": not skipped, "words": unread if skipped else "every file could be read"},
        {"clean": not duplicates, "words": equal if duplicates else "no two files have equal content"},
        {"clean": not leaks, "words": shared if leaks else "no file is in two roles"},
        *_imbalance(audit),
    ]


def _imbalance(audit: DataAudit) -> list[dict[str, Any]]:
    counts = next(iter(audit.class_counts.values()), {})
    if len(counts) < 2 or not min(counts.values()):
        return []
    least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    ratio = counts[most] / counts[least]
    words = f"the largest class, {most}, has {ratio:.3g} times the training images of the smallest, {least}"
    return [{"clean": ratio < 3, "words": words}]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
