"""One int8 graph in two runtimes: how accurate, and how fast beside OpenVINO's own quantisation (NNCF).

    python benchmarks/int8_engines.py CIFAR10 RESNET20_WEIGHTS [--resnet50 MODEL] [--threads N] [--rounds 15]

Accuracy: RESNET20_WEIGHTS quantised on training images, its one file run on all test images through ONNX Runtime and
OpenVINO, beside float32, bf16 where there is any, and NNCF on the same images. Time: OpenVINO on that file and on
NNCF's, turn about in one process with the same settings, for resnet20 at its size and for MODEL (by default resnet50
with untrained weights, calibrated on noise) at 224, and both runtimes on it in processes of their own. Writes
results/int8_engines.json; exit 0 when the runtimes' accuracies lie within 0.3 points and the file takes at most 1.1
times NNCF's time, 3 when not.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino
import torch
from record import RESULTS, run, write_result

from resfit.compression.quantise import MIN_AGREEMENT, quantise
from resfit.data.sources import open_data
from resfit.engines.artifact import build, open_session
from resfit.engines.session import Session, resolve_threads
from resfit.errors import EngineError
from resfit.measure.comparison import Candidate, compare
from resfit.model.fold import fold
from resfit.model.load import load
from resfit.model.model import Model
from resfit.randomness import rng

ENGINES = ("onnxruntime", "openvino")
CALIBRATION_IMAGES = 256  # as many as resfit draws
BATCH_SIZES = (1, 16)
BLOCK_SECONDS = 0.3
MAX_RATIO = 1.10
MAX_POINTS = 0.3
BATCH = 250


def main() -> int:
    arguments = _arguments()
    torch.set_num_threads(resolve_threads(arguments.threads))
    with tempfile.TemporaryDirectory() as folder:
        splits = open_data(arguments.data)
        small = load(arguments.weights)
        order = rng(0, "calibration").permutation(len(splits.train))[:CALIBRATION_IMAGES]
        images = splits.train.subset(np.sort(order)).images
        subject = _Subject.of("resnet20", small, images, Path(folder), MIN_AGREEMENT)
        accuracies = _accuracies(subject, splits.test, arguments.threads)
        large = load(arguments.resnet50, img_size=224)
        shape = (64, 224, 224, 3)
        noise = rng(0, "noise calibration").integers(0, 256, shape, dtype=np.uint8)
        # Whatever noise does to its answers, all of it in int8: only its time counts
        subjects = (subject, _Subject.of("resnet50", large, noise, Path(folder), 0))
        speeds = [_speed(one, size, arguments.threads, arguments.rounds) for one in subjects for size in BATCH_SIZES]
        engines = [row for one in subjects for row in _engines(one, arguments.threads)]
    points = 100 * abs(accuracies["onnxruntime int8"]["accuracy"] - accuracies["openvino int8"]["accuracy"])
    worst = max(row["ratio"] for row in speeds)
    holds = points <= MAX_POINTS and worst <= MAX_RATIO
    write_result(
        arguments.out,
        what="int8: accuracy of one graph in two runtimes; OpenVINO's time on it over that on NNCF's own graph",
        threads=resolve_threads(arguments.threads),
        accuracy=accuracies,
        points_between_engines=points,
        rows=speeds,  # OpenVINO on resfit's file, and on that of its own quantisation
        engines=engines,
        worst_ratio=worst,
        limits={"points": MAX_POINTS, "ratio": MAX_RATIO},
        holds=holds,
    )
    _tell(accuracies, speeds, engines)
    return 0 if holds else 3


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """A network, its artifacts, and NNCF's version of it; all take uint8 NHWC images."""

    name: str
    model: Model
    fp32: Path
    int8: Path
    float_layers: tuple[str, ...]
    nncf: Any

    @classmethod
    def of(cls, name: str, model: Model, images: np.ndarray, folder: Path, min_agreement: float) -> "_Subject":
        """Both quantisations on the same images."""
        ours = quantise(model, images, min_agreement=min_agreement)
        quantised = build(ours, folder / f"{name}-int8.onnx", precision="int8")
        return cls(
            name=name,
            model=model,
            fp32=build(model, folder / f"{name}-fp32.onnx").path,
            int8=quantised.path,
            float_layers=quantised.float_layers,
            nncf=_by_nncf(model, images),
        )


