"""A memory limit: what is chosen for it, and that the real process keeps to it."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_trainings import RECIPE, SPEC

from resfit.data.sources import open_data
from resfit.errors import ResfitError
from resfit.measure.memory import forget_peak, memory_bytes, peak_memory_bytes
from resfit.training import memory
from resfit.training.events import MemoryPlanned
from resfit.training.memory import MemoryTooSmall, Tried, micro_batches_to_try, planned_memory
from resfit.training.progress import ProgressPrinter

MB = 1_000_000


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


@pytest.fixture
def limited(monkeypatch, digits):
    """planned_memory with peaks that a function of (micro-batch, recomputing) gives, in MB, in place of a child's."""

    def plan(peak, *, limit, batch_size=64, **changes):
        events = []

        def tries(_spec, _splits, recipe, _teacher, limit, *, activation_checkpointing):
            found = []
            for size in micro_batches_to_try(recipe.batch_size):
                peak_bytes = peak(size, activation_checkpointing) * MB
                found.append(
                    Tried(micro_batch=size, activation_checkpointing=activation_checkpointing, peak_bytes=peak_bytes)
                )
                if peak_bytes > limit:
                    break
            return found

        monkeypatch.setattr(memory, "_try", tries)
        recipe = dataclasses.replace(RECIPE, batch_size=batch_size, train_memory_mb=limit, **changes)
        return planned_memory(SPEC, digits, recipe, None, events.append), events

    return plan


def test_halves_of_the_batch_down_to_two():
    assert micro_batches_to_try(64) == [2, 4, 8, 16, 32, 64]
    assert micro_batches_to_try(100) == [2, 4, 7, 13, 25, 50, 100]
    assert micro_batches_to_try(3) == [2, 3]
    assert micro_batches_to_try(2) == [2]


@pytest.mark.parametrize(
    ("limit", "micro_batch", "recomputed"),
    [
        (2000, 64, False),
        (739, 32, False),  # 740 MB are those of the whole batch
        (420, 32, False),
        (260, 16, False),
        (200, 16, True),  # plain 180 for 8 images, recomputed 180 for 16
        (125, 4, True),
    ],
)
def test_the_largest_micro_batch_and_recomputing_only_below_sixteen(limited, limit, micro_batch, recomputed):
    recipe, events = limited(lambda size, twice: 100 + size * (5 if twice else 10), limit=limit)
    assert (recipe.micro_batch, recipe.activation_checkpointing) == (micro_batch, recomputed)
    assert recipe.batch_size == 64
    (event,) = events
    assert isinstance(event, MemoryPlanned)
    assert event.predicted_bytes <= event.limit_bytes == limit * MB


def test_a_compiled_training_is_not_recomputed(limited):
    recipe, _ = limited(lambda size, twice: 100 + size * (5 if twice else 10), limit=185, compile="compiled")
    assert (recipe.micro_batch, recipe.activation_checkpointing) == (8, False)


def test_an_impossible_limit_names_the_least_that_would_do(limited):
    with pytest.raises(MemoryTooSmall, match=r"8 x 8 cannot keep to 100 MB") as caught:
        limited(lambda size, twice: 100 + size * (5 if twice else 10), limit=100)
    assert "--train-memory-mb 110 is the least" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_written_micro_batch_is_followed(digits):
    written = dataclasses.replace(RECIPE, train_memory_mb=5.0, micro_batch=16)
    assert planned_memory(SPEC, digits, written, None, None) is written
    assert planned_memory(SPEC, digits, RECIPE, None, None) is RECIPE


def test_a_peak_can_be_forgotten():
    block = np.ones(40 * MB, dtype=np.uint8)
    assert peak_memory_bytes() >= memory_bytes() >= block.nbytes
    before = peak_memory_bytes()
    del block
    forget_peak()
    assert peak_memory_bytes() < before - 30 * MB


def test_a_child_that_fails_says_why(digits):
    recipe = dataclasses.replace(RECIPE, train_memory_mb=5000.0, batch_size=64)
    broken = dataclasses.replace(SPEC)
    object.__setattr__(broken, "stem", "none such")
    with pytest.raises(ResfitError, match=r"memory failed: .*none such"):
        planned_memory(broken, digits, recipe, None, None)


def test_what_is_planned_is_told(capsys):
    event = MemoryPlanned(
        limit_bytes=500 * MB, predicted_bytes=450 * MB, batch_size=64, micro_batch=8, activation_checkpointing=True
    )
    ProgressPrinter()(event)
    line = capsys.readouterr().err
    assert "450 of 500 MB" in line
    assert "8 of a batch's 64 images at a time" in line
    assert "batch norm sees each part alone" in line
    assert "computed twice" in line


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Class folders of 160 pictures of noise, 64 x 64 pixels."""
    folder = tmp_path_factory.mktemp("data") / "noise"
    noise = np.random.default_rng(0)
    for label in ("one", "other"):
        (folder / label).mkdir(parents=True)
        for number in range(80):
            pixels = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def _train(pictures: Path, out: Path, limit: int) -> tuple["subprocess.CompletedProcess[str]", int]:
    """A training in a process of its own, and the highest VmHWM that was seen of it from outside."""
    command = [
        sys.executable, "-m", "resfit", "train", str(pictures), "--model", "resnet8", "--epochs", "1",
        "--batch-size", "64", "--precision", "fp32", "--memory-format", "channels_last", "--compile", "eager",
        "--threads", "1", "--train-memory-mb", str(limit), "--out", str(out), "--json",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    seen = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        seen = max([seen, *(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))])
        time.sleep(0.02)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, output, errors), seen


def test_the_real_process_keeps_to_its_limit(pictures, tmp_path):
    done, seen = _train(pictures, tmp_path / "r", 520)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["recipe"]["micro_batch"] < result["recipe"]["batch_size"] == 64
    assert max(seen, result["peak_memory_bytes"]) <= 520 * MB
    assert seen <= result["peak_memory_bytes"] + MB  # the answer is written after it is read
    assert result["peak_memory_bytes"] > 0.7 * 520 * MB
    assert "images at a time" in done.stderr
    assert json.loads((tmp_path / "r" / "recipe.json").read_text()) == result["recipe"]


def test_a_limit_that_cannot_be_kept_ends_with_exit_3(pictures, tmp_path):
    done, _ = _train(pictures, tmp_path / "r", 250)
    assert done.returncode == 3
    error = json.loads(done.stdout)
    assert error["error"] == "memory-too-small"
    assert "is the least that would do" in error["hint"]
    assert not list((tmp_path / "r").glob("checkpoints/*"))
