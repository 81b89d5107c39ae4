"""`resfit benchmark`: how fast a network runs here, by engine, precision and batch size."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from resfit.errors import UsageError, nearest

if TYPE_CHECKING:
    from resfit.measure.comparison import Candidate
    from resfit.model.model import Model

NOISE_IMAGES = 32
ALL_PRECISIONS = ("fp32", "int8")


def benchmark(
    model: Annotated[str, "run folder, fit folder, artifact file, checkpoint, or a network's name"],
    *,
    img_size: Annotated[int | None, "square input size (default: the model's own)"] = None,
    engine: Annotated[list[Literal["onnxruntime", "torch"]] | None, "runtimes (default: all)"] = None,
    precision: Annotated[list[Literal["fp32", "int8"]] | None, "precisions (default: all)"] = None,
    batch_size: Annotated[list[int] | None, "images a run; several are compared (default: 1)"] = None,
    threads: Annotated[int | None, "processor threads (default: all usable cores)"] = None,
    seed: Annotated[int, "seed of untrained weights and of the noise int8 is calibrated on"] = 0,
) -> dict[str, Any]:
    """Measure latency, throughput and memory of a network on this machine.

    Every combination runs in processes of its own, twice, turn about. A network's name is timed with
    untrained weights, and int8 without calibration on ranges from noise; the result says so.
    """
    from resfit.inference.opening import artifact_of
    from resfit.measure.comparison import compare
    from resfit.measure.machine import machine

    batch_sizes = _listed(batch_size) or [1]
    _check_counts({"--threads": [threads], "--img-size": [img_size], "--batch-size": batch_sizes})
    engines, precisions = _listed(engine), _listed(precision)
    with tempfile.TemporaryDirectory(prefix="resfit-benchmark-") as folder:
        artifact = artifact_of(model)
        if artifact is not None:
            subject, candidates = _existing(artifact, img_size, engines, precisions, batch_sizes)
        else:
            subject, candidates = _built(model, Path(folder), img_size, engines, precisions, batch_sizes, seed)
        rows = compare(candidates, threads=threads)
    notes = [*subject.pop("notes"), *slower_int8(rows)]
    return {"model": model, **subject, "machine": machine(), "results": rows, "notes": notes}


def render(result: dict[str, Any]) -> str:
    """A table with a line for each combination, fastest marked, and the notes below."""
    here = result["machine"]
    height, width = result["img_size"]
    lines = [
        f"machine  {here['processor']}, {here['cores']} cores {' '.join(here['flags'])}",
        f"model    {result['model']} at {height} x {width}, {result['weights']} weights",
        "",
        "engine       precision  batch  p50 ms    p99 ms    images/s   memory MB  file kB    against best",
    ]
    for row in result["results"]:
        lines.append(
            f"{row['engine']:<12} {row['precision']:<9} {row['batch_size']:>6}  "
            f"{row['latency_ms_p50']:<9.3f} {row['latency_ms_p99']:<9.3f} {row['images_per_second']:<10.1f} "
            f"{row['memory_bytes'] / 1e6:<10.1f} {row['file_bytes'] / 1e3:<10.1f} "
            + ("best" if row["ratio_to_best"] == 1 else f"{row['ratio_to_best']:.2f} x")
        )
    return "\n".join([*lines, *(f"note     {note}" for note in result["notes"])])


def slower_int8(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each engine and batch size where int8 takes longer than fp32."""
    times = {(row["engine"], row["batch_size"], row["precision"]): row["latency_ms_p50"] for row in rows}
    return [
        f"int8 is slower than fp32 here with {engine} at batch {size}: {milliseconds:.3g} ms against "
        f"{times[engine, size, 'fp32']:.3g} ms"
        for (engine, size, precision), milliseconds in times.items()
        if precision == "int8" and milliseconds > times.get((engine, size, "fp32"), float("inf"))
    ]


