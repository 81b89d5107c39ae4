"""Training itself: what it learns, what it writes, what it leaves behind in its process."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch

from resfit.data.dataset import ArrayDataset, Splits
from resfit.data.sources import open_data
from resfit.errors import UsageError
from resfit.metrics.classification import accuracy
from resfit.model.model import weights_sha256
from resfit.nn.architectures import architecture
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec
from resfit.training.events import EpochDone, Started, StepDone
from resfit.training.loop import train
from resfit.training.progress import ProgressPrinter, clock
from resfit.training.recipe import Recipe
from resfit.training.step import InputLayer, WeightAverage, network_logits
from resfit.training.surroundings import TrainingDiverged

TINY = ResNetSpec(
    depths=(1, 1), widths=(8, 16), strides=(1, 2), stem="cifar", stem_width=8, num_classes=10, in_channels=1
)
STEPS = 20  # of an epoch of the digits at batch size 64
QUICK = Recipe(epochs=2, batch_size=64, precision="fp32", memory_format="channels_last", threads=1)


@pytest.fixture(scope="module")
def digits() -> Splits:
    return open_data("digits")


def _test_accuracy(model, splits: Splits) -> float:
    logits = network_logits(model.module(), splits.test, InputLayer(splits.preprocessing, "contiguous"))
    return accuracy(logits, splits.test.targets)


def test_the_default_recipe_learns_the_digits_in_ten_epochs(digits):
    spec = dataclasses.replace(architecture("resnet8"), in_channels=1)
    result = train(spec, digits, dataclasses.replace(QUICK, epochs=10, batch_size=None, seed=1))
    assert _test_accuracy(result.model, digits) > 0.97
    assert result.history[-1]["validation_accuracy"] > 0.95
    assert result.epochs == 10
    assert result.model.provenance.trained
    assert result.model.provenance.recipe == result.recipe.to_dict()
    assert set(result.model.provenance.data["roles"]) == {"train", "validation", "test"}
    assert result.model.provenance.data["fingerprint"] == digits.fingerprint


@pytest.mark.parametrize(("precision", "threads"), [("fp32", 1), ("bf16", 1), ("fp32", 2)])
def test_same_recipe_same_weights(digits, precision, threads):
    recipe = dataclasses.replace(QUICK, precision=precision, threads=threads, epochs=1)
    first, second = (train(TINY, digits, recipe) for _ in range(2))
    assert weights_sha256(first.model) == weights_sha256(second.model)
    other = train(TINY, digits, dataclasses.replace(recipe, seed=1))
    assert weights_sha256(other.model) != weights_sha256(first.model)


def test_random_state_threads_and_kernels_are_as_before(digits):
    torch.manual_seed(5)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    recipe = dataclasses.replace(QUICK, steps=3, epochs=None, threads=threads + 1)
    train(dataclasses.replace(TINY, dropout=0.1), digits, recipe)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_caller_s_random_state_does_not_matter(digits):
    spec, recipe = dataclasses.replace(TINY, dropout=0.2, drop_path=0.2), QUICK
    torch.manual_seed(1)
    first = train(spec, digits, recipe)
    torch.manual_seed(2)
    assert weights_sha256(train(spec, digits, recipe).model) == weights_sha256(first.model)


def test_the_probe_s_answer_is_written_and_replays(digits):
    result = train(TINY, digits, Recipe(steps=20, threads=1))
    assert result.recipe.precision in ("fp32", "bf16")
    assert result.recipe.memory_format in ("contiguous", "channels_last")
    again = train(TINY, digits, Recipe.from_dict(result.model.provenance.recipe))
    assert again.recipe == result.recipe
    assert weights_sha256(again.model) == weights_sha256(result.model)


def test_a_time_becomes_steps_that_replay(digits):
    result = train(TINY, digits, dataclasses.replace(QUICK, epochs=None), max_seconds=3)
    assert result.recipe.steps is not None
    assert result.recipe.epochs is None
    assert result.steps == result.recipe.total_steps(STEPS) >= 1
    again = train(TINY, digits, result.recipe)
    assert again.steps == result.steps
    assert weights_sha256(again.model) == weights_sha256(result.model)


def test_epochs_bound_what_a_time_allows(digits):
    result = train(TINY, digits, dataclasses.replace(QUICK, epochs=1), max_seconds=600)
    assert result.epochs == 1


def test_steps_may_end_within_an_epoch(digits):
    result = train(TINY, digits, dataclasses.replace(QUICK, epochs=None, steps=26))
    assert [row["step"] for row in result.history] == [20, 26]
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert result.epochs == pytest.approx(26 / STEPS)
    assert result.history[-1]["lr"] < 0.01 * result.recipe.lr


def test_the_folder_holds_recipe_metrics_and_two_checkpoints(digits, tmp_path):
    result = train(TINY, digits, dataclasses.replace(QUICK, epochs=4), folder=tmp_path)
    assert Recipe.from_dict(json.loads((tmp_path / "recipe.json").read_text())) == result.recipe
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["validation_accuracy"]) for row in rows] == [row["validation_accuracy"] for row in result.history]
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000000060.pt", "step-000000080.pt"]


def test_events_tell_every_step_and_epoch(digits):
    events = []
    train(TINY, digits, QUICK, on_event=events.append)
    assert isinstance(events[0], Started)
    assert [event.step for event in events if isinstance(event, StepDone)] == list(range(1, 41))
    epochs = [event for event in events if isinstance(event, EpochDone)]
    assert [event.step for event in epochs] == [20, 40]
    losses = [event.loss for event in events if isinstance(event, StepDone)]
    assert epochs[1].loss == pytest.approx(np.mean(losses[20:]))
    assert epochs[1].seconds_left == 0


def test_given_weights_are_the_start(digits):
    start = ResNet(TINY).state_dict()
    recipe = dataclasses.replace(QUICK, epochs=None, steps=1, lr=1e-9)
    result = train(TINY, digits, recipe, init_weights=start)
    assert torch.allclose(result.model.weights["conv1.weight"], start["conv1.weight"], atol=1e-6)


def test_average_is_published_when_asked_for(digits):
    recipe = dataclasses.replace(QUICK, ema_decay=0.9)
    averaged, last = train(TINY, digits, recipe), train(TINY, digits, QUICK)
    assert weights_sha256(averaged.model) != weights_sha256(last.model)
    assert averaged.history[-1]["loss"] == last.history[-1]["loss"]


def test_average_is_the_exponential_one():
    network = torch.nn.BatchNorm1d(1)
    average = WeightAverage(network, 0.5)
    expected = 1.0
    for step, value in enumerate((2.0, 4.0, -1.0), start=1):
        torch.nn.init.constant_(network.weight, value)
        average.update(network, step)
        decay = min(0.5, step / (step + 10))
        expected = decay * expected + (1 - decay) * value
    assert average.state["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_adamw_and_smoothing_train(digits):
    recipe = dataclasses.replace(QUICK, epochs=6, optimizer="adamw", label_smoothing=0.1, lr=0.01)
    assert train(TINY, digits, recipe).history[-1]["validation_accuracy"] > 0.8


def test_a_loss_that_is_no_number_names_step_and_rate(digits, tmp_path):
    recipe = dataclasses.replace(QUICK, lr=1000.0, warmup_fraction=0.0, epochs=20)
    plain = dataclasses.replace(TINY, norm="none")
    with pytest.raises(
        TrainingDiverged, match=r"the (loss|gradient).* became .* at step \d+ of 400, .* rate 1e\+03"
    ) as caught:
        train(plain, digits, recipe, folder=tmp_path)
    assert caught.value.code == "diverged"
    assert caught.value.hint is not None
    assert "--lr 2.5e+02" in caught.value.hint
    assert list((tmp_path / "checkpoints").glob("step-*.pt"))


def test_fewer_images_than_a_batch(digits):
    with pytest.raises(UsageError, match="fewer than one batch"):
        train(TINY, digits, dataclasses.replace(QUICK, batch_size=5000))


def test_input_layer_normalises_as_stated(digits):
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    preprocessing = dataclasses.replace(digits.preprocessing, channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
    expected = ((images / 255 - preprocessing.mean) / preprocessing.std).transpose(0, 3, 1, 2)
    for memory_format in ("contiguous", "channels_last"):
        inputs = InputLayer(preprocessing, memory_format)(images)
        np.testing.assert_allclose(inputs.numpy(), expected, atol=1e-5)


def test_progress_is_plain_lines_away_from_a_terminal(digits, capsys):
    train(TINY, digits, QUICK, on_event=ProgressPrinter())
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0].startswith("training on ")
    assert [line.split("  ")[0] for line in lines[1:]] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert "\r" not in captured.err


def test_clock():
    assert [clock(seconds) for seconds in (0, 65, 3665, -3)] == ["0:00", "1:05", "1:01:05", "0:00"]


def test_one_image_a_class_and_colour(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    labels = tuple(f"class {index}" for index in range(10))
    dataset = ArrayDataset(images=images, targets=np.arange(10), labels=labels)
    from resfit.data.preprocessing import Preprocessing

    preprocessing = Preprocessing(height=16, width=16, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    splits = Splits(
        train=dataset, validation=dataset, test=None, labels=labels, sources={}, preprocessing=preprocessing
    )
    spec = dataclasses.replace(TINY, in_channels=3)
    result = train(spec, splits, dataclasses.replace(QUICK, batch_size=None), folder=tmp_path)
    assert result.recipe.batch_size == 2
    assert result.steps == 10


def test_the_default_rate_looks_at_the_network_s_width(digits):
    recipe = Recipe(steps=1, batch_size=32, precision="fp32", memory_format="channels_last", compile="eager")
    narrow, wide, bottleneck = (
        dataclasses.replace(architecture("resnet8"), widths=(16, 32, width), num_classes=10, in_channels=1, block=block)
        for width, block in ((64, "basic"), (128, "basic"), (256, "bottleneck"))
    )
    rates = [train(spec, digits, recipe).recipe.lr for spec in (narrow, wide, bottleneck)]
    assert rates == pytest.approx([0.1, 0.05, 0.1])
