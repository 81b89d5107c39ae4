"""Points that a compression has tried: each a file, what it weighs, and how far its answers are from the original's.

They are kept in a folder while the compression runs, so that an interrupted one goes on where it stopped.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resfit.compression.agreement import Agreement, Reference
from resfit.model.container import load_container, save_container
from resfit.model.model import Model
from resfit.storage import read_json, sha256_file, write_atomic

RECORD = "points.json"

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One file that was tried. settings: what made it, plain data; agreement: of the model as the file holds it."""

    settings: Settings
    path: Path
    file_bytes: int
    agreement: Agreement

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the path of a file that is about to go."""
        return {**self.settings, "file_bytes": self.file_bytes, **self.agreement.to_dict()}


class Points:
    """The points of one request, each once, in the order tried; a point asked for again is not made again."""

    def __init__(self, folder: Path, reference: Reference, codec: str, say: Callable[[str], None]):
        self._folder, self._reference, self._codec, self._say = folder, reference, codec, say
        self.tried: list[Point] = []
        kept = read_json(folder / RECORD)
        self._kept: dict[str, Any] = kept if isinstance(kept, dict) else {}

    def point(self, settings: Settings, make: Callable[[], Model]) -> Point:
        """The point of these settings: as it was measured before, or made, written, read back and measured."""
        made_of = [self._codec, self._reference.selected_on, dict(settings)]
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
        path = self._folder / f"{key}.resfit"
        for earlier in self.tried:
            if earlier.path == path:
                return earlier
        point = self._again(key, path, settings)
        if point is None:
            save_container(make(), path, codec=self._codec)
            point = Point(
                settings=dict(settings),
                path=path,
                file_bytes=path.stat().st_size,
                agreement=self._reference.agreement(load_container(path)),
            )
            self._keep(key, point)
        self.tried.append(point)
        told = ", ".join(f"{name} {_told(value)}" for name, value in settings.items() if name != "step")
        self._say(
            f"tried    {settings['step']} {told}: {point.file_bytes / 1000:,.1f} kB, "
            f"about {point.agreement.estimated_drop:.2f} points lost"
        )
        return point

    def _again(self, key: str, path: Path, settings: Settings) -> Point | None:
        try:
            kept = self._kept[key]
            agreement = Agreement(**kept["agreement"])
            if sha256_file(path) != kept["sha256"]:
                return None
        except (KeyError, TypeError, OSError):  # never kept, or damaged since
            return None
        return Point(settings=dict(settings), path=path, file_bytes=path.stat().st_size, agreement=agreement)

    def _keep(self, key: str, point: Point) -> None:
        self._kept[key] = {"sha256": sha256_file(point.path), "agreement": vars(point.agreement)}
        write_atomic(self._folder / RECORD, json.dumps(self._kept, indent=2).encode())


def _told(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
