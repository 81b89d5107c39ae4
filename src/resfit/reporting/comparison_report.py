"""Several trainings side by side, from what their folders hold."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resfit.measure.macs import macs, parameters
from resfit.reporting import run_record
from resfit.reporting.content import Answer
from resfit.reporting.curves import comparison_picture
from resfit.reporting.network_drawing import network_picture
from resfit.reporting.reliability import reliability_picture
from resfit.reporting.report import answers, rendered, worded
from resfit.reporting.run_record import RunRecord
from resfit.reporting.run_report import recipe_facts, run_provenance
from resfit.reporting.wording import duration, number, percent, plain, size
from resfit.storage import write_atomic

MOST_CLASSES = 24
OFF = ("", "0", "no")  # as good as an entry that an older recipe does not have
STANDARD_95 = 1.96  # of the normal distribution: two-sided 95 %

# Rows of the table of results: caption, what it reads, how it is worded, and which end is better
Reader = Callable[[RunRecord], float | None]
_ROWS: tuple[tuple[str, Reader, Callable[[float], str], int], ...] = (
    ("test accuracy", lambda run: _scored(run, "accuracy"), percent, 1),
    ("balanced accuracy", lambda run: _scored(run, "balanced_accuracy"), percent, 1),
    ("true class among the first five", lambda run: _top_five(run), percent, 1),
    ("test loss, nats", lambda run: _scored(run, "loss"), number, -1),
    ("calibration error", lambda run: _scored(run, "ece"), percent, -1),
    ("validation accuracy, last", lambda run: run.last("validation_accuracy"), percent, 1),
    ("weights", lambda run: _cost(run, "weights"), number, 0),
    ("multiply-accumulates, M", lambda run: _cost(run, "macs"), number, 0),
    ("epochs", lambda run: run.result.get("epochs", run.last("epoch")), number, 0),
    ("training time", lambda run: run.result.get("elapsed_seconds", run.last("elapsed")), duration, 0),
    ("images a second", lambda run: run.result.get("images_per_second", run.last("images_per_second")), number, 0),
    ("peak memory", lambda run: run.result.get("peak_memory_bytes"), size, 0),
)


def write_comparison(
    path: str | Path,
    records: Sequence[RunRecord],
    *,
    shared: Sequence[Sequence[Answer]] = (),
    notes: tuple[str, ...] = (),
) -> Path:
    """Write a page that compares runs and return its path.

    shared: test images, each with the answer of every run in their order; notes: what the reader must know.
    """
    place = Path(path)
    write_atomic(place, render_comparison(records, shared=shared, notes=notes).encode("utf-8"))
    return place


def render_comparison(
    runs: Sequence[RunRecord], *, shared: Sequence[Sequence[Answer]] = (), notes: tuple[str, ...] = ()
) -> str:
    """The page as text."""
    names = run_names(runs)
    layouts = [run_record.network_of(run) for run in runs]
    alike = len(set(layouts)) == 1
    columns = [
        {
            "name": name,
            "title": f"{run.model} on {Path(run.data).name}",
            "reliability": reliability_picture(run_record.calibration_of(run.evaluation)) if run.evaluation else None,
            "network": network_picture(layout) if layout else None,
            "command": str(run.request.get("command") or ""),
            "provenance": worded(run_provenance(run)),
        }
        for name, run, layout in zip(names, runs, layouts, strict=True)
    ]
    values = {
        "title": " against ".join(names) if len(names) == 2 else f"{len(names)} runs compared",
        "headline": _headline(names, runs),
        "notes": (*_warnings(names, runs), *notes),
        "runs": columns,
        "results": _results(runs),
        "curve": comparison_picture({name: run_record.curve_of(run) for name, run in zip(names, runs, strict=True)}),
        "classes": _classes(runs),
        "same_network": alike,
        "shared": [_shared(row) for row in shared],
        "recipe": _differences([recipe_facts(run) for run in runs]),
    }
    return rendered("comparison.html", values)


def run_names(runs: Sequence[RunRecord]) -> list[str]:
    """A name a run: its folder's, with as many parents as it takes to tell them apart."""
    paths = [run.folder.resolve() for run in runs]
    for length in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            break
    repeated = {name for name in names if names.count(name) > 1}  # the same folder twice
    return [f"{name} ({index + 1})" if name in repeated else name for index, name in enumerate(names)]


def _scored(run: RunRecord, name: str) -> float | None:
    return None if run.evaluation is None else run.evaluation[name]


def _top_five(run: RunRecord) -> float | None:
    """None where five answers are all there are."""
    return None if run.evaluation is None or len(run.evaluation["labels"]) <= 5 else run.evaluation["top5_accuracy"]


def _cost(run: RunRecord, name: str) -> float | None:
    layout = run_record.network_of(run)
    if layout is None:
        return None
    return parameters(layout.spec) if name == "weights" else macs(layout.spec, layout.height, layout.width) / 1e6