def _existing(
    artifact: Path,
    img_size: int | None,
    engines: Sequence[str],
    precisions: Sequence[str],
    batch_sizes: Sequence[int],
) -> "tuple[dict[str, Any], list[Candidate]]":
    """What to time when the file is there already: its format and precision are given."""
    from resfit.engines.artifact import ENGINES, describe, file_format
    from resfit.measure.comparison import Candidate

    described = describe(artifact)
    size = [described.preprocessing.height, described.preprocessing.width]
    if img_size is not None and size != [img_size, img_size]:
        raise UsageError(f"{artifact} takes images of {size[0]} x {size[1]}, not --img-size {img_size}")
    if precisions and described.precision not in precisions:
        raise UsageError(f"{artifact} is of precision {described.precision}, not {' or '.join(precisions)}")
    able = [name for name, (_, formats) in ENGINES.items() if file_format(artifact) in formats]
    chosen = [name for name in able if not engines or name in engines]
    if not chosen:
        raise UsageError(f"{' and '.join(engines)} cannot open {artifact}", hint=f"opened by: {', '.join(able)}")
    candidates = [
        Candidate(artifact=artifact, engine=name, precision=described.precision, batch_size=count)
        for count in batch_sizes
        for name in chosen
    ]
    return {"weights": _weights(described.trained), "img_size": size, "notes": []}, candidates


def _built(
    source: str,
    folder: Path,
    img_size: int | None,
    engines: Sequence[str],
    precisions: Sequence[str],
    batch_sizes: Sequence[int],
    seed: int,
) -> "tuple[dict[str, Any], list[Candidate]]":
    """What to time when a model is given: an artifact for each engine and precision that go together."""
    from resfit.engines.artifact import ENGINES, PRECISIONS, build
    from resfit.measure.comparison import Candidate
    from resfit.model.load import load

    for engine in engines:
        if engine not in ENGINES:
            raise UsageError(f"there is no engine {engine!r}", hint=nearest(engine, ENGINES))
    model = load(source, img_size=img_size, seed=seed)
    notes: list[str] = []
    artifacts: list[tuple[Path, str, str]] = []
    calibrated = model
    for engine in engines or ENGINES:
        format = ENGINES[engine][1][0]
        for precision in precisions or ALL_PRECISIONS:
            if precision not in PRECISIONS[format]:
                if precisions:
                    notes.append(f"{engine} has no {precision}")
                continue
            if precision == "int8" and not calibrated.activation_ranges:
                calibrated = _calibrated_on_noise(model, seed)
                notes.append("int8 ranges come from noise: its time is right, its answers are not")
            path = folder / f"{engine}-{precision}"
            print(f"building {engine} {precision}", file=sys.stderr)
            chosen = calibrated if precision == "int8" else model
            artifacts.append((build(chosen, path, format=format, precision=precision).path, engine, precision))
    if not artifacts:
        raise UsageError("nothing to time: " + "; ".join(notes), hint="choose another --engine or --precision")
    candidates = [
        Candidate(artifact=path, engine=engine, precision=precision, batch_size=size)
        for size in batch_sizes
        for path, engine, precision in artifacts
    ]
    size = [model.preprocessing.height, model.preprocessing.width]
    return {"weights": _weights(model.provenance.trained), "img_size": size, "notes": notes}, candidates


def _calibrated_on_noise(model: "Model", seed: int) -> "Model":
    from resfit.compression.quantise import quantise
    from resfit.randomness import rng

    shape = (
        NOISE_IMAGES,
        model.preprocessing.height,
        model.preprocessing.width,
        model.preprocessing.channels,
    )
    noise = rng(seed, "noise-calibration", 0, 0).integers(0, 256, shape, dtype="uint8")
    return quantise(model, noise, seed=seed)


def _weights(trained: bool) -> str:
    return "trained" if trained else "untrained"


def _listed(values: Any) -> list[Any]:
    """A flag's values as a list, also when Python gives one value or none."""
    if values is None:
        return []
    return [values] if isinstance(values, str | int) else list(values)


def _check_counts(flags: dict[str, list[int | None]]) -> None:
    for flag, values in flags.items():
        for value in values:
            if value is not None and value < 1:
                raise UsageError(f"{flag} is {value}, expected at least 1")
