"""How fast a folder of large JPEGs is classified, beside timm's own loop; and what sessions and memory cost.

    python benchmarks/predict_jpegs.py MODEL DATA JPEGS [--files 240] [--turns 3] [--small-files 20000]

MODEL is a ResNet-50 that was trained on DATA (its training images calibrate int8), JPEGS a folder of photographs,
repeated until there are --files of them. Contestants take turns:

    timm     timm.create_model of the same architecture with the same weights, float32, eager; its create_dataset and
             create_loader (batch 32, 2 workers, prefetcher) and the loop of its inference script, in a process of
             its own (timm_loop.py)
    resfit   what `resfit predict --out p.jsonl` does once the model is open: listing, scaled decoding, session, rows;
             for each engine and precision that this machine has

Then, for MODEL and for an untrained ResNet-20 (under a millisecond): one image through resfit's session against the
runtime called bare, turn about. Then the peak memory of `resfit predict` over many small files against that over
1,000. Nothing else should be running. Writes results/predict_jpegs.json; exit 0 when all targets hold, 3 when not.
"""

import argparse
import contextlib
import itertools
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from record import RESULTS, run, write_result
from safetensors.torch import save_file
from session_latency import latencies

from resfit.compression.quantise import quantise
from resfit.data.sources import open_data
from resfit.engines.artifact import build, open_session
from resfit.engines.session import Session, resolve_threads
from resfit.errors import EngineError, MissingExtra
from resfit.inference.inputs import pictures
from resfit.inference.outputs import Columns, save_rows
from resfit.inference.predict import predict_rows
from resfit.model.load import load
from resfit.model.model import Model

BATCH_SIZE = 32
Work = Callable[[], tuple[float, list[str]]]  # a turn over all files: seconds, and the label of each
CALIBRATION_IMAGES = 256
SMALL_SIDE = 32
TARGETS = {"int8": 6.0, "float": 2.5, "latency_ratio": 1.05, "latency_beyond_us": 20.0, "memory_ratio": 1.10}
CONTESTANTS = (
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("onnxruntime", "int8"),
    ("openvino", "int8"),
)


def main() -> int:
    arguments = _arguments()
    model = load(arguments.model)
    with tempfile.TemporaryDirectory(prefix="resfit-predict-") as name:
        folder = Path(name)
        small = _small_artifacts(folder)
        memory = _memory(small["fp32"], arguments.small_files, folder)
        artifacts = _artifacts(model, arguments.data, folder)
        latency = [
            row
            for network, files in (("resnet20", small), ("resnet50", artifacts))
            for row in latencies(network, files, arguments.threads)
        ]
        speed = _speed(model, artifacts, _repeated(Path(arguments.jpegs), arguments.files, folder), arguments, folder)
    verdicts = _verdicts(speed, latency, memory)
    rows = speed.pop("rows")
    write_result(
        arguments.out,
        what="resfit predict over large JPEGs beside timm's inference loop; a session beside its runtime; peak memory",
        threads=resolve_threads(arguments.threads),
        targets=TARGETS,
        rows=rows,
        speed=speed,
        latency=latency,
        memory=memory,
        verdicts=verdicts,
    )
    for row in (*rows, *latency, memory, verdicts):
        print({key: value for key, value in row.items() if not isinstance(value, dict | list)})
    return 0 if all(verdicts.values()) else 3


def _artifacts(model: Model, data: str, folder: Path) -> dict[str, Path]:
    """The model as ONNX in float32, and in int8 calibrated on training images."""
    train = open_data(data, preprocessing=model.preprocessing, roles=("train",)).train
    places = np.linspace(0, len(train) - 1, min(CALIBRATION_IMAGES, len(train))).astype(int)
    # All of it in int8, whatever the answers: how many stay is what is reported
    calibrated = quantise(model, np.stack([train.images[int(place)] for place in places]), min_agreement=0.0)
    return {
        "fp32": build(model, folder / "fp32.onnx").path,
        "int8": build(calibrated, folder / "int8.onnx", precision="int8").path,
    }


def _small_artifacts(folder: Path) -> dict[str, Path]:
    model = load("resnet20")
    shape = model.preprocessing.height, model.preprocessing.width, model.preprocessing.channels
    noise = np.random.default_rng(0).integers(0, 256, (16, *shape), dtype=np.uint8)
    return {
        "fp32": build(model, folder / "resnet20-fp32.onnx").path,
        "int8": build(quantise(model, noise), folder / "resnet20-int8.onnx", precision="int8").path,
    }


