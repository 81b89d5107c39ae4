"""A published network as small as it gets at a stated loss, beside the usual ways to store it.

    python benchmarks/compress_published.py MODEL DATA [--seeds 1 2 3] [--epochs 0] [--alone]
        [--nncodec FOLDER]

MODEL is a checkpoint (the published ResNet-20's .th file), DATA the images it was made for. `resfit compress` runs
once for each allowed drop and calibration seed: points are chosen on training images, the test images are read once,
from the written file, by a new process. Beside it, through the same verb: 16-bit floats; int8 and zstd; shared
weights (k-means) and Huffman; plain grids and LZW. --nncodec names a folder with nncodec 2.1.3
(`pip install --no-deps --target FOLDER nncodec==2.1.3`), whose quantiser steps are chosen by the same rule. With
--epochs the rounded weights are trained, one run each; --alone leaves the usual ways out. Writes
results/compress_NAME.json. Exit 0 when the goals are met, 3 when not.
"""

import os

# Waiting threads sleep rather than spin: on a busy machine a spinning one holds up the one it waits for
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from nncodec_peer import nncodec_rows
from record import RESULTS, run, write_result

from resfit.verbs.compress import compress

DROPS = (0.5, 1.0)
GOALS = {
    False: {0.5: 16.0, 1.0: 20.0},
    True: {0.5: 20.0, 1.0: 24.0},
}  # ratios by allowed drop, without and with training
ANY_DROP = 100.0
BASELINES: dict[str, dict[str, Any]] = {
    "16-bit floats": {"method": "fp16", "codec": "raw"},
    "int8, zstd": {"method": "quantise", "bits": 8, "codec": "zstd"},
    "k-means, Huffman": {"method": "share", "codec": "huffman"},
    "plain grids, LZW": {"method": "quantise", "codec": "lzw"},
    "plain grids, range coder": {"method": "quantise", "codec": "range"},
}
KEPT = (
    "ratio", "drop", "accuracy_before", "accuracy_after", "accuracy_after_interval", "artifact", "steps", "points",
    "selected_on", "calibrated_on", "tested_on", "margin", "allowed_estimate", "seeds", "binding", "exit_code",
)  # fmt: skip


def main() -> int:
    arguments = _arguments()
    start = time.perf_counter()
    rows = []
    with tempfile.TemporaryDirectory(prefix="resfit-compress-") as folder:
        for drop in arguments.drops:
            for seed in arguments.seeds:
                words = {"max_drop": drop, "seed": seed, "epochs": arguments.epochs}
                rows.append(_row("resfit", arguments, Path(folder), **words))
        if not arguments.alone:
            for name, flags in BASELINES.items():
                for drop in (ANY_DROP,) if "bits" in flags or flags["method"] == "fp16" else arguments.drops:
                    rows.append(_row(name, arguments, Path(folder), max_drop=drop, **flags))
        if arguments.nncodec is not None:
            rows += nncodec_rows(arguments.model, arguments.data, arguments.drops, arguments.nncodec, Path(folder))
    means, met = _means(rows, arguments)
    out = arguments.out or RESULTS / f"compress_{Path(arguments.model).stem.split('-')[0]}.json"
    write_result(
        out,
        what="bytes of a published network's whole file, at a stated loss of test accuracy",
        ratio="4 x parameters over all bytes of the file",
        means=means,
        rows=rows,
        elapsed_seconds=round(time.perf_counter() - start, 1),
    )
    for mean in means:
        print(f"resfit, at most {mean['max_drop']:g} points: {mean['ratio']:.2f}x at {mean['drop']:.2f}, "
              f"goal {mean['goal']:g}x: {'met' if mean['met'] else 'MISSED'}")  # fmt: skip
    print(f"written to {out}")
    return 0 if met else 3


def _row(name: str, arguments: argparse.Namespace, folder: Path, **flags: Any) -> dict[str, Any]:
    path = folder / f"{len(list(folder.iterdir()))}.resfit"
    start = time.perf_counter()
    result = compress(str(arguments.model), str(arguments.data), out=str(path), threads=arguments.threads, **flags)
    row = {"name": name, "flags": flags, "elapsed_seconds": round(time.perf_counter() - start, 1)}
    row |= {key: result.get(key) for key in KEPT}
    if row["artifact"] is not None:
        row["artifact"] = {key: value for key, value in row["artifact"].items() if key != "path"}
        limit = "" if flags["max_drop"] == ANY_DROP else f" (allowed {flags['max_drop']:g})"
        print(
            f"{name:26} {row['ratio']:6.2f}x  drop {row['drop']:5.2f}{limit}  {row['elapsed_seconds']:.0f} s",
            flush=True,
        )
    else:
        print(f"{name:26} no point at {flags['max_drop']:g}", flush=True)
    return row


def _means(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], bool]:
    """Means over the seeds for each allowed drop, and whether all goals are met."""
    means = []
    goals = GOALS[bool(arguments.epochs)]
    for drop in arguments.drops:
        found = [row for row in rows if row["name"] == "resfit" and row["flags"]["max_drop"] == drop]
        done = [row for row in found if row["artifact"] is not None]
        if not done:
            means.append(
                {"max_drop": drop, "ratio": 0.0, "drop": float("inf"), "goal": goals.get(drop, 0), "met": False}
            )
            continue
        ratio, loss = (statistics.mean(row[key] for row in done) for key in ("ratio", "drop"))
        goal = goals.get(drop, 0.0)
        met = len(done) == len(found) and ratio >= goal and loss <= drop
        means.append({"max_drop": drop, "ratio": ratio, "drop": loss, "goal": goal, "met": met, "seeds": len(done)})
    return means, all(mean["met"] for mean in means)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="a published checkpoint")
    parser.add_argument("data", help="its images, with training and test images")
    parser.add_argument("--drops", type=float, nargs="+", default=list(DROPS), help="allowed, in percentage points")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the calibration")
    parser.add_argument("--epochs", type=int, default=0, help="of training with rounded weights")
    parser.add_argument("--alone", action="store_true", help="resfit alone, without the usual ways beside it")
    parser.add_argument("--nncodec", type=Path, default=None, help="folder in which nncodec 2.1.3 is installed")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
