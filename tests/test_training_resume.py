"""Stopping and going on: weights bit for bit those of a training that never stopped."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_trainings import RECIPE, RICH, SPEC, assert_same

from resfit.data.sources import open_data
from resfit.errors import ModelError, UsageError
from resfit.model.model import weights_sha256
from resfit.randomness import rng
from resfit.training.checkpoint import checkpoint_files
from resfit.training.events import StepDone
from resfit.training.loop import train
from resfit.training.surroundings import Interrupted


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """(result, folder) of the training that is never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return train(SPEC, digits, RECIPE, folder=folder), folder


@pytest.mark.parametrize("step", [1, 20, 60, *rng(0, "stops").integers(2, 60, 3).tolist()])
def test_stop_and_resume(digits, whole, tmp_path, step):
    with pytest.raises(Interrupted, match=f"after step {step} of 60") as caught:
        train(SPEC, digits, RECIPE, folder=tmp_path, stop_after_step=step)
    assert "--resume" in str(caught.value)
    assert_same(train(SPEC, digits, folder=tmp_path, resume=True), tmp_path, whole)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_resume_carries_the_optimiser(digits, tmp_path, optimizer):
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, precision="bf16", ema_decay=None, epochs=2)
    expected = train(SPEC, digits, recipe)
    for stop in (11, 27):
        with pytest.raises(Interrupted):
            train(SPEC, digits, recipe, folder=tmp_path, resume=stop > 11, stop_after_step=stop)
    result = train(SPEC, digits, folder=tmp_path, resume=True)
    assert weights_sha256(result.model) == weights_sha256(expected.model)


KILLS = 20

# Forks are of a process that has not trained yet: torch's autograd does not survive a fork
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import torch
from small_trainings import SPEC
from test_training_resume import KILL_RECIPES, kill_steps
from pathlib import Path
from resfit.data.sources import open_data
from resfit.training.distillation import Teacher
from resfit.training.events import StepDone
from resfit.training.history import TIMING
from resfit.training.loop import train
from resfit.training.surroundings import reproducible

torch.set_num_threads(1)
digits = open_data("digits")
with reproducible():  # what this imports would else be imported in every fork
    pass
for number, step in enumerate(kill_steps()):
    child = os.fork()
    if not child:
        def kill(event):
            if isinstance(event, StepDone) and event.step == step:
                os.kill(os.getpid(), signal.SIGKILL)

        train(SPEC, digits, KILL_RECIPES[number % 2], folder=Path(sys.argv[2], str(number)), on_event=kill)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (number, step, status)
"""


KILL_RECIPES = (dataclasses.replace(RECIPE, epochs=2, batch_size=128), RICH)


def kill_steps() -> list[int]:
    """The steps of 20 trainings of 2 epochs of 10 steps after which they are killed."""
    return rng(0, "kill").integers(1, 20, KILLS).tolist()


def _run_killed(code: str, folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_kill_9_at_twenty_random_steps(digits, tmp_path):
    wholes = []
    for number, recipe in enumerate(KILL_RECIPES):
        folder = tmp_path / f"whole {number}"
        wholes.append((train(SPEC, digits, recipe, folder=folder), folder))
    _run_killed(KILLED, tmp_path)
    for number, step in enumerate(kill_steps()):
        folder = tmp_path / str(number)
        assert checkpoint_files(folder)[-1].name == f"step-{step // 10 * 10 if step % 10 else step - 10:09d}.pt"
        assert_same(train(SPEC, digits, folder=folder, resume=True), folder, wholes[number % 2])


KILLED_WHILE_SAVING = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from small_trainings import RECIPE, SPEC
from pathlib import Path
from resfit.data.sources import open_data
from resfit.training.loop import train

def kill(source, target, replace=os.replace):
    if target.name == "step-000000040.pt":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

if os.fork() == 0:
    os.replace = kill
    train(SPEC, open_data("digits"), RECIPE, folder=Path(sys.argv[2]))
os.wait()
"""


def test_kill_9_while_a_checkpoint_is_written(digits, whole, tmp_path):
    _run_killed(KILLED_WHILE_SAVING, tmp_path)
    assert checkpoint_files(tmp_path)[-1].name == "step-000000020.pt"
    assert list((tmp_path / "checkpoints").glob(".step-*.partial"))
    assert_same(train(SPEC, digits, folder=tmp_path, resume=True), tmp_path, whole)
    assert not list((tmp_path / "checkpoints").glob(".*"))


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
    assert_same(train(SPEC, digits, folder=tmp_path, resume=True), tmp_path, whole)


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
    assert_same(train(SPEC, digits, folder=tmp_path, resume=True), tmp_path, whole)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile-ran",)


def test_pickled_objects_are_not_loaded(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    torch.save({"format": 2, "spec": Hostile()}, tmp_path / "checkpoints" / "step-000000001.pt")
    with pytest.raises(ModelError, match=r"step-000000001\.pt"):
        train(SPEC, digits, folder=tmp_path, resume=True)
    assert not (tmp_path / "hostile-ran").exists()


def test_what_cannot_be_resumed_is_named(digits, whole, tmp_path):
    _, folder = whole
    with pytest.raises(UsageError, match="no checkpoint to resume from"):
        train(SPEC, digits, folder=tmp_path, resume=True)
    with pytest.raises(UsageError, match="another network"):
        train(dataclasses.replace(SPEC, widths=(8, 8)), digits, folder=folder, resume=True)
    with pytest.raises(UsageError, match="size or normalised"):
        train(SPEC, open_data("digits", normalize="none"), folder=folder, resume=True)
    with pytest.raises(UsageError, match="3 epochs behind it, and --epochs is 2"):
        train(SPEC, digits, folder=folder, resume=True, epochs=2)
    with pytest.raises(UsageError, match="earlier training"):
        train(SPEC, digits, RECIPE, folder=folder)