def _repeated(jpegs: Path, count: int, folder: Path) -> Path:
    """A folder of `count` files or a few more: each of the photographs equally often."""
    photographs = sorted(path for path in jpegs.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    target = folder / "jpegs"
    target.mkdir()
    for turn, path in itertools.product(range(-(-count // len(photographs))), photographs):
        shutil.copy(path, target / f"{turn:02}-{path.name}")
    return target


def _speed(
    model: Model, artifacts: dict[str, Path], files: Path, arguments: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """Images a second of every contestant, and how often their answers agree."""
    contestants: dict[str, Work] = {}
    refused = {}
    for engine, precision in CONTESTANTS:
        artifact = artifacts["int8" if precision == "int8" else "fp32"]
        try:
            session = open_session(artifact, engine=engine, threads=arguments.threads, precision=precision)
        except (EngineError, MissingExtra) as error:
            refused[f"{engine} {precision}"] = error.message
            continue
        contestants[f"{engine} {precision}"] = _resfit(session, files, folder / "rows.jsonl")
    with _timm(model, files, arguments.threads, folder) as timm:
        contestants = {"timm fp32": timm, **contestants}
        answers: dict[str, list[str]] = {}
        speeds: dict[str, list[float]] = {name: [] for name in contestants}
        for turn in range(arguments.turns + 1):
            for name, work in contestants.items():
                seconds, answers[name] = work()
                if turn:  # the first turn warms caches and compiles for the batch
                    speeds[name].append(len(answers[name]) / seconds)
    base = statistics.median(speeds["timm fp32"])
    exact = answers["onnxruntime fp32"]
    rows = [
        {
            "contestant": name,
            "images_per_second": statistics.median(values),
            "least": min(values),
            "most": max(values),
            "ratio_to_timm": statistics.median(values) / base,
            "agreement_with_fp32": float(np.mean([a == b for a, b in zip(answers[name], exact, strict=True)])),
        }
        for name, values in speeds.items()
    ]
    return {"files": len(exact), "batch_size": BATCH_SIZE, "turns": arguments.turns, "refused": refused, "rows": rows}


def _resfit(session: Session, files: Path, out: Path) -> Work:
    columns = Columns(labels=session.labels)

    def work() -> tuple[float, list[str]]:
        out.unlink(missing_ok=True)
        begin = time.perf_counter()
        rows = predict_rows(session, pictures([files]), batch_size=BATCH_SIZE, decoding="scaled")
        save_rows(out, rows, format="jsonl", columns=columns)
        seconds = time.perf_counter() - begin
        return seconds, [json.loads(line)["label"] for line in out.read_text(encoding="utf-8").splitlines()]

    return work


@contextlib.contextmanager
def _timm(model: Model, files: Path, threads: int | None, folder: Path) -> Iterator[Work]:
    """timm's loop on the same weights and the same part of each picture, in a process that waits for its turns."""
    shape = model.preprocessing
    save_file({name: tensor.contiguous() for name, tensor in model.weights.items()}, folder / "timm.safetensors")
    request = {
        "files": str(files),
        "weights": str(folder / "timm.safetensors"),
        "num_classes": len(model.labels),
        "input_size": [shape.channels, shape.height, shape.width],
        "mean": shape.mean,
        "std": shape.std,
        "threads": resolve_threads(threads),
    }
    (folder / "timm.json").write_text(json.dumps(request), encoding="utf-8")
    command = [sys.executable, str(Path(__file__).with_name("timm_loop.py")), str(folder / "timm.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        talk = process.stdin, process.stdout

        def work() -> tuple[float, list[str]]:
            assert talk[0] is not None
            assert talk[1] is not None
            talk[0].write("turn\n")
            talk[0].flush()
            done = json.loads(talk[1].readline())
            return done["seconds"], [model.labels[index] for index in done["answers"]]

        yield work
        process.kill()


def _memory(artifact: Path, count: int, folder: Path) -> dict[str, Any]:
    """Peak memory of `resfit predict` over `count` small files and over 1,000 of them, each in a process of its own."""
    generator = np.random.default_rng(0)
    many, few = folder / "many", folder / "few"
    many.mkdir()
    few.mkdir()
    for number in range(count):
        pixels = generator.integers(0, 256, (SMALL_SIDE, SMALL_SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(many / f"{number:06}.jpg", quality=85)
    for path in itertools.islice(sorted(many.iterdir()), 1000):
        shutil.copy(path, few)
    peaks = {
        name: _peak_bytes(artifact, source, folder / "rows.csv") for name, source in (("few", few), ("many", many))
    }
    return {
        "files": count,
        "peak_bytes_1000": peaks["few"],
        "peak_bytes_all": peaks["many"],
        "ratio": peaks["many"] / peaks["few"],
    }


def _peak_bytes(artifact: Path, source: Path, out: Path) -> int:
    out.unlink(missing_ok=True)
    program = (
        "import sys; from resfit.cli import main; code = main(sys.argv[1:])\n"
        "print(open('/proc/self/status').read()); sys.exit(code)"
    )
    command = [sys.executable, "-c", program, "predict", str(artifact), str(source), "--out", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert found is not None
    return int(found[1]) * 1024


def _verdicts(speed: dict[str, Any], latency: list[dict[str, Any]], memory: dict[str, Any]) -> dict[str, bool]:
    """Each target, and whether it holds."""
    ratios = {row["contestant"]: row["ratio_to_timm"] for row in speed["rows"] if row["contestant"] != "timm fp32"}
    return {
        "int8": max(value for name, value in ratios.items() if name.endswith("int8")) >= TARGETS["int8"],
        "float": max(value for name, value in ratios.items() if not name.endswith("int8")) >= TARGETS["float"],
        "latency": all(
            row["ratio"] <= TARGETS["latency_ratio"]
            or (row["bare_us"] < 1000 and row["resfit_us"] - row["bare_us"] <= TARGETS["latency_beyond_us"])
            for row in latency
            if row["chosen"]
        ),
        "choice": all(_is_best(row, latency) for row in latency if row["chosen"]),
        "memory": memory["ratio"] <= TARGETS["memory_ratio"],
    }


def _is_best(chosen: dict[str, Any], latency: list[dict[str, Any]]) -> bool:
    """Whether no other engine is faster than the chosen one by more than the noise."""
    same = [row["bare_us"] for row in latency if all(row[key] == chosen[key] for key in ("network", "precision"))]
    limit = max(TARGETS["latency_ratio"] * min(same), min(same) + TARGETS["latency_beyond_us"] * (min(same) < 1000))
    return bool(chosen["resfit_us"] <= limit)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="run folder of a ResNet-50")
    parser.add_argument("data", help="the images it was trained on")
    parser.add_argument("jpegs", help="folder of photographs")
    parser.add_argument("--files", type=int, default=240)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--small-files", type=int, default=20_000)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS / "predict_jpegs.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
