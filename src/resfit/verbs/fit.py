"""`resfit fit`: images and a budget in, the best network that keeps it out, proven on the file that ships."""

import functools
import json
import time
from pathlib import Path
from typing import Annotated, Any

from resfit.budget import Budget
from resfit.errors import UsageError
from resfit.nn.spec import ResNetSpec
from resfit.storage import new_folder, prepare_folder, write_atomic
from resfit.verbs.arguments import check_counts
from resfit.verbs.request import write_request

RESULT = "fit.json"
LEAST_MINUTES = 0.5


def fit(
    data: Annotated[str, "folder of class folders, Hugging Face parquet, or 'digits'"],
    *,
    latency_ms: Annotated[float | None, "limit: milliseconds from a decoded image to probabilities"] = None,
    file_kb: Annotated[float | None, "limit: size of the artifact in units of 1,000 bytes"] = None,
    memory_mb: Annotated[float | None, "limit: memory to open and run the artifact, in 10^6 bytes"] = None,
    macs_m: Annotated[float | None, "limit: millions of multiply-accumulates an image"] = None,
    energy_mj: Annotated[float | None, "limit: millijoules an image, where the machine has a meter"] = None,
    min_accuracy: Annotated[float | None, "least accuracy on the test images, as a fraction"] = None,
    max_drop: Annotated[float, "points of validation accuracy that int8 may cost"] = 1.0,
    time_minutes: Annotated[float, "time for everything"] = 20.0,
    img_size: Annotated[int | None, "square input size (default: the images' own, or 224)"] = None,
    out: Annotated[str | None, "folder to write (default: fits/DATA-N)"] = None,
    seed: Annotated[int, "seed of every choice by chance"] = 0,
    threads: Annotated[int | None, "processor threads, here and in the measured latency (default: all)"] = None,
) -> dict[str, Any]:
    """Find, train and prove the best residual network within your limits.

    Networks from tiny to large are built and measured on this machine; those that can keep the limits race in
    short trainings, and the best is trained on. The file that ships is then opened in a new process, where
    every limited quantity and the accuracy on untouched test images are measured.
    """
    started = time.monotonic()
    budget = Budget.from_flags(
        latency_ms=latency_ms, file_kb=file_kb, memory_mb=memory_mb, macs_m=macs_m, energy_mj=energy_mj,
        min_accuracy=min_accuracy,
    )  # fmt: skip
    check_counts(threads=threads, img_size=img_size)
    _check(budget, time_minutes, max_drop)
    from resfit.data.sources import open_data
    from resfit.measure.machine import usable_cores
    from resfit.search.fit import NoNetworkFits, Plan, to_standard_error
    from resfit.search.fit import fit as search

    splits = open_data(data, img_size=img_size)
    to_standard_error(_data_line(data, splits))

    plan = Plan(
        budget=budget,
        time_seconds=60 * time_minutes,
        started=started,
        max_drop=max_drop,
        seed=seed,
        threads=threads or usable_cores(),
        engine="onnxruntime",
        folder=lambda name, spec: _folder(name, spec, data, img_size, out),
        say=to_standard_error,
    )
    request = {
        "data": data,
        "img_size": img_size,
        "time_minutes": time_minutes,
        "max_drop": max_drop,
        "seed": seed,
    }
    try:
        done = search(splits, plan)
    except NoNetworkFits as error:
        return _infeasible(error, budget, request, splits, started)
    return _finish(done, plan, splits, request, started)


def render(result: dict[str, Any]) -> str:
    """The budgets, the accuracy, and where everything lies."""
    lines = [f"{'budget':<14}{'limit':>12}{'measured':>12}   holds"]
    for row in result["budgets"]:
        measured = "not measured" if row["measured"] is None else f"{row['measured']:.4g}"
        lines.append(f"{row['name']:<14}{row['limit']:>12g}{measured:>12}   {'yes' if row['holds'] else 'NO'}")
    if result["accuracy"] is not None:
        low, high = result["accuracy_interval"]
        artifact = result["artifact"]
        lines += [
            f"accuracy      {result['accuracy']:.1%} ({low:.1%} to {high:.1%}) on {result['num_images']:,} images "
            "never used for a choice",
            f"model         {result['out']}/   artifact {Path(artifact['path']).name}, {artifact['precision']}, "
            f"sha256 {artifact['sha256'][:12]}",
            f"report        {result['report']}",
            f"try it        python {result['classify']} PICTURE.png",
        ]
    if result["exit_code"]:
        lines += [f"binding       {', '.join(result['binding'])}", "nearest"]
        lines += ["  " + _point_line(point) for point in result["nearest"]]
    return "\n".join(lines)


def _folder(name: str, spec: ResNetSpec, data: str, img_size: int | None, out: str | None) -> Path:
    """The output folder, with what is needed to resume the winner's training should it be stopped."""
    folder = prepare_folder(out) if out is not None else new_folder("fits", data)
    write_request(folder, spec, model=name, data=data, opening={"img_size": img_size})
    return folder


def _check(budget: Budget, time_minutes: float, max_drop: float) -> None:
    if not LEAST_MINUTES <= time_minutes <= 60 * 24 * 30:
        raise UsageError(f"--time-minutes is {time_minutes:g}, expected at least {LEAST_MINUTES}")
    if not 0 <= max_drop <= 100:
        raise UsageError(f"--max-drop is {max_drop:g}, expected 0 to 100 percentage points")
    if budget.energy_mj is not None:
        from resfit.measure.artifact import check_quantities

        check_quantities(("energy_mj",))


