"""What is asked of a measuring process and what it answers: plain data, sent as JSON both ways."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, final

MEASURED_IN_CHILD = ("latency_ms", "memory_bytes", "energy_mj")


@final
@dataclass(frozen=True, kw_only=True)
class Request:
    """One measuring process: which file it opens, through what, and what it measures.

    artifact: path of the file; engine, threads and precision as `open_session` takes them.
    image_shape: (height, width, channels) of the uint8 images the artifact takes.
    quantities: of latency_ms, memory_bytes, energy_mj; accuracy is measured when `labels` is given.
    batch_size: images a timed run; 1 is what a latency budget means.
    warmup, repeats, min_seconds, max_seconds: untimed runs first, then at least `repeats` runs and at least
        `min_seconds` of them; a network so slow that this would pass `max_seconds` is timed on fewer.
    images, labels, logits: .npy files, uint8 NHWC and int64 to read, float32 to write.
    powercap: folder of the energy meter.
    """

    artifact: str
    engine: str
    threads: int | None
    image_shape: tuple[int, int, int]
    quantities: tuple[str, ...]
    precision: str | None = None
    batch_size: int = 1
    warmup: int = 5
    repeats: int = 50
    min_seconds: float = 0.3
    max_seconds: float = 20.0
    images: str | None = None
    labels: str | None = None
    logits: str | None = None
    powercap: str | None = None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Request":
        """The request that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        values["image_shape"] = tuple(values["image_shape"])
        values["quantities"] = tuple(values["quantities"])
        return cls(**values)


@final
@dataclass(frozen=True, kw_only=True)
class Report:
    """What one measuring process saw; None where it was not asked.

    sha256_before, sha256_after: of the file, around everything measured.
    engine, threads, precision: read back from the open session; precision is None where it is the file's.
    load_ms: from the file to a session that can run.
    latencies_ms: every timed run, in order; a run is `batch_size` images.
    idle_bytes: VmHWM with the engine imported and nothing opened; peak_bytes: VmHWM at the end.
    energy_mj: millijoules an image, over `energy_images` images.
    """

    sha256_before: str
    sha256_after: str
    file_bytes: int
    engine: str
    threads: int | None
    precision: str | None = None
    load_ms: float | None = None
    latencies_ms: tuple[float, ...] | None = None
    idle_bytes: int | None = None
    peak_bytes: int | None = None
    energy_mj: float | None = None
    energy_images: int | None = None
    accuracy: float | None = None

    @property
    def memory_bytes(self) -> int | None:
        """What opening and running the file added to the idle process."""
        if self.peak_bytes is None or self.idle_bytes is None:
            return None
        return self.peak_bytes - self.idle_bytes

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Report":
        """The report that `to_json` wrote, parsed."""
        latencies = values.get("latencies_ms")
        return cls(**{**values, "latencies_ms": None if latencies is None else tuple(latencies)})
