"""What every result file says besides its figures: command, commit, time, machine."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from resfit.errors import ResfitError
from resfit.measure.machine import machine
from resfit.storage import write_atomic

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "results"


def write_result(path: Path, *, what: str, **values: Any) -> None:
    """Write results/NAME.json: what was measured, how to measure it again, and the values."""
    head: Mapping[str, Any] = {
        "what": what,
        "command": command(),
        "commit": commit(),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }
    write_atomic(path, (json.dumps({**head, **values}, indent=2, ensure_ascii=False) + "\n").encode())


def command() -> str:
    """The command line, with absolute paths shortened to their last part."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def commit() -> str:
    """The commit, with a plus where files differ from it."""
    run = ["git", "-C", str(PROJECT)]
    head = subprocess.run([*run, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*run, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def run(main: Callable[[], int]) -> NoReturn:
    """End the script with what `main` returns, or with the message and code of the error a user can meet."""
    try:
        sys.exit(main())
    except ResfitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
