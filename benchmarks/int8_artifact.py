"""A trained network's int8 file beside its float32 file: points of accuracy lost, and the speed-up.

    python benchmarks/int8_artifact.py RUN DATA [--threads 1] [--out results/int8_photos.json]

Calibrated on training images. Each file is opened in a process of its own, by ONNX Runtime and by OpenVINO, on all test
images; times are of one image, the two files turn about. Writes results/int8_photos.json. Exit 0 when int8 loses at
most half a point in both runtimes, 3 when not.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from files import accuracy_of, latencies
from record import RESULTS, run, write_result

from resfit.compression.quantise import quantise
from resfit.data.sources import open_data
from resfit.engines.artifact import build
from resfit.model.load import load
from resfit.randomness import rng

ENGINES = ("onnxruntime", "openvino")
CALIBRATION_IMAGES = 256  # as many as `resfit export` draws
MOST_POINTS = 0.5


def main() -> int:
    arguments = _arguments()
    model = load(arguments.model)
    splits = open_data(arguments.data, preprocessing=model.preprocessing)
    assert splits.test is not None
    order = rng(arguments.seed, "calibration").permutation(len(splits.train))[:CALIBRATION_IMAGES]
    small = quantise(model, splits.train.images[np.sort(order)], seed=arguments.seed)
    rows = []
    with tempfile.TemporaryDirectory(prefix="resfit-int8-") as folder:
        files = {"fp32": Path(folder, "fp32.onnx"), "int8": Path(folder, "int8.onnx")}
        build(model, files["fp32"])
        build(small, files["int8"], precision="int8")
        for engine in ENGINES:
            accuracies = {name: accuracy_of(file, splits, engine=engine) for name, file in files.items()}
            times = latencies(files, threads=arguments.threads, engine=engine)
            rows.append(
                {
                    "engine": engine,
                    **{f"accuracy_{name}": value for name, value in accuracies.items()},
                    "points_lost": 100 * (accuracies["fp32"] - accuracies["int8"]),
                    **{f"latency_ms_{name}": times[name] for name in files},
                    "speedup": times["ratio"],
                    "times": times,
                }
            )
        sizes = {f"file_bytes_{name}": file.stat().st_size for name, file in files.items()}
    holds = all(row["points_lost"] <= MOST_POINTS for row in rows)
    write_result(
        arguments.out,
        what="a trained network in int8 beside float32: accuracy on the test images, milliseconds of one image",
        data={"fingerprint": splits.fingerprint, "test_images": len(splits.test)},
        rows=rows,
        limits={"points_lost": MOST_POINTS},
        holds=holds,
        seed=arguments.seed,
        **sizes,
    )
    for row in rows:
        print(f"{row['engine']}: {row['points_lost']:.2f} points lost, {row['speedup']:.2f}x")
    return 0 if holds else 3


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="a run folder")
    parser.add_argument("data", help="the images it was trained on")
    parser.add_argument("--seed", type=int, default=0, help="of the calibration")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "int8_photos.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
