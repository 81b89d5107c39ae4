"""One compression from beginning to end: open, choose, write, prove."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resfit import __version__
from resfit.coding.codecs import CODECS
from resfit.compression.agreement import MARGIN, Reference, Selection
from resfit.compression.importance import Importance
from resfit.compression.points import Point, Points
from resfit.compression.prune import prune_to
from resfit.compression.pursuit import Method, pursue
from resfit.compression.rounded_points import Training
from resfit.compression.selection import selection_for
from resfit.compression.side_by_side import few_images
from resfit.compression.wish import Outcome, Wish
from resfit.data.dataset import Splits
from resfit.data.images import Images
from resfit.engines.artifact import build
from resfit.errors import UsageError
from resfit.measure.artifact import measure
from resfit.measure.macs import macs, parameters
from resfit.model.container import save_container
from resfit.model.model import Model, weights_sha256
from resfit.storage import keep_earlier, prepare_folder, read_json, sha256_file, write_atomic
from resfit.training.progress import ProgressPrinter
from resfit.verbs import compress_proof
from resfit.verbs.compress_inputs import Inputs, open_inputs

REQUEST = "request.json"
ORIGINAL = "original.resfit"
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
    width_multiple: int
    sparsity: float | None
    epochs: int
    wish: Wish
    img_size: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    split_seed: int | None
    max_unreadable: float | None
    seed: int
    threads: int | None
    say: Callable[[str], None]

    def run(self) -> dict[str, Any]:
        """The result of the verb, as plain data."""
        CODECS[self.codec].encode([])  # one whose library is missing says so before the work
        with _threads(self.threads):
            inputs = open_inputs(
                self.source, self.data, img_size=self.img_size, mean=self.mean, std=self.std,
                split_seed=self.split_seed, max_unreadable=self.max_unreadable,
            )  # fmt: skip
            if self.epochs and not inputs.original.provenance.trained:
                raise UsageError(
                    f"{self.source} is untrained, and --epochs has a smaller network learn from its answers",
                    hint="train it first, or leave --epochs out",
                )
            for note in inputs.notes:
                self.say(f"note: {note}")
            folder = self._work_folder(inputs)
            try:
                result = self._compressed(inputs, folder)
            except KeyboardInterrupt as error:
                raise KeyboardInterrupt(f"interrupted; the same command goes on with what {folder} holds") from error
            if result["work_folder"] is None:  # what it was for is in place, and nothing is to go on
                shutil.rmtree(folder.resolve())
            return result

    def _compressed(self, inputs: Inputs, folder: Path) -> dict[str, Any]:
        original, splits = inputs.original, inputs.splits
        selection = selection_for(original, splits, seed=self.seed)
        points = Points(folder, Reference(original, selection), self.codec, self.say)
        base = self._pruned(original, splits, folder)
        calibration = few_images(base, splits.train.images, seed=self.seed)
        outcome = pursue(
            points, self.wish, self.method, base, calibration, bits=self.bits, seed=self.seed,
            training=self._training(splits, folder), changed=self._prunes, keep_zeros=self.sparsity is not None,
        )  # fmt: skip
        result = {
            **self._asked(inputs),
            **self._facts(inputs, base, selection, calibration),
            **self._latencies(original, base),
            **_choice(outcome, points),
        }
        if outcome.chosen is None:
            nothing = {"artifact": None, "ratio": None, **compress_proof.unproven()}
            return {**result, **nothing, "work_folder": str(folder), "exit_code": BROKEN}
        proven = self._proven(outcome.chosen, inputs, folder)
        return {**result, **proven, "work_folder": str(folder) if proven["exit_code"] else None}

    @property
    def _prunes(self) -> bool:
        return self.speedup is not None or self.sparsity is not None

    def _pruned(self, original: Model, splits: Splits, folder: Path) -> Model:
        """The model with fewer channels and weights, where that is wished; all epochs are then spent on it."""
        if not self._prunes:
            return original
        if self.speedup is not None:
            self.say(f"prunes   to {self.speedup:g} times fewer multiply-accumulates")
        return prune_to(
            original,
            splits,
            speedup=self.speedup,
            kind=self.importance,
            multiple=self.width_multiple,
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

    def _work_folder(self, inputs: Inputs) -> Path:
        """The folder of an interrupted run of the very same request, or a new one."""
        folder = self.path.with_name(self.path.name + ".work")
        asked = {name: value for name, value in vars(self).items() if name not in ("say", "threads", "path", "wish")}
        request = {
            **asked,
            "split_seed": inputs.split_seed,
            "max_unreadable": inputs.max_unreadable,
            "weights": weights_sha256(inputs.original),
            "spec": inputs.original.spec.to_dict(),
            "preprocessing": inputs.original.preprocessing.to_dict(),
            "labels": inputs.original.labels,
            "fingerprint": inputs.splits.fingerprint,
            "resfit": __version__,  # another version may choose, round and train otherwise
        }
        request = json.loads(json.dumps(request))
        record = folder / REQUEST
        if record.is_file() and read_json(record) == request:
            self.say(f"resumes  {folder} holds what an earlier run of this command tried")
            return folder
        folder = prepare_folder(folder)
        write_atomic(record, json.dumps(request, indent=2).encode())
        return folder

    def _asked(self, inputs: Inputs) -> dict[str, Any]:
        """Every flag as it was given, or as the model and the machine decided it: enough to do the same again."""
        return {
            "model": self.source,
            "data": self.data,
            "out": str(self.path),
            "method": self.method,
            "bits": self.bits,
            "codec": self.codec,
            "epochs": self.epochs,
            "speedup": self.speedup,
            "importance": None if self.speedup is None else self.importance,
            "width_multiple": None if self.speedup is None else self.width_multiple,
            "sparsity": self.sparsity,
            "max_drop": self.wish.max_drop,
            "file_kb": None if self.wish.file_bytes is None else self.wish.file_bytes / 1000,
            "img_size": self.img_size,
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
            "max_unreadable": inputs.max_unreadable,
            "threads": torch.get_num_threads(),
            "seeds": {"seed": self.seed, "split_seed": inputs.split_seed},
        }

    def _facts(self, inputs: Inputs, base: Model, selection: Selection, calibration: Images) -> dict[str, Any]:
        original, preprocessing = inputs.original, inputs.original.preprocessing
        size = preprocessing.height, preprocessing.width
        return {
            "trained": original.provenance.trained,
            "notes": list(inputs.notes),
            "preprocessing": preprocessing.to_dict(),
            "parameters": parameters(original.spec),
            "macs_before": macs(original.spec, *size),
            "macs_after": macs(base.spec, *size),
            "selected_on": selection.told,
            "calibrated_on": f"{len(calibration):,} of the train images ({inputs.splits.sources['train']})",
            "allowed_estimate": None if self.wish.max_drop is None else self.wish.allowed,
            "margin": None if self.wish.max_drop is None else MARGIN * self.wish.max_drop,
            "roles": inputs.roles,
        }

    def _proven(self, chosen: Point, inputs: Inputs, folder: Path) -> dict[str, Any]:
        """Accuracies of both, each read from its file by a new process; the file is in its place if the gate holds."""
        save_container(inputs.original, folder / ORIGINAL, codec="raw")  # without loss, so that both are opened alike
        before, after = (self._evaluated(path, inputs) for path in (folder / ORIGINAL, chosen.path))
        notes = list(dict.fromkeys((*inputs.notes, *before["notes"], *after["notes"])))
        for note in notes[len(inputs.notes) :]:
            self.say(f"note: {note}")
        proof = compress_proof.proof(before, after)
        holds = self.wish.max_drop is None or proof["drop"] <= self.wish.max_drop + 1e-9
        path = self.path if holds else self.path.with_name(f"{self.path.stem}.rejected{self.path.suffix}")
        keep_earlier(path)
        write_atomic(path, chosen.path.read_bytes())
        if not holds:
            self.say(f"the drop of {proof['drop']:.2f} points is more than {self.wish.max_drop:g}: the file is {path}")
        size = path.stat().st_size
        return {
            "artifact": {"path": str(path), "file_bytes": size, "sha256": sha256_file(path)},
            "ratio": 4 * parameters(inputs.original.spec) / size,
            **proof,
            "notes": notes,
            "binding": [] if holds else ["max_drop"],
            "nearest": [] if holds else [chosen.to_dict()],
            "exit_code": 0 if holds else BROKEN,
        }

    def _evaluated(self, path: Path, inputs: Inputs) -> dict[str, Any]:
        return compress_proof.evaluated(
            path, self.data, split_seed=inputs.split_seed, max_unreadable=inputs.test_unreadable, threads=self.threads
        )


def _choice(outcome: Outcome, points: Points) -> dict[str, Any]:
    tried = [point.to_dict() for point in points.tried]
    steps = [] if outcome.chosen is None else [outcome.chosen.to_dict()]
    return {
        "steps": steps,
        "points": tried,
        "binding": list(outcome.binding),
        "nearest": [point.to_dict() for point in outcome.nearest],
    }


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
