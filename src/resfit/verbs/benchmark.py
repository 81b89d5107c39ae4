"""`resfit benchmark`: how fast a network runs, by engine, precision and batch size, and beside others."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from resfit.errors import UsageError
from resfit.verbs.contestants import contestants_of, script_artifacts

if TYPE_CHECKING:
    from resfit.measure.roofline import Roofline


def benchmark(
    model: Annotated[str, "run or fit folder, .resfit file, artifact, checkpoint, or a network's name"],
    *,
    img_size: Annotated[int | None, "square input size (default: the model's own)"] = None,
    engine: Annotated[
        list[Literal["onnxruntime", "openvino", "torch", "torch-compiled"]] | None,
        "runtimes (default: all that are installed, but for torch-compiled)",
    ] = None,
    precision: Annotated[list[Literal["fp32", "bf16", "int8"]] | None, "precisions (default: all here)"] = None,
    batch_size: Annotated[list[int] | None, "images a run; several are compared (default: 1)"] = None,
    against: Annotated[
        list[str] | None, "other libraries beside it, turn about: timm, torchvision, onnxruntime, openvino"
    ] = None,
    threads: Annotated[int | None, "processor threads (default: all usable cores)"] = None,
    seed: Annotated[int, "seed of untrained weights and of the noise int8 is calibrated on"] = 0,
    energy_estimate: Annotated[
        float | None, "watts to assume while it runs, for an estimate of energy where there is no meter"
    ] = None,
    plot: Annotated[str | None, "SVG file to draw the result into"] = None,
    script: Annotated[str | None, "folder to write files and a script into that measures on another machine"] = None,
    on: Annotated[str | None, "what that script printed there: shown in place of a measurement here"] = None,
) -> dict[str, Any]:
    """Measure latency, throughput, memory and load time of a network, beside what the machine could do.

    Every combination runs in three processes of its own, turn about. A network's name is timed with untrained
    weights, and int8 without calibration on ranges from noise; the result says so.
    """
    _check(model, img_size, batch_size, threads, energy_estimate, script, on)
    shown = {"model": model, "img_size": img_size, "seed": seed}
    if script is not None:
        return _exported(Path(script), shown)
    if on is not None:
        result = _from_elsewhere(on, shown)
    else:
        choices = {
            "engines": _listed(engine), "precisions": _listed(precision), "batch_sizes": _listed(batch_size) or [1],
            "peers": [name for item in _listed(against) for name in item.split(",") if name],
        }  # fmt: skip
        result = _measured_here(shown, choices, threads)
    if energy_estimate is not None:
        _estimate_energy(result, energy_estimate)
    if plot is not None:
        result["plot"] = str(_drawn(Path(plot), result))
    return result


def render(result: dict[str, Any]) -> str:
    """A table with a line for each combination, fastest marked, and the notes below."""
    if "script" in result:
        return "\n".join(
            [
                *(f"wrote    {path}" for path in (*result["artifacts"], result["script"])),
                f"next     copy the folder there, run: python {Path(result['script']).name} > profile.json",
                f"then     resfit benchmark {result['model']} --on profile.json",
            ]
        )
    here, peaks = result["machine"], result.get("roofline")
    height, width = result["img_size"]
    lines = [
        f"machine  {here['processor']}, {here['cores']} cores {' '.join(here['flags'])}",
        *([_peaks(peaks)] if peaks else []),
        f"model    {result['model']} at {height} x {width}, {result['weights']} weights",
        "",
        "engine       precision  batch  p50 ms    p99 ms    images/s   of peak  load ms  memory MB  file kB    "
        "against best",
    ]
    lines += [_line(row) for row in result["results"]]
    return "\n".join([*lines, *(f"note     {note}" for note in result["notes"])])


def slower_int8(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each engine and batch size where int8 takes longer than fp32."""
    rows = [row for row in rows if not row.get("peer")]
    times = {(row["engine"], row["batch_size"], row["precision"]): row["latency_ms_p50"] for row in rows}
    return [
        f"int8 is slower than fp32 here with {engine} at batch {size}: {milliseconds:.3g} ms against "
        f"{times[engine, size, 'fp32']:.3g} ms"
        for (engine, size, precision), milliseconds in times.items()
        if precision == "int8" and milliseconds > times.get((engine, size, "fp32"), float("inf"))
    ]


def _measured_here(shown: dict[str, Any], choices: dict[str, Any], threads: int | None) -> dict[str, Any]:
    from resfit.measure.comparison import compare
    from resfit.measure.machine import machine, usable_cores
    from resfit.measure.roofline import roofline

    with tempfile.TemporaryDirectory(prefix="resfit-benchmark-") as folder:
        subject = contestants_of(folder=Path(folder), **shown, **choices)
        rows = compare(subject.contestants, threads=threads)
    peaks = roofline(threads or usable_cores())
    for row in rows:
        _add_share(row, peaks, subject.macs)
    return {
        "model": shown["model"], "weights": subject.weights, "img_size": subject.img_size, "machine": machine(),
        "roofline": peaks.to_dict(), "results": rows, "notes": [*subject.notes, *slower_int8(rows)],
    }  # fmt: skip


