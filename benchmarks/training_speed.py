"""How fast resfit trains: beside a bare loop, beside the loop people write, and beside what the processor can do.

    python benchmarks/training_speed.py CIFAR PHOTOS [--cases resnet20 resnet18 resnet50] [--turns 4] [--eager]

CIFAR and PHOTOS are images as resfit reads them; each network trains at its usual size, from them:

    bare     one constant batch through forward, loss, backward and SGD, for each of {fp32, bf16} x {contiguous,
             channels_last}, and {eager, compiled} where a compiler is present (--eager leaves compiled out)
    resfit   `training.loop.train` with data, augmentation, events and a run folder, in what its probe chose
    plain    fp32, contiguous, torch's DataLoader over image files decoded, cropped and flipped by Pillow, with
             none and two workers: the faster counts
    loader   resfit's batches alone

All take turns within one process; a figure is the median step of all turns. Nothing else should be running.
Writes results/training_speed.json.
"""

import argparse
import contextlib
import dataclasses
import io
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from record import RESULTS, run, write_result
from torch import nn

from resfit.data.augment import Augment
from resfit.data.batches import batches
from resfit.data.dataset import Splits
from resfit.data.sources import open_data
from resfit.measure.macs import macs
from resfit.nn.architectures import architecture
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec
from resfit.training.events import Event, Started, StepDone
from resfit.training.loop import train
from resfit.training.recipe import Recipe

WARM_UP = 3  # steps of a turn that do not count
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A network at an image size, from one of the two data sets."""

    network: str
    photos: bool
    size: int
    batch_size: int
    steps: int  # of a turn


CASES = {
    case.network: case
    for case in (
        Case(network="resnet20", photos=False, size=32, batch_size=128, steps=25),
        Case(network="resnet18", photos=True, size=224, batch_size=32, steps=6),
        Case(network="resnet50", photos=True, size=224, batch_size=16, steps=5),
    )
}


def main() -> int:
    arguments = _arguments()
    rows = []
    for name in arguments.cases:
        case = CASES[name]
        splits = open_data(arguments.photos if case.photos else arguments.cifar, img_size=case.size)
        rows.append(_row(case, splits, arguments))
        print({key: value for key, value in rows[-1].items() if not isinstance(value, dict | list)})
    write_result(
        arguments.out,
        what="training speed beside a bare loop, the loop people write, and the processor's GEMM peak",
        threads=torch.get_num_threads(),
        gemm_gflops=gemm_peaks(),
        rows=rows,
    )
    return 0


def _row(case: Case, splits: Splits, arguments: argparse.Namespace) -> dict[str, Any]:
    spec = dataclasses.replace(architecture(case.network), num_classes=len(splits.labels))
    recipe = Recipe(
        batch_size=case.batch_size,
        steps=case.steps,
        threads=arguments.threads,
        compile="eager" if arguments.eager else "auto",
    )
    recipe = _probed(spec, splits, recipe)
    bare = {name: _bare(spec, case, *combination) for name, combination in _combinations(arguments.eager).items()}
    contestants: dict[str, Callable[[], list[float]]] = {
        **{f"bare {name}": lambda step=step: _times(step, case.steps) for name, step in bare.items()},
        "resfit": lambda: _resfit(spec, splits, recipe),
    }
    for workers in (0, 2):
        contestants[f"plain, {workers} workers"] = lambda workers=workers: _plain(spec, splits, case, workers)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _turn in range(arguments.turns):
        for name, turn in contestants.items():
            times[name] += turn()
    speeds = {name: case.batch_size / statistics.median(values) for name, values in times.items()}
    chosen = " ".join((recipe.precision, recipe.memory_format, recipe.compile))
    best = max(value for name, value in speeds.items() if name.startswith("bare"))
    plain = max(value for name, value in speeds.items() if name.startswith("plain"))
    loader = _loader_speed(splits, recipe)
    peak = gemm_peaks()
    # Forward, and backward for weights and for inputs: three times the multiply-accumulates, two operations each
    gflops = speeds["resfit"] * macs(spec, case.size, case.size) * 6 / 1e9
    return {
        "network": case.network,
        "size": case.size,
        "batch_size": case.batch_size,
        "chosen": chosen,
        "resfit_images_per_second": speeds["resfit"],
        "bare_images_per_second": speeds[f"bare {chosen}"],
        "ratio_to_bare": speeds["resfit"] / speeds[f"bare {chosen}"],
        "choice_to_best": speeds[f"bare {chosen}"] / best,
        "plain_images_per_second": plain,
        "ratio_to_plain": speeds["resfit"] / plain,
        "loader_images_per_second": loader,
        "ratio_loader_to_training": loader / speeds["resfit"],
        "gflops": gflops,
        "share_of_gemm_peak": gflops / max(peak.values()),
        "share_of_bf16_peak": gflops / peak["bf16"],
        "time_shares": time_shares(bare[chosen.replace("compiled", "eager")]),
        "speeds": speeds,
        "quartiles": {
            name: [case.batch_size / value for value in statistics.quantiles(values, n=4)]
            for name, values in times.items()
        },
        "data": {"fingerprint": splits.fingerprint},
    }


def _combinations(eager: bool) -> dict[str, tuple[str, str, bool]]:
    compiler = not eager and any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    choices = itertools.product(DTYPES, ("contiguous", "channels_last"), (False, True) if compiler else (False,))
    return {
        f"{precision} {layout} {'compiled' if compiled else 'eager'}": (precision, layout, compiled)
        for precision, layout, compiled in choices
    }


def _probed(spec: ResNetSpec, splits: Splits, recipe: Recipe) -> Recipe:
    """The recipe as `train` resolves it for a long training: the probe's choices, then few steps."""
    decided: list[Recipe] = []

    class Enough(Exception):
        """Ends the training once it is planned."""

    def listen(event: Event) -> None:
        if isinstance(event, Started):
            decided.append(event.recipe)
            raise Enough

    with contextlib.suppress(Enough):
        train(spec, splits, dataclasses.replace(recipe, steps=None, epochs=50), on_event=listen)
    return dataclasses.replace(decided[0], epochs=None, steps=recipe.steps, uncropped_fraction=0.0)