def _by_nncf(model: Model, images: np.ndarray) -> Any:
    """The network converted from PyTorch, quantised by NNCF's defaults, its normalisation put in front."""
    preprocessing = model.preprocessing
    sides = (preprocessing.channels, preprocessing.height, preprocessing.width)
    mean, std = (np.asarray(values, np.float32).reshape(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    module = fold(model).module().eval()
    network = openvino.convert_model(module, example_input=torch.zeros(1, *sides), input=[-1, *sides])
    normalised = [((image.transpose(2, 0, 1) / np.float32(255) - mean) / std)[None] for image in images]
    quantised = nncf.quantize(network, nncf.Dataset(normalised), subset_size=len(normalised))
    steps = openvino.preprocess.PrePostProcessor(quantised)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    convert = steps.input().preprocess().convert_element_type(openvino.Type.f32)
    convert.mean([255 * value for value in preprocessing.mean]).scale([255 * value for value in preprocessing.std])
    return steps.build()


class _Compiled:
    """An OpenVINO graph with a session's settings, for a fixed number of images (0: any)."""

    def __init__(self, graph: Any, size: int, threads: int | None):
        graph = graph.clone()
        if size:
            graph.reshape([size, *(side.get_length() for side in list(graph.input().get_partial_shape())[1:])])
        settings = {
            "INFERENCE_NUM_THREADS": resolve_threads(threads),
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()

    def run(self, images: np.ndarray) -> np.ndarray:
        self._request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
        self._request.infer()
        return self._request.get_output_tensor().data.copy()


def _accuracies(subject: _Subject, test: Any, threads: int | None) -> dict[str, dict[str, Any]]:
    """By runtime and precision: accuracy on the test images, and the answers that differ from float32 and int8."""
    sessions: dict[str, Any] = {f"{name} fp32": _session(subject.fp32, name, threads) for name in ENGINES}
    try:
        sessions["openvino bf16"] = open_session(subject.fp32, engine="openvino", threads=threads, precision="bf16")
    except EngineError as error:
        print(f"left out: {error.message}")
    sessions |= {f"{name} int8": _session(subject.int8, name, threads) for name in ENGINES}
    sessions["nncf int8"] = _Compiled(subject.nncf, 0, threads)
    answers = {name: _answers(session, test.images) for name, session in sessions.items()}
    return {
        name: {
            "accuracy": float((given == test.targets).mean()),
            "differs_from_fp32": int((given != answers["onnxruntime fp32"]).sum()),
            "differs_from_onnxruntime_int8": int((given != answers["onnxruntime int8"]).sum()),
            "images": len(test),
        }
        for name, given in answers.items()
    }


def _session(path: Path, engine: str, threads: int | None) -> Session:
    return open_session(path, engine=engine, threads=threads)


def _answers(session: Any, images: np.ndarray) -> np.ndarray:
    """The class that each image is given."""
    starts = range(0, len(images), BATCH)
    return np.concatenate([session.run(images[start : start + BATCH]).argmax(1) for start in starts])


def _speed(subject: _Subject, size: int, threads: int | None, rounds: int) -> dict[str, Any]:
    """Milliseconds a run on resfit's graph and on NNCF's, in blocks turn about, and the ratio of the medians."""
    ours = _Compiled(openvino.Core().read_model(subject.int8), size, threads)
    pair: Mapping[str, _Compiled] = {"resfit": ours, "nncf": _Compiled(subject.nncf, size, threads)}
    shape = subject.model.preprocessing
    sides = (size, shape.height, shape.width, shape.channels)
    images = rng(0, "timed images").integers(0, 256, sides, dtype=np.uint8)
    blocks: dict[str, list[float]] = {name: [] for name in pair}
    for turn in range(rounds + 1):
        order = tuple(pair) if turn % 2 else tuple(reversed(pair))  # neither profits from its place
        for name in order:
            milliseconds = _block(pair[name], images)
            if turn:  # the first warms up
                blocks[name].append(milliseconds)
    ratios = [mine / theirs for mine, theirs in zip(blocks["resfit"], blocks["nncf"], strict=True)]
    return {
        "network": subject.name,
        "batch_size": size,
        "resfit_ms": statistics.median(blocks["resfit"]),
        "nncf_ms": statistics.median(blocks["nncf"]),
        "ratio": statistics.median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        "rounds": rounds,
    }


def _block(compiled: _Compiled, images: np.ndarray) -> float:
    """The median milliseconds of the runs of a fraction of a second, at least five."""
    runs: list[float] = []
    started = time.perf_counter()
    while len(runs) < 5 or time.perf_counter() - started < BLOCK_SECONDS:
        begin = time.perf_counter()
        compiled.run(images)
        runs.append(1000 * (time.perf_counter() - begin))
    return statistics.median(runs)


def _engines(subject: _Subject, threads: int | None) -> list[dict[str, Any]]:
    """Both files in both runtimes, turn about, each in processes of its own."""
    files = (("fp32", subject.fp32), ("int8", subject.int8))
    candidates = [
        Candidate(artifact=path, engine=engine, precision=precision)
        for engine, (precision, path) in itertools.product(ENGINES, files)
    ]
    return [{"network": subject.name, **row} for row in compare(candidates, threads=threads)]


def _tell(accuracies: dict[str, dict[str, Any]], speeds: list[dict[str, Any]], engines: list[dict[str, Any]]) -> None:
    for name, row in accuracies.items():
        print(
            f"{name:18} {row['accuracy']:.2%}  {row['differs_from_fp32']:>4} answers differ from float32, "
            f"{row['differs_from_onnxruntime_int8']:>4} from ONNX Runtime's int8, of {row['images']:,}"
        )
    for row in speeds:
        print(
            f"{row['network']} batch {row['batch_size']:>2}: OpenVINO {row['resfit_ms']:.3g} ms on resfit's graph, "
            f"{row['nncf_ms']:.3g} on NNCF's: {row['ratio']:.3f} times "
            f"({row['ratio_lowest']:.3f} to {row['ratio_highest']:.3f})"
        )
    for row in engines:
        print(f"{row['network']} {row['engine']} {row['precision']}: {row['latency_ms_p50']:.3g} ms an image")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", help="CIFAR-10: class folders or Hugging Face parquet")
    parser.add_argument("weights", help="a published CIFAR-10 ResNet-20 checkpoint")
    parser.add_argument("--resnet50", default="resnet50", help="a ResNet-50 model (default: untrained weights)")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULTS / "int8_engines.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