def _add_share(row: dict[str, Any], peaks: "Roofline", macs: int) -> None:
    least = peaks.least_ms(
        macs=macs, weight_bytes=row["file_bytes"], precision=row["precision"], batch_size=row["batch_size"]
    )
    row["roofline_ms"] = least
    row["share_of_roofline"] = None if least is None else least / row["latency_ms_p50"]


def _exported(folder: Path, shown: dict[str, Any]) -> dict[str, Any]:
    from resfit.measure.elsewhere import write_script
    from resfit.storage import keep_earlier

    if folder.is_file():
        raise UsageError(f"--script {folder} is a file, expected a folder")
    if folder.exists() and any(folder.iterdir()):
        keep_earlier(folder)
    folder.mkdir(parents=True, exist_ok=True)
    subject = script_artifacts(folder=folder, **shown)
    return {
        "model": shown["model"],
        "weights": subject.weights,
        "img_size": subject.img_size,
        "script": str(write_script(subject.artifacts)),
        "artifacts": [str(artifact.path) for artifact in subject.artifacts],
        "notes": list(subject.notes),
    }


def _from_elsewhere(profile: str, shown: dict[str, Any]) -> dict[str, Any]:
    """The rows of another machine, checked to be of this model's files."""
    from resfit.measure.elsewhere import read_profile

    found = read_profile(profile)
    with tempfile.TemporaryDirectory(prefix="resfit-benchmark-") as folder:
        subject = script_artifacts(folder=Path(folder), **shown)
        expected = {artifact.sha256 for artifact in subject.artifacts}
    if others := sorted(set(found["artifacts"].values()) - expected):
        raise UsageError(
            f"{profile} was measured on other files than those of {shown['model']} (sha256 {others[0][:12]}...)",
            hint="give the model, --img-size and --seed that --script was called with, in this version of resfit",
        )
    return {
        "model": shown["model"], "weights": subject.weights, "img_size": subject.img_size,
        "machine": found["machine"], "results": found["results"],
        "notes": [f"measured on another machine: {profile}", *subject.notes, *slower_int8(found["results"])],
    }  # fmt: skip


def _estimate_energy(result: dict[str, Any], watts: float) -> None:
    """Watts times seconds for each row that no meter measured; named an estimate wherever it stands."""
    for row in result["results"]:
        if "energy_mj" not in row:
            row["energy_mj_estimate"] = watts * row["latency_ms_p50"] / row["batch_size"]
    result["notes"].append(f"energy is an estimate: {watts:g} W assumed for as long as a run takes")


def _drawn(path: Path, result: dict[str, Any]) -> Path:
    from resfit.reporting.benchmark_plot import benchmark_plot
    from resfit.storage import keep_earlier, write_atomic

    keep_earlier(path)
    height, width = result["img_size"]
    title = f"{result['model']} at {height} x {width} on {result['machine']['processor']}"
    write_atomic(path, benchmark_plot(result["results"], title=title).encode())
    return path


def _peaks(peaks: dict[str, Any]) -> str:
    products = ", ".join(f"{name} {value:,.0f}" for name, value in peaks["gemm_gops"].items())
    return f"peaks    {products} GOP/s in matrix products; memory {peaks['memory_gb_per_second']:.1f} GB/s"


def _line(row: dict[str, Any]) -> str:
    share = row.get("share_of_roofline")
    memory = row.get("memory_bytes")
    return (
        f"{row['engine']:<12} {row['precision']:<9} {row['batch_size']:>6}  "
        f"{row['latency_ms_p50']:<9.3f} {row['latency_ms_p99']:<9.3f} {row['images_per_second']:<10.1f} "
        f"{'' if share is None else format(share, '.0%'):<8} {row['load_ms']:<8.1f} "
        f"{'' if memory is None else format(memory / 1e6, '.1f'):<10} {row['file_bytes'] / 1e3:<10.1f} "
        + ("best" if row["ratio_to_best"] == 1 else f"{row['ratio_to_best']:.2f} x")
        + _energy(row)
    )


def _energy(row: dict[str, Any]) -> str:
    if "energy_mj" in row:
        return f"   {row['energy_mj']:.3g} mJ an image"
    return f"   about {row['energy_mj_estimate']:.3g} mJ an image" if "energy_mj_estimate" in row else ""


def _listed(values: Any) -> list[Any]:
    """A flag's values as a list, also when Python gives one value or none."""
    if values is None:
        return []
    return [values] if isinstance(values, str | int) else list(values)


def _check(
    model: str,
    img_size: int | None,
    batch_size: Any,
    threads: int | None,
    energy_estimate: float | None,
    script: str | None,
    on: str | None,
) -> None:
    flags = {"--img-size": [img_size], "--threads": [threads], "--batch-size": _listed(batch_size)}
    for flag, values in flags.items():
        for value in values:
            if value is not None and value < 1:
                raise UsageError(f"{flag} is {value}, expected at least 1")
    if energy_estimate is not None and not 0 < energy_estimate < 1e5:
        raise UsageError(f"--energy-estimate is {energy_estimate:g}, expected watts above 0")
    if script is not None and on is not None:
        raise UsageError("--script and --on are two steps", hint=f"first: resfit benchmark {model} --script FOLDER")
