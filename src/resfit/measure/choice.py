"""Which engine runs an artifact fastest here: measured once, and kept with the machine it was measured on."""

import dataclasses
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

from resfit.engines.artifact import ENGINES, engines_for, open_session
from resfit.engines.session import Session, resolve_threads
from resfit.errors import EngineError, ResfitError
from resfit.measure.artifact import request_for, run_child
from resfit.measure.machine import machine
from resfit.storage import sha256_file, write_atomic

AUTO = "auto"
KEPT_FILE = "engines.json"
KEPT_CHOICES = 500
ROUNDS = 2
WARMUP, REPEATS = 3, 10


@final
@dataclass(frozen=True, kw_only=True)
class Choice:
    """An engine, and what it was chosen from.

    latencies_ms: of each engine that ran, the lower of the medians of two processes, for `batch_size` images.
    refused: why each of the others did not. machine: the fingerprint. sha256: the artifact's.
    threads: as resolved. precision: as asked for, None for the artifact's own. measured: when, in UTC.
    """

    engine: str
    latencies_ms: Mapping[str, float]
    refused: Mapping[str, str]
    machine: str
    sha256: str
    threads: int
    precision: str | None
    batch_size: int
    measured: str

    @property
    def reason(self) -> str:
        """Why this engine, in a sentence."""
        images = "an image" if self.batch_size == 1 else f"{self.batch_size} images"
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        others = [f"{value:.3g} ms ({name})" for name, value in self.latencies_ms.items() if name != self.engine]
        against = f" against {', '.join(others)}" if others else ", the only engine that ran it"
        absent = "".join(f"; {name}: {why}" for name, why in self.refused.items())
        own = self.latencies_ms[self.engine]
        return f"{self.engine}: {own:.3g} ms for {images} with {threads}{against}, measured {self.measured}{absent}"

    def answers(self, asked: Mapping[str, Any]) -> bool:
        """Whether this is the choice for that artifact, machine, thread count, precision and batch size."""
        return all(getattr(self, name) == value for name, value in asked.items())


def open_chosen(
    artifact: str | Path,
    *,
    engine: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
    batch_size: int = 1,
) -> tuple[Session, str | None]:
    """A session on an artifact in the engine asked for, and where the engine was chosen by measuring, why it.

    engine: a name; "auto", the fastest here, which is measured first where no choice is kept; or None, the kept
    choice where there is one, else the default of the format: it takes no time.
    """
    choice = None
    if engine == AUTO:
        choice = choose_engine(artifact, threads=threads, precision=precision, batch_size=batch_size)
    elif engine is None:
        choice = kept_choice(artifact, threads=threads, precision=precision, batch_size=batch_size)
    session = open_session(artifact, engine=choice.engine if choice else engine, threads=threads, precision=precision)
    return session, choice.reason if choice else None


def choose_engine(
    artifact: str | Path, *, threads: int | None = None, precision: str | None = None, batch_size: int = 1
) -> Choice:
    """The engine that runs an artifact fastest on this machine: the kept choice, or measured now and kept.

    Each engine that opens the format runs in processes of its own, turn about. EngineError where none can.
    """
    kept = kept_choice(artifact, threads=threads, precision=precision, batch_size=batch_size)
    if kept is not None:
        return kept
    able = engines_for(artifact)
    print(f"measuring {Path(artifact).name} in {', '.join(able)}", file=sys.stderr)
    latencies, refused = _measured(artifact, able, threads, precision, batch_size)
    if not latencies:
        raise EngineError(
            f"no engine here runs {artifact}: " + "; ".join(f"{name}: {why}" for name, why in refused.items())
        )
    choice = Choice(
        engine=min(latencies, key=lambda name: latencies[name]),
        latencies_ms=latencies,
        refused=refused,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        **_asked(artifact, threads, precision, batch_size),
    )
    _keep(choice)
    return choice


def kept_choice(
    artifact: str | Path, *, threads: int | None = None, precision: str | None = None, batch_size: int = 1
) -> Choice | None:
    """The choice that was measured on this machine for this very file and these settings, if one was."""
    kept = _kept()
    if not kept:
        return None
    asked = _asked(artifact, threads, precision, batch_size)
    able = engines_for(artifact)
    return next((choice for choice in reversed(kept) if choice.answers(asked) and choice.engine in able), None)


def _asked(artifact: str | Path, threads: int | None, precision: str | None, batch_size: int) -> dict[str, Any]:
    return {
        "machine": machine()["fingerprint"],
        "sha256": sha256_file(Path(artifact)),
        "threads": resolve_threads(threads),
        "precision": precision,
        "batch_size": batch_size,
    }


def _measured(
    artifact: str | Path, engines: Sequence[str], threads: int | None, precision: str | None, batch_size: int
) -> tuple[dict[str, float], dict[str, str]]:
    """Milliseconds a run of each engine that can, and why each other cannot."""
    latencies: dict[str, float] = {}
    refused: dict[str, str] = {}
    for _ in range(ROUNDS):
        for engine in engines:
            if engine in refused:
                continue
            request = request_for(
                artifact, engine=engine, threads=threads, precision=precision, batch_size=batch_size,
                quantities=("latency_ms",), warmup=WARMUP, repeats=REPEATS,
            )  # fmt: skip
            try:
                median = statistics.median(run_child(request).latencies_ms or ())
            except ResfitError as error:
                refused[engine] = error.message
                latencies.pop(engine, None)
                continue
            latencies[engine] = min(median, latencies.get(engine, median))
    return latencies, refused


def _place() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resfit" / KEPT_FILE


def _kept() -> list[Choice]:
    """All choices in the file, oldest first; none where it is absent or not what `_keep` writes."""
    try:
        rows = json.loads(_place().read_text(encoding="utf-8"))
        choices = [Choice(**row) for row in rows]
    except (OSError, ValueError, TypeError):
        return []
    return [choice for choice in choices if _sound(choice)]


def _sound(choice: Choice) -> bool:
    """Whether a row of the file, which anybody may have edited, is a choice."""
    latencies = choice.latencies_ms
    return (
        choice.engine in ENGINES
        and isinstance(latencies, dict)
        and choice.engine in latencies
        and all(isinstance(value, int | float) for value in latencies.values())
        and isinstance(choice.refused, dict)
    )


def _keep(choice: Choice) -> None:
    """Add a choice to the file; where it cannot be written, standard error says so, and the choice is made anew."""
    rows = [dataclasses.asdict(one) for one in (*_kept()[1 - KEPT_CHOICES :], choice)]
    try:
        write_atomic(_place(), (json.dumps(rows, indent=1) + "\n").encode())
    except OSError as error:
        print(f"the choice of an engine is not kept: {_place()}: {error.strerror or error}", file=sys.stderr)