def _results(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Rows with a cell a run; the best is marked where one end is better and they differ."""
    rows = []
    for caption, read, word, direction in _ROWS:
        values = [read(run) for run in runs]
        known = [value for value in values if value is not None]
        if not known:
            continue
        best = max(known, key=lambda value: direction * value) if direction and len(set(known)) > 1 else None
        more = [_interval_words(run) if caption == "test accuracy" else () for run in runs]
        cells = [
            {"words": "" if value is None else word(value), "more": words, "best": best is not None and value == best}
            for value, words in zip(values, more, strict=True)
        ]
        rows.append({"caption": caption, "cells": cells})
    return rows


def _interval_words(run: RunRecord) -> tuple[str, ...]:
    if run.evaluation is None:
        return ()
    low, high = run.evaluation["accuracy_interval"]
    return f"{percent(low)} to {percent(high)}", f"{run.evaluation['num_images']:,} images"


def _headline(names: Sequence[str], runs: Sequence[RunRecord]) -> str:
    """Which run is most often right, and whether chance could have made the difference to the next."""
    scored = [(name, run.evaluation) for name, run in zip(names, runs, strict=True) if run.evaluation is not None]
    if len(scored) < 2 or _tested_differently(runs):
        return ""
    ranked = sorted(scored, key=lambda item: -item[1]["accuracy"])
    (first, best), (second, next_best) = ranked[:2]
    gap = best["accuracy"] - next_best["accuracy"]
    if gap == 0:
        return f"{first} and {second} are right equally often: {percent(best['accuracy'])}."
    chance = _chance(best, next_best)
    found = f"{first} is right more often than {second}, by {number(100 * gap)} points"
    if gap > chance:
        return f"{found}, more than the {number(100 * chance)} that chance explains at 95 %."
    return f"{found}; differences up to {number(100 * chance)} points are within chance at 95 %."


def _chance(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """Half the 95 % interval of the difference of two fractions that are equal in truth, their images unpaired."""
    counts = first["num_images"], second["num_images"]
    right = sum(item["accuracy"] * item["num_images"] for item in (first, second)) / sum(counts)
    return STANDARD_95 * math.sqrt(right * (1 - right) * (1 / counts[0] + 1 / counts[1]))


def _tested_differently(runs: Sequence[RunRecord]) -> bool:
    return len({run.roles["test"].get("fingerprint") for run in runs if "test" in run.roles}) > 1


def _warnings(names: Sequence[str], runs: Sequence[RunRecord]) -> list[str]:
    """What makes the figures of these runs incomparable."""
    found = []
    if _tested_differently(runs):
        found.append(
            "The runs were tested on different images, or at different sizes: their scores cannot be compared."
        )
    machines = {run.result["machine"].get("fingerprint") for run in runs if run.result.get("machine")}
    if len(machines) > 1:
        found.append("The runs were made on different machines: times and speeds cannot be compared.")
    missing = [name for name, run in zip(names, runs, strict=True) if run.evaluation is None]
    if missing:
        found.append(f"No test accuracy is on record for {', '.join(missing)}; resfit report RUN measures it.")
    return found


def _classes(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """Recall by class and run, the classes that differ most first; None where the classes are not the same."""
    found = [run.evaluation for run in runs if run.evaluation is not None]
    if len(found) < len(runs) or len({tuple(item["labels"]) for item in found}) > 1:
        return None
    rows = []
    for index, label in enumerate(found[0]["labels"]):
        recalls = [item["per_class"][index]["recall"] for item in found]
        known = [value for value in recalls if value is not None]
        spread = max(known) - min(known) if known else 0.0
        cells = [
            {"words": "none" if value is None else percent(value), "best": bool(spread) and value == max(known)}
            for value in recalls
        ]
        rows.append({"label": label, "cells": cells, "spread": spread, "points": number(100 * spread)})
    rows.sort(key=lambda row: -row["spread"])
    return {"shown": rows[:MOST_CLASSES], "folded": rows[MOST_CLASSES:]}


def _shared(row: Sequence[Answer]) -> dict[str, Any]:
    """One image and the answers of all runs."""
    worded_answers = answers(row)
    first = {name: worded_answers[0][name] for name in ("image", "name", "short", "label")}
    return {**first, "answers": worded_answers}


def _differences(facts: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    """Entries in which the runs differ, a cell a run, and how many they share."""
    names = list(dict.fromkeys(name for item in facts for name in item))
    rows = [
        {"name": name, "cells": [plain(item[name]) if name in item else "none" for item in facts]} for name in names
    ]
    different = [row for row in rows if len({"none" if cell in OFF else cell for cell in row["cells"]}) > 1]
    return {"rows": different, "equal": len(rows) - len(different)}
