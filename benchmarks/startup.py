"""How long `import resfit` and `resfit --help` take beyond bare Python.

    python benchmarks/startup.py [--runs 20]

Each is timed turn about with bare Python in new processes; the difference of medians is what counts. Limits: 0.2 s
for the import, 0.3 s for the help. Writes results/startup.json; exit 0 when both hold, 3 when not.
"""

import argparse
import statistics
import subprocess
import sys
import time

from record import RESULTS, write_result

SUBJECTS = {
    "import resfit": (["-c", "import resfit"], 0.2),
    "resfit --help": (["-m", "resfit", "--help"], 0.3),
}
BARE = ["-c", "pass"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in ("bare", *SUBJECTS)}
    for _ in range(runs + 1):
        times["bare"].append(_seconds(BARE))
        for name, (arguments, _limit) in SUBJECTS.items():
            times[name].append(_seconds(arguments))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first warms the caches
    rows = [
        {
            "start": name,
            "seconds_beyond_python": round(medians[name] - medians["bare"], 4),
            "limit_seconds": limit,
            "holds": medians[name] - medians["bare"] <= limit,
        }
        for name, (_, limit) in SUBJECTS.items()
    ]
    what = "seconds that starting resfit takes beyond bare Python, difference of medians"
    write_result(RESULTS / "startup.json", what=what, runs=runs, rows=rows, seconds=times)
    for row in rows:
        print(f"{row['start']}: {row['seconds_beyond_python']:.3f} s beyond Python, limit {row['limit_seconds']} s")
    return 0 if all(row["holds"] for row in rows) else 3


def _seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