def _bare(spec: ResNetSpec, case: Case, precision: str, layout: str, compiled: bool) -> Callable[[], None]:
    """A step of the plainest loop there is on one constant batch."""
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    torch.manual_seed(0)
    network = ResNet(spec).to(memory_format=memory_format).train()
    images = torch.randn(case.batch_size, 3, case.size, case.size).contiguous(memory_format=memory_format)
    targets = torch.randint(0, spec.num_classes, (case.batch_size,))
    optimizer = _sgd(network)
    forward = torch.compile(network) if compiled else network

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = forward(images)
        _update(logits, targets, optimizer)

    return step


def _sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4, nesterov=True)


def _update(logits: torch.Tensor, targets: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss = nn.functional.cross_entropy(logits.float(), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    loss.item()


KINDS = {
    "convolution": ("convolution",),
    "batch norm": ("batch_norm",),
    "activation": ("relu", "threshold", "clamp"),
    "sum": ("aten::add",),
    "optimiser": ("_foreach", "_fused_sgd"),
}


def time_shares(step: Callable[[], None]) -> dict[str, float]:
    """Shares of a step's processor time by kind of operation, from torch's profiler over three eager steps."""
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(3):
            step()
    seconds = dict.fromkeys((*KINDS, "other"), 0.0)
    for event in profile.key_averages():
        kind = next((kind for kind, words in KINDS.items() if any(word in event.key for word in words)), "other")
        seconds[kind] += event.self_cpu_time_total
    total = sum(seconds.values())
    return {kind: value / total for kind, value in seconds.items()}


def _times(step: Callable[[], None], count: int) -> list[float]:
    for _ in range(WARM_UP):
        step()
    marks = [time.perf_counter()]
    for _ in range(count):
        step()
        marks.append(time.perf_counter())
    return [after - before for before, after in itertools.pairwise(marks)]


def _resfit(spec: ResNetSpec, splits: Splits, recipe: Recipe) -> list[float]:
    marks: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, StepDone):
            marks.append(time.perf_counter())

    assert recipe.steps is not None
    with tempfile.TemporaryDirectory() as folder:
        longer = dataclasses.replace(recipe, steps=recipe.steps + WARM_UP)
        train(spec, splits, longer, folder=Path(folder), on_event=listen)
    return [after - before for before, after in itertools.pairwise(marks[WARM_UP - 1 :])]


class _Files(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """What people write: an image file, decoded, cropped, flipped, normalised, one at a time."""

    def __init__(self, splits: Splits, count: int):
        data, shape = splits.train, splits.preprocessing
        self.size = (shape.width, shape.height)
        self.mean, self.std = np.float32(shape.mean), np.float32(shape.std)
        self.targets = data.targets[:count]
        self.encoded = []
        for index in range(count):
            buffer = io.BytesIO()
            small = max(self.size) <= 64
            Image.fromarray(data.images[index]).save(buffer, *(("PNG",) if small else ("JPEG",)))
            self.encoded.append(buffer.getvalue())

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.open(io.BytesIO(self.encoded[index])).convert("RGB")
        padding = self.size[0] // 8
        left, top = (int(offset) for offset in np.random.randint(0, 2 * padding + 1, 2))
        image = ImageOps.expand(image, padding).crop((left, top, left + self.size[0], top + self.size[1]))
        if np.random.random() < 0.5:
            image = ImageOps.mirror(image)
        pixels = (np.asarray(image, dtype=np.float32) / 255 - self.mean) / self.std
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), int(self.targets[index])


def _plain(spec: ResNetSpec, splits: Splits, case: Case, workers: int) -> list[float]:
    torch.manual_seed(0)
    network = ResNet(spec).train()
    optimizer = _sgd(network)
    files = _Files(splits, min(len(splits.train), case.batch_size * (case.steps + WARM_UP + 1)))
    loader = torch.utils.data.DataLoader(
        files, batch_size=case.batch_size, shuffle=True, num_workers=workers, drop_last=True
    )
    rounds = iter(loader)

    def step() -> None:
        images, targets = next(rounds)
        _update(network(images), targets, optimizer)

    return _times(step, min(case.steps, len(loader) - WARM_UP))


def _loader_speed(splits: Splits, recipe: Recipe) -> float:
    """Images a second of an epoch's batches alone, augmented as in training; the median batch of a few seconds."""
    assert recipe.batch_size is not None
    augment = Augment(crop_padding=recipe.crop_padding or 0, flip=bool(recipe.flip))
    marks = [time.perf_counter()]
    for _ in itertools.takewhile(lambda _: time.perf_counter() - marks[0] < 5, _batches(splits, recipe, augment)):
        marks.append(time.perf_counter())
    return recipe.batch_size / statistics.median(after - before for before, after in itertools.pairwise(marks))


def _batches(splits: Splits, recipe: Recipe, augment: Augment) -> Iterator[object]:
    assert recipe.batch_size is not None
    for epoch in itertools.count():
        yield from batches(splits.train, batch_size=recipe.batch_size, seed=0, epoch=epoch, augment=augment)


def gemm_peaks(size: int = 2048, turns: int = 8) -> dict[str, float]:
    """GFLOP/s of a square matrix product in each precision, the best of some turns."""
    peaks = {}
    for name, dtype in DTYPES.items():
        left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        times = []
        for _ in range(turns):
            started = time.perf_counter()
            left @ right
            times.append(time.perf_counter() - started)
        peaks[name] = 2 * size**3 / min(times) / 1e9
    return peaks


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("cifar", help="CIFAR-10")
    parser.add_argument("photos", help="photographs of several classes")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--eager", action="store_true", help="leave out what takes minutes to compile")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS / "training_speed.json")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
