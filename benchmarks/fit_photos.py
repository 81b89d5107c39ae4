"""Whether a fit keeps its budgets and its time: photographs of five classes at 64 pixels.

    python benchmarks/fit_photos.py DATA [--latency-ms 3] [--file-kb 400] [--time-minutes 8] [--out FOLDER]

Runs `resfit fit` as a user does and writes results/fit_photos.json. Exit 0 when every budget holds and the time is
kept within 10 %, 3 when not.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from record import RESULTS, write_result

import resfit

KEPT = (
    "budgets", "accuracy", "accuracy_interval", "num_images", "model", "artifact", "race", "candidates", "recipe",
    "roles", "fingerprint", "seed", "threads", "engine", "elapsed_seconds", "int8_drop", "basis",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", help="class folders of photographs")
    parser.add_argument("--latency-ms", type=float, default=3)
    parser.add_argument("--file-kb", type=float, default=400)
    parser.add_argument("--time-minutes", type=float, default=8)
    parser.add_argument("--img-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=None)
    options = vars(parser.parse_args())
    result = resfit.fit(options.pop("data"), **options)
    values = {name: result.get(name) for name in KEPT}
    if values["artifact"]:
        values["artifact"] = {**values["artifact"], "path": Path(values["artifact"]["path"]).name}
    limit = 60 * options["time_minutes"]
    in_time = result["elapsed_seconds"] <= 1.1 * limit
    what = f"resfit fit on photographs at {options['img_size']} pixels in {options['time_minutes']:g} minutes"
    rows = [_row(result, limit)]
    write_result(RESULTS / "fit_photos.json", what=what, rows=rows, time_limit_seconds=limit, in_time=in_time, **values)
    print(f"accuracy {result['accuracy']}, {result['elapsed_seconds']:.0f} s of {limit:.0f} s; {result['budgets']}")
    return 0 if in_time and result["exit_code"] == 0 else 3


def _row(result: dict[str, Any], limit: float) -> dict[str, Any]:
    """The figures a reader wants, in one row."""
    artifact = result["artifact"]
    return {
        "network": result["model"],
        "precision": artifact["precision"],
        **{row["name"]: row["measured"] for row in result["budgets"]},
        "accuracy": result["accuracy"],
        "accuracy_interval": result["accuracy_interval"],
        "num_images": result["num_images"],
        "elapsed_seconds": result["elapsed_seconds"],
        "time_limit_seconds": limit,
        "seed": result["seed"],
    }


if __name__ == "__main__":
    sys.exit(main())
