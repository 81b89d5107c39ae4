"""nncodec 2.1.3 (ISO/IEC 15938-17, Fraunhofer HHI) on the same network, its quantiser steps chosen by the same rule.

It runs in processes of its own, which import it from the folder named, with torchvision's operators declared where
they do not load. It gets the weights with their batch norms folded, as resfit rounds them, and the network as it was,
whose tensors have more even scales; the better file counts. It decodes its own file.
"""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import safetensors.numpy
import torch

from resfit.compression.agreement import Reference, allowed_estimate
from resfit.compression.selection import selection_for
from resfit.data.sources import open_data
from resfit.measure.macs import parameters
from resfit.model.fold import fold
from resfit.model.load import load
from resfit.model.model import Model
from resfit.model.run_folder import save

UNUSED = ("pandas", "h5py", "flwr", "wandb", "sentencepiece", "tensorflow", "cv2")
STEPS = (-36, -34, -32, -30, -28, -26, -25, -24, -23, -22, -20, -18)  # "qp": a greater one means coarser steps


def nncodec_rows(model: str, data: str, drops: Sequence[float], installed: Path, folder: Path) -> list[dict[str, Any]]:
    """A row for each allowed drop: the smallest file whose answers agree well enough, and what it is worth."""
    original = load(model, img_size=32)
    splits = open_data(data, preprocessing=original.preprocessing, roles=("train", "validation"))
    reference = Reference(original, selection_for(original, splits, seed=0))
    points = []
    for form, model_given in {"folded": fold(original), "with its norms": original}.items():
        for step in STEPS:
            file, decoded = _coded(model_given, step, installed, folder)
            flags = {"qp": step, "given": form}
            points.append((flags, file.stat().st_size, reference.agreement(decoded), decoded))
    rows = []
    for drop in drops:
        kept = [point for point in points if point[2].estimated_drop <= allowed_estimate(drop)]
        if kept:
            rows.append(_row(drop, min(kept, key=lambda point: point[1]), model, original, data, folder))
    return rows


def _row(
    drop: float, point: tuple[dict[str, Any], int, Any, Model], source: str, original: Model, data: str, folder: Path
) -> dict[str, Any]:
    flags, file_bytes, agreement, decoded = point
    run = folder / f"nncodec-{drop:g}"
    save(dataclasses.replace(decoded, labels=original.labels), run)
    before, after = (_accuracy(each, data) for each in (source, str(run)))
    ratio = 4 * parameters(original.spec) / file_bytes
    print(f"{'nncodec 2.1.3':26} {ratio:6.2f}x  drop {100 * (before - after):5.2f} (allowed {drop:g})", flush=True)
    return {
        "name": "nncodec 2.1.3", "flags": {"max_drop": drop, **flags},
        "ratio": ratio, "drop": 100 * (before - after),
        "accuracy_before": before, "accuracy_after": after, "artifact": {"file_bytes": file_bytes},
        "agreement": agreement.to_dict(),
    }  # fmt: skip


def _coded(model: Model, step: int, installed: Path, folder: Path) -> tuple[Path, Model]:
    """Its file, and the model that it decodes from it."""
    source, file, target = (folder / f"nncodec{step}{suffix}" for suffix in (".in", ".nnc", ".out"))
    given = {name: tensor for name, tensor in model.weights.items() if tensor.is_floating_point()}
    safetensors.numpy.save_file({name: tensor.numpy() for name, tensor in given.items()}, source)
    for action in ("encode", "decode"):
        words = [sys.executable, __file__, json.dumps([action, *map(str, (installed, source, file, target)), step])]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    decoded = {name: torch.from_numpy(array) for name, array in safetensors.numpy.load_file(target).items()}
    weights = {name: decoded[name].reshape(tensor.shape).to(tensor.dtype) for name, tensor in given.items()}
    return file, dataclasses.replace(model, weights={**model.weights, **weights})


def _accuracy(source: str, data: str) -> float:
    words = [sys.executable, "-m", "resfit", "evaluate", source, data, "--json"]
    return float(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)["accuracy"])


def _work(action: str, installed: str, source: str, file: str, target: str, step: int) -> None:
    """What the child does: code the tensors of a file, or decode what was coded."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    for name in UNUSED:  # imported for its data sets and applications, which coding does not touch
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = MagicMock(__spec__=ModuleSpec(name, None))
    sys.path.append(installed)
    from nncodec.nn import decode, encode

    if action == "encode":
        tensors = {name: np.ascontiguousarray(array) for name, array in safetensors.numpy.load_file(source).items()}
        settings = {"qp": step, "results": str(Path(file).parent), "verbose": False}
        Path(file).write_bytes(bytes(encode(tensors, args=settings)))
    else:
        found = decode(bytearray(Path(file).read_bytes()))
        arrays = {name: np.ascontiguousarray(np.asarray(value), np.float32) for name, value in found.items()}
        safetensors.numpy.save_file(arrays, target)


if __name__ == "__main__":
    _work(*json.loads(sys.argv[1]))
