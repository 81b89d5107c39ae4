"""Stopping and going on: weights bit for bit those of a training that never stopped."""

import csv
import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resfit.data.sources import open_data
from resfit.errors import ModelError, UsageError
from resfit.model.model import weights_sha256
from resfit.nn.spec import ResNetSpec
from resfit.randomness import rng
from resfit.training.checkpoint import checkpoint_files
from resfit.training.events import StepDone
from resfit.training.loop import train
from resfit.training.recipe import Recipe
from resfit.training.surroundings import Interrupted

SPEC = ResNetSpec(
    depths=(1, 1),
    widths=(8, 16),
    strides=(1, 2),
    stem="cifar",
    stem_width=8,
    num_classes=10,
    in_channels=1,
    dropout=0.1,
    drop_path=0.2,
)
RECIPE = Recipe(
    epochs=3,
    batch_size=64,
    precision="fp32",
    memory_format="channels_last",
    threads=1,
    ema_decay=0.9,
    flip=True,
    crop_padding=1,
)
TIMING = ("images_per_second", "elapsed")


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """(result, folder) of the training that is never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return train(SPEC, digits, RECIPE, folder=folder), folder


def _rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name not in TIMING} for row in csv.DictReader(file)]


def _assert_same(result, folder: Path, whole) -> None:
    expected, expected_folder = whole
    assert weights_sha256(result.model) == weights_sha256(expected.model)
    assert _rows(folder) == _rows(expected_folder)
    assert len(_rows(folder)) == 3
    assert result.recipe == expected.recipe


@pytest.mark.parametrize("step", [1, 20, 60, *rng(0, "stops").integers(2, 60, 3).tolist()])
def test_stop_and_resume(digits, whole, tmp_path, step):
    with pytest.raises(Interrupted, match=f"after step {step} of 60") as caught:
        train(SPEC, digits, RECIPE, folder=tmp_path, stop_after_step=step)
    assert "--resume" in str(caught.value)
    _assert_same(train(SPEC, digits, folder=tmp_path, resume=True), tmp_path, whole)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_resume_carries_the_optimiser(digits, tmp_path, optimizer):
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, precision="bf16", ema_decay=None, epochs=2)
    expected = train(SPEC, digits, recipe)
    for stop in (11, 27):
        with pytest.raises(Interrupted):
            train(SPEC, digits, recipe, folder=tmp_path, resume=stop > 11, stop_after_step=stop)
    result = train(SPEC, digits, folder=tmp_path, resume=True)
    assert weights_sha256(result.model) == weights_sha256(expected.model)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_training_resume import RECIPE, SPEC
from pathlib import Path
from resfit.data.sources import open_data
from resfit.training.events import StepDone
from resfit.training.loop import train

def kill(event):
    if isinstance(event, StepDone) and event.step == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

train(SPEC, open_data("digits"), RECIPE, folder=Path(sys.argv[2]), on_event=kill)
"""


def test_kill_9_and_resume(digits, whole, tmp_path):
    step = int(rng(0, "kill").integers(21, 60))
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path), str(step)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert checkpoint_files(tmp_path)[-1].name == f"step-{(step - 1) // 20 * 20:09d}.pt"
    _assert_same(train(SPEC, digits, folder=tmp_path, resume=True), tmp_path, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(digits, whole, tmp_path, number):
    before = signal.getsignal(number)

    def press(event):
        if isinstance(event, StepDone) and event.step == 30:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted) as caught:
        train(SPEC, digits, RECIPE, folder=tmp_path, on_event=press)
    assert caught.value.exit_code == 130
    assert signal.getsignal(number) is before
    assert checkpoint_files(tmp_path)[-1].name == "step-000000030.pt"
    _assert_same(train(SPEC, digits, folder=tmp_path, resume=True), tmp_path, whole)


def test_a_second_ctrl_c_stops_at_once(digits):
    def press_twice(event):
        if isinstance(event, StepDone):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(SPEC, digits, RECIPE, on_event=press_twice)


def test_a_finished_training_resumes_to_its_result(digits, whole):
    expected, folder = whole
    result = train(SPEC, digits, folder=folder, resume=True)
    assert weights_sha256(result.model) == weights_sha256(expected.model)
    assert result.history == expected.history


def test_a_plan_by_time_resumes_within_its_epochs(digits, tmp_path):
    with pytest.raises(Interrupted):
        train(SPEC, digits, RECIPE, folder=tmp_path, stop_after_step=5, max_seconds=120)
    result = train(SPEC, digits, folder=tmp_path, resume=True, max_seconds=120)
    assert result.steps == result.recipe.total_steps(20) <= 60


def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(digits, whole, tmp_path):
    with pytest.raises(Interrupted):
        train(SPEC, digits, RECIPE, folder=tmp_path, stop_after_step=40)
    last = checkpoint_files(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:1000])
    _assert_same(train(SPEC, digits, folder=tmp_path, resume=True), tmp_path, whole)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile-ran",)


def test_pickled_objects_are_not_loaded(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    torch.save({"format": 1, "spec": Hostile()}, tmp_path / "checkpoints" / "step-000000001.pt")
    with pytest.raises(ModelError, match=r"step-000000001\.pt"):
        train(SPEC, digits, folder=tmp_path, resume=True)
    assert not (tmp_path / "hostile-ran").exists()


def test_what_cannot_be_resumed_is_named(digits, whole, tmp_path):
    _, folder = whole
    with pytest.raises(UsageError, match="no checkpoint to resume from"):
        train(SPEC, digits, folder=tmp_path, resume=True)
    with pytest.raises(UsageError, match="another network"):
        train(dataclasses.replace(SPEC, widths=(8, 8)), digits, folder=folder, resume=True)
    with pytest.raises(UsageError, match="other images"):
        train(SPEC, open_data("digits", split_seed=1), folder=folder, resume=True)
    with pytest.raises(UsageError, match="earlier training"):
        train(SPEC, digits, RECIPE, folder=folder)