def _data_line(data: str, splits: Any) -> str:
    roles = splits.roles()
    counts = ", ".join(f"{role} {row['num_images']:,}" for role, row in roles.items())
    shape = splits.preprocessing
    return f"data     {data}: {len(splits.labels)} classes at {shape.height}x{shape.width}x{shape.channels}: {counts}"


def _point_line(point: dict[str, Any]) -> str:
    parts = [f"{name} {value:.4g}" for name, value in point.items() if isinstance(value, float)]
    return f"{point['network']} {point['precision']}: {', '.join(parts)}"


def _infeasible(error: Any, budget: Budget, request: dict[str, Any], splits: Any, started: float) -> dict[str, Any]:
    nearest = error.nearest[0]
    limits = budget.to_flags()
    rows = [
        {"name": name, "limit": limit, "measured": nearest.get(name), "holds": name not in error.binding}
        for name, limit in limits.items()
        if name != "min_accuracy"
    ]
    return {
        **request,
        "budgets": rows,
        "accuracy": None,
        "artifact": None,
        "binding": error.binding,
        "nearest": error.nearest,
        "message": error.message,
        "roles": splits.roles(),
        "candidates": _candidate_rows(error.points),
        "elapsed_seconds": time.monotonic() - started,
        "exit_code": error.exit_code,
    }


def _candidate_rows(points: Any) -> list[dict[str, Any]]:
    from resfit.search.pricing import describe

    return [{**describe(point), "fits": point.fits, "reason": point.reason} for point in points]


def _finish(done: Any, plan: Any, splits: Any, request: dict[str, Any], started: float) -> dict[str, Any]:
    """Write what a fit leaves behind: model, card, script, report, and fit.json last."""
    from resfit.inference.activation_maps import activation_maps
    from resfit.inference.classify import write_classify_script
    from resfit.model.run_folder import save
    from resfit.reporting.fit_report import write_fit_report
    from resfit.reporting.network_drawing import layout_of
    from resfit.reporting.run_card import write_run_card

    script = write_classify_script(done.artifact.path)
    result = _result(done, plan, splits, request)
    result["classify"] = str(script)
    save(done.model, done.folder)
    write_run_card(
        done.folder,
        done.model,
        result,
        usage=("python classify.py PICTURE.jpg", f"resfit predict {done.folder.name} ."),
    )
    result["elapsed_seconds"] = time.monotonic() - started
    report = write_fit_report(
        done.folder, result, done.proofs[0].logits, splits.role("test"),
        network=layout_of(done.model), look=functools.partial(activation_maps, done.model),
    )  # fmt: skip
    result["report"] = str(report)
    result["elapsed_seconds"] = time.monotonic() - started
    write_atomic(done.folder / RESULT, json.dumps(result, indent=2, ensure_ascii=False).encode() + b"\n")
    return result


def _result(done: Any, plan: Any, splits: Any, request: dict[str, Any]) -> dict[str, Any]:
    from resfit.measure.machine import machine
    from resfit.metrics.classification import wilson_interval
    from resfit.model.model import weights_sha256
    from resfit.search.pricing import describe, nearest_points

    test = splits.role("test")
    logits = done.proofs[0].logits
    correct = int((logits.argmax(1) == test.targets).sum())
    broken = [verdict.name for verdict in done.verdicts if not verdict.holds]
    return {
        **request,
        "model": done.winner.name,
        "budgets": [verdict.to_dict() for verdict in done.verdicts],
        "accuracy": correct / len(test),
        "accuracy_interval": list(wilson_interval(correct, len(test))),
        "num_images": len(test),
        "artifact": {
            "path": str(done.artifact.path), "sha256": done.proofs[0].sha256,
            "file_bytes": done.artifact.file_bytes, "format": done.artifact.format,
            "precision": done.artifact.precision, "converted_layers": done.artifact.converted_layers,
        },
        "measured": {
            name: value for name, value in vars(done.measurement).items() if name != "basis" and value is not None
        },
        "basis": dict(done.measurement.basis),
        "int8_drop": done.drop,
        "binding": broken,
        "nearest": [{**describe(done.winner.subject), "accuracy": correct / len(test)}] if broken else [],
        "alternatives": nearest_points([p for p in done.points if p.fits], plan.budget) if broken else [],
        "candidates": _candidate_rows(done.points),
        "race": {
            "rungs": [vars(rung) for rung in done.rungs],
            "entrants": [_entrant_row(entrant) for entrant in done.entrants],
        },
        "history": list(done.result.history),
        "recipe": done.result.recipe.to_dict(),
        "weights_sha256": weights_sha256(done.model),
        "roles": splits.roles(),
        "fingerprint": splits.fingerprint,
        "labels": list(splits.labels),
        "machine": machine(),
        "engine": plan.engine,
        "threads": plan.threads,
        "out": str(done.folder),
        "exit_code": 3 if broken else 0,
    }  # fmt: skip


def _entrant_row(entrant: Any) -> dict[str, Any]:
    trials = [item.trial for item in entrant.results if hasattr(item, "trial")]
    return {
        "network": entrant.name,
        "accuracies": [trial.accuracy for trial in trials],
        "epochs": [trial.epochs for trial in trials],
        "seconds": [trial.result.elapsed_seconds for trial in trials],
        "failed": [item.reason for item in entrant.results if hasattr(item, "reason")],
    }
