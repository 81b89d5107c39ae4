"""One compression from beginning to end: open, choose, write, prove."""

import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resfit.compression.agreement import MARGIN, Reference, Selection
from resfit.compression.importance import Importance
from resfit.compression.points import Point, Points
from resfit.compression.prune import prune_to
from resfit.compression.pursuit import Method, pursue
from resfit.compression.rounded_points import Training
from resfit.compression.selection import selection_for
from resfit.compression.wish import Outcome, Wish
from resfit.data.dataset import Splits
from resfit.data.images import Images
from resfit.data.labels import match_labels
from resfit.data.sources import image_shape, open_data
from resfit.engines.artifact import build
from resfit.errors import ResfitError
from resfit.measure.artifact import measure
from resfit.measure.macs import macs, parameters, stages
from resfit.model.load import load
from resfit.model.model import Model, weights_sha256
from resfit.randomness import rng
from resfit.storage import keep_earlier, prepare_folder, sha256_file, write_atomic
from resfit.training.progress import ProgressPrinter

CALIBRATION_IMAGES = 1024
CALIBRATION_BYTES = 1.5e9  # of activations held in memory, roughly
REQUEST = "request.json"
BROKEN = 3


@dataclass(frozen=True, kw_only=True)
class Job:
    """What `resfit compress` was asked for; fields as its flags."""

    source: str
    data: str
    path: Path
    method: Method
    bits: int | None
    codec: str
    speedup: float | None
    importance: Importance
    sparsity: float | None
    epochs: int
    wish: Wish
    img_size: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    split_seed: int
    seed: int
    threads: int | None
    say: Callable[[str], None]

    def run(self) -> dict[str, Any]:
        """The result of the verb, as plain data."""
        with _threads(self.threads):
            original = self._original()
            splits = open_data(
                self.data, preprocessing=original.preprocessing, roles=("train", "validation"),
                split_seed=self.split_seed,
            )  # fmt: skip
            original = _named(original, splits)
            folder = self._work_folder(original, splits)
            selection = selection_for(original, splits, seed=self.seed)
            points = Points(folder, Reference(original, selection), self.codec, self.say)
            base = self._pruned(original, splits, folder)
            calibration = calibration_images(base, splits, seed=self.seed)
            outcome = pursue(
                points, self.wish, self.method, base, calibration, bits=self.bits, seed=self.seed,
                training=self._training(splits, folder), keep_zeros=self.sparsity is not None,
            )  # fmt: skip
        result = {
            **self._facts(original, base, splits, selection, calibration),
            **self._latencies(original, base),
            **_choice(outcome, points),
        }
        if outcome.chosen is None:
            return {**result, "artifact": None, "exit_code": BROKEN}
        proven = self._proven(outcome.chosen, original)
        shutil.rmtree(folder)
        return {**result, **proven}

    @property
    def _prunes(self) -> bool:
        return self.speedup is not None or self.sparsity is not None

    def _original(self) -> Model:
        model = load(self.source, mean=self.mean, std=self.std, img_size=self.img_size)
        foreign = Path(self.source).is_file() and Path(self.source).suffix != ".resfit"
        if foreign and self.img_size is None:
            height, width, _ = image_shape(self.data)
            sized = dataclasses.replace(model.preprocessing, height=height, width=width)
            model = dataclasses.replace(model, preprocessing=sized)
        for note in model.provenance.notes:
            self.say(f"note: {note}")
        return model

    def _pruned(self, original: Model, splits: Splits, folder: Path) -> Model:
        """The model with fewer channels and weights, where that is wished; all epochs are then spent on it."""
        if not self._prunes:
            return original
        return prune_to(
            original,
            splits,
            speedup=self.speedup,
            kind=self.importance,
            sparsity=self.sparsity,
            epochs=self.epochs,
            seed=self.seed,
            threads=self.threads,
            folder=folder / "pruned",
            on_event=ProgressPrinter(),
        )

    def _training(self, splits: Splits, folder: Path) -> Training | None:
        if not self.epochs or self._prunes:
            return None
        return Training(
            splits=splits,
            epochs=self.epochs,
            threads=self.threads,
            folder=folder / "trained",
            on_event=ProgressPrinter(),
        )

    def _latencies(self, original: Model, base: Model) -> dict[str, float | None]:
        """Milliseconds of one image through ONNX Runtime in float32, before and after; measured where channels went."""
        if self.speedup is None:
            return {"latency_ms_before": None, "latency_ms_after": None}
        found = {}
        with tempfile.TemporaryDirectory(prefix="resfit-latency-") as folder:
            for name, model in (("before", original), ("after", base)):
                artifact = build(model, Path(folder, f"{name}.onnx"))
                measured = measure(artifact.path, quantities=("latency_ms",), threads=self.threads)
                found[f"latency_ms_{name}"] = measured.latency_ms
        return found

    def _work_folder(self, original: Model, splits: Splits) -> Path:
        """The folder of an interrupted run of the very same request, or a new one."""
        folder = self.path.with_name(self.path.name + ".work")
        asked = {name: value for name, value in vars(self).items() if name not in ("say", "threads", "path", "wish")}
        request = {**asked, "weights": weights_sha256(original), "fingerprint": splits.fingerprint}
        request = json.loads(json.dumps(request))
        record = folder / REQUEST
        if record.is_file() and _read(record) == request:
            self.say(f"resumes  {folder} holds what an earlier run of this command tried")
            return folder
        folder = prepare_folder(folder)
        write_atomic(record, json.dumps(request, indent=2).encode())
        return folder

    def _facts(
        self, original: Model, base: Model, splits: Splits, selection: Selection, calibration: Images
    ) -> dict[str, Any]:
        preprocessing = original.preprocessing
        size = preprocessing.height, preprocessing.width
        return {
            "model": self.source,
            "data": self.data,
            "method": self.method,
            "codec": self.codec,
            "epochs": self.epochs,
            "speedup": self.speedup,
            "sparsity": self.sparsity,
            "max_drop": self.wish.max_drop,
            "file_kb": None if self.wish.file_bytes is None else self.wish.file_bytes / 1000,
            "parameters": parameters(original.spec),
            "macs_before": macs(original.spec, *size),
            "macs_after": macs(base.spec, *size),
            "selected_on": selection.told,
            "calibrated_on": f"{len(calibration):,} of the train images ({splits.sources['train']})",
            "allowed_estimate": None if self.wish.max_drop is None else self.wish.allowed,
            "margin": None if self.wish.max_drop is None else MARGIN * self.wish.max_drop,
            "roles": splits.roles(),
            "seeds": {"seed": self.seed, "split_seed": self.split_seed},
        }

    def _proven(self, chosen: Point, original: Model) -> dict[str, Any]:
        """Accuracies of both, each read from its file by a new process; the file is in its place if the gate holds."""
        before, after = self._evaluated(self.source), self._evaluated(str(chosen.path))
        drop = 100 * (before["accuracy"] - after["accuracy"])
        holds = self.wish.max_drop is None or drop <= self.wish.max_drop + 1e-9
        path = self.path if holds else self.path.with_name(f"{self.path.stem}.rejected{self.path.suffix}")
        keep_earlier(path)
        write_atomic(path, chosen.path.read_bytes())
        if not holds:
            self.say(f"the drop of {drop:.2f} points is more than {self.wish.max_drop:g}: the file is {path}")
        size = path.stat().st_size
        return {
            "artifact": {"path": str(path), "file_bytes": size, "sha256": sha256_file(path)},
            "ratio": 4 * parameters(original.spec) / size,
            "accuracy_before": before["accuracy"],
            "accuracy_after": after["accuracy"],
            "accuracy_after_interval": after["accuracy_interval"],
            "drop": drop,
            "num_images": after["num_images"],
            "tested_on": after["source"],
            "binding": [] if holds else ["max_drop"],
            "nearest": [] if holds else [chosen.to_dict()],
            "exit_code": 0 if holds else BROKEN,
        }

    def _evaluated(self, source: str) -> dict[str, Any]:
        flags: dict[str, Any] = {"split-seed": self.split_seed, "threads": self.threads}
        if source == self.source:
            flags |= {"img-size": self.img_size, "mean": self.mean, "std": self.std}
        words = [sys.executable, "-m", "resfit", "evaluate", source, self.data, "--json"]
        for name, value in flags.items():
            if value is not None:
                words += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ResfitError(f"{source} could not be evaluated: {done.stderr.strip()}")
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def calibration_images(model: Model, splits: Splits, *, seed: int) -> Images:
    """Training images drawn with the seed, as many as their activations fit into memory."""
    rows = stages(model.spec, model.preprocessing.height, model.preprocessing.width)
    largest = max(int(np.prod(row["output_shape"])) for row in rows)
    count = int(min(CALIBRATION_IMAGES, max(64, CALIBRATION_BYTES / (32 * largest))))
    order = rng(seed, "calibration").permutation(len(splits.train))[:count]
    return splits.train.images[np.sort(order)]


def _choice(outcome: Outcome, points: Points) -> dict[str, Any]:
    tried = [point.to_dict() for point in points.tried]
    steps = [] if outcome.chosen is None else [outcome.chosen.to_dict()]
    return {
        "steps": steps,
        "points": tried,
        "binding": list(outcome.binding),
        "nearest": [point.to_dict() for point in outcome.nearest],
    }


def _named(model: Model, splits: Splits) -> Model:
    """A model whose classes are only numbered takes the data's names, as evaluate does."""
    unnamed = model.labels == tuple(str(index) for index in range(len(model.labels)))
    match_labels(splits.validation, () if unnamed else model.labels, num_classes=len(model.labels))
    return dataclasses.replace(model, labels=splits.labels) if unnamed else model


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
