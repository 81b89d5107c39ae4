"""Going on: with other data (refused), with more epochs, after a full disk."""

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_trainings import RECIPE, SPEC, assert_same

from resfit.data.dataset import Splits
from resfit.data.sources import open_data
from resfit.errors import UsageError
from resfit.model.model import weights_sha256
from resfit.training.distillation import Teacher
from resfit.training.loop import train
from resfit.training.schedule import learning_rate
from resfit.training.surroundings import Interrupted


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """(result, folder) of the training that is never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return train(SPEC, digits, RECIPE, folder=folder), folder


def _images(splits, keep, labels_from=None):
    """The splits with only the training images at `keep`."""
    train = splits.train.subset(keep)
    if labels_from is not None:
        train = dataclasses.replace(train, targets=labels_from, fingerprint="relabelled")
    return Splits(
        train=train, validation=splits.validation, test=splits.test, labels=splits.labels, sources=splits.sources,
        preprocessing=splits.preprocessing,
    )  # fmt: skip


def test_changed_data_is_refused_with_what_changed(digits, whole, tmp_path):
    _, folder = whole
    count = len(digits.train)
    fewer = _images(digits, np.arange(2, count))
    gone = digits.train.name(0)
    with pytest.raises(UsageError, match=rf"train changed: 2 removed: train .*{re.escape(gone)}") as caught:
        train(SPEC, fewer, folder=folder, resume=True)
    assert "added" not in str(caught.value)
    targets = digits.train.targets.copy()
    targets[5] = (targets[5] + 1) % 10
    other = re.escape(digits.train.name(5))
    with pytest.raises(UsageError, match=f"1 with another label: train {other}"):
        train(SPEC, _images(digits, np.arange(count), targets), folder=folder, resume=True)
    part = tmp_path / "part"
    train(SPEC, fewer, dataclasses.replace(RECIPE, epochs=1), folder=part)
    with pytest.raises(UsageError, match="2 added: train"):
        train(SPEC, digits, folder=part, resume=True)


def test_a_changed_picture_is_named(shapes_folder, tmp_path):
    pictures = tmp_path / "pictures"
    shutil.copytree(shapes_folder, pictures)
    spec = dataclasses.replace(SPEC, num_classes=3, in_channels=3)
    train(spec, open_data(pictures), dataclasses.replace(RECIPE, epochs=1, batch_size=16), folder=tmp_path / "r")
    changed = pictures / "red" / "0.png"
    shutil.copy(pictures / "red" / "1.png", changed)
    (pictures / "blue" / "0.png").rename(pictures / "blue" / "new.png")
    with pytest.raises(UsageError, match="other images") as caught:
        train(spec, open_data(pictures), folder=tmp_path / "r", resume=True)
    text = str(caught.value)
    assert re.search(r"1 added: \w+ .*new\.png", text)
    assert re.search(r"1 removed: \w+ .*blue/0\.png", text)
    assert re.search(r"1 changed: \w+ .*red/0\.png", text)


def test_more_epochs_plan_the_rest_twice_the_same(digits, whole, tmp_path):
    finished, folder = whole
    results = []
    for number in range(2):
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        results.append(train(SPEC, digits, folder=copy, resume=True, epochs=5))
    first, second = results
    assert weights_sha256(first.model) == weights_sha256(second.model) != weights_sha256(finished.model)
    assert first.recipe == second.recipe
    assert first.recipe.extensions == ((60, 100),)
    assert first.epochs == 5
    assert first.history[:3] == finished.history
    assert [row["lr"] for row in first.history[3:]] == pytest.approx(
        [learning_rate(first.recipe, (step - 0.5) / 100) for step in (80, 100)]
    )
    assert first.history[3]["lr"] > 10 * first.history[2]["lr"]


def test_more_epochs_may_be_stopped_and_asked_for_again(digits, tmp_path):
    with pytest.raises(Interrupted):
        train(SPEC, digits, RECIPE, folder=tmp_path, stop_after_step=25)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy)
    expected = train(SPEC, digits, folder=copy, resume=True, epochs=4)
    assert expected.recipe.extensions == ((25, 80),)
    with pytest.raises(Interrupted, match="of 80"):
        train(SPEC, digits, folder=tmp_path, resume=True, epochs=4, stop_after_step=50)
    again = train(SPEC, digits, folder=tmp_path, resume=True, epochs=4)
    assert again.recipe == expected.recipe
    assert weights_sha256(again.model) == weights_sha256(expected.model)
    # Written down, it replays from the start
    replayed = train(SPEC, digits, expected.recipe)
    assert weights_sha256(replayed.model) == weights_sha256(expected.model)


FULL_DISK = """
import os, resource, sys
sys.path.insert(0, sys.argv[1])
from small_trainings import RECIPE, SPEC
from pathlib import Path
from resfit.data.sources import open_data
from resfit.training.checkpoint import CheckpointLost
from resfit.training.distillation import Teacher
from resfit.training.events import EpochDone
from resfit.training.loop import train

def fill(event):
    if isinstance(event, EpochDone) and event.epoch == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

try:
    train(SPEC, open_data("digits"), RECIPE, folder=Path(sys.argv[2]), on_event=fill)
except CheckpointLost as error:
    print(error)
else:
    sys.exit("the disk was not full")
"""


def test_a_full_disk_loses_nothing(digits, whole, tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "the checkpoint of step 40 could not be written" in done.stdout
    assert f"`resfit train --resume {tmp_path}` goes on from step 20" in done.stdout
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        "step-000000000.pt",
        "step-000000020.pt",
    ]
    assert_same(train(SPEC, digits, folder=tmp_path, resume=True), tmp_path, whole)


def test_metrics_that_a_kill_left_behind_are_written_again(digits, whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole[1], folder)
    (folder / "metrics.csv").unlink()
    (folder / "recipe.json").unlink()
    assert_same(train(SPEC, digits, folder=folder, resume=True), folder, whole)


def test_a_teacher_must_be_the_same_on_resume(digits, whole, tmp_path):
    first = Teacher(whole[0].model, preprocessing=digits.preprocessing, labels=digits.labels)
    recipe = dataclasses.replace(RECIPE, epochs=1, distill_weight=0.5)
    expected = train(SPEC, digits, recipe, teacher=first)
    with pytest.raises(Interrupted):
        train(SPEC, digits, recipe, folder=tmp_path, teacher=first, stop_after_step=7)
    other = Teacher(expected.model, preprocessing=digits.preprocessing, labels=digits.labels)
    with pytest.raises(UsageError, match="another teacher"):
        train(SPEC, digits, folder=tmp_path, resume=True, teacher=other)
    resumed = train(SPEC, digits, folder=tmp_path, resume=True, teacher=first)
    assert weights_sha256(resumed.model) == weights_sha256(expected.model)
