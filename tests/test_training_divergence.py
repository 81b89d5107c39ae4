"""Trainings that break down: the cause is named, and no checkpoint is of broken weights."""

import dataclasses
import math

import pytest
import torch

from resfit.data.sources import open_data
from resfit.model.model import weights_sha256
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec
from resfit.training import run as run_module
from resfit.training.checkpoint import checkpoint_files, load_checkpoint
from resfit.training.divergence import RECENT_STEPS, RISE, LossWatch, where_numbers_end
from resfit.training.loop import train
from resfit.training.recipe import Recipe
from resfit.training.run import Run
from resfit.training.step import first_not_finite
from resfit.training.surroundings import TrainingDiverged

SPEC = ResNetSpec(
    depths=(1, 1), widths=(4, 8), strides=(1, 2), stem="cifar", stem_width=4, num_classes=10, in_channels=1
)
RECIPE = Recipe(epochs=3, batch_size=64, precision="fp32", memory_format="channels_last", compile="eager", threads=1)


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


def _breaking(monkeypatch, at_step, breaks):
    """Lets `breaks(run)` happen before the step after `at_step`."""
    take_step = Run.take_step

    def broken(run, batch, lr):
        if run.step == at_step:
            breaks(run)
        take_step(run, batch, lr)

    monkeypatch.setattr(run_module.Run, "take_step", broken)


def _overflow_activations(run):
    with torch.no_grad():
        run.network.conv1.weight.fill_(1e30)
        run.network.fc.weight.fill_(1e30)


def _poison_a_weight(run):
    with torch.no_grad():
        run.network.get_parameter("layer2.0.conv1.weight")[0] = math.nan


def _poison_a_gradient(run):
    run.network.get_parameter("layer1.0.conv2.weight").register_hook(lambda gradient: gradient * math.inf)


@pytest.mark.parametrize(
    ("breaks", "cause"),
    [
        (_poison_a_weight, r"layer2\.0\.conv1\.weight is not finite"),
        (_poison_a_gradient, r"the gradient of layer1\.0\.conv2\.weight is not finite"),
    ],
)
def test_the_cause_is_named_and_the_last_checkpoint_good(digits, tmp_path, monkeypatch, breaks, cause):
    _breaking(monkeypatch, 30, breaks)
    with pytest.raises(TrainingDiverged, match=cause + r".* at step 31 of 60, at the learning rate") as caught:
        train(SPEC, digits, RECIPE, folder=tmp_path)
    assert "checkpoint of step 20" in str(caught.value)
    assert first_not_finite(load_checkpoint(tmp_path)["network"].items()) is None
    monkeypatch.undo()
    resumed = train(SPEC, digits, folder=tmp_path, resume=True)
    assert weights_sha256(resumed.model) == weights_sha256(train(SPEC, digits, RECIPE).model)


def test_overflowing_activations_are_found(digits, monkeypatch):
    _breaking(monkeypatch, 3, _overflow_activations)
    plain = dataclasses.replace(SPEC, norm="none")
    with pytest.raises(TrainingDiverged, match=r"the loss became (nan|inf) at step 4 .*: the output of \w+ is not"):
        train(plain, digits, RECIPE)


def test_where_numbers_end_names_the_first_part():
    network = ResNet(dataclasses.replace(SPEC, norm="none"))
    inputs = torch.ones(2, 1, 8, 8)
    assert "the loss itself" in where_numbers_end(network, inputs)
    with torch.no_grad():
        network.get_parameter("fc.weight").fill_(1e5)
    assert "the loss itself" in where_numbers_end(network, inputs, "bf16")
    assert "the output of fc" in where_numbers_end(network, inputs, "fp16")
    with torch.no_grad():
        network.get_parameter("layer2.0.conv2.weight").fill_(3e38)
    assert "the output of layer2" in where_numbers_end(network, inputs)
    with torch.no_grad():
        network.get_parameter("layer1.0.conv1.weight").fill_(math.inf)
    assert where_numbers_end(network, inputs) == "layer1.0.conv1.weight is not finite"


@pytest.mark.parametrize("at_step", [19, 59], ids=["at an epoch's end", "at the last step"])
def test_weights_broken_by_an_update_are_never_saved(digits, tmp_path, monkeypatch, at_step):
    refuse = Run.refuse_broken_weights

    def broken(run, lr):
        if run.step == at_step + 1:
            _poison_a_weight(run)
        refuse(run, lr)

    monkeypatch.setattr(run_module.Run, "refuse_broken_weights", broken)
    with pytest.raises(TrainingDiverged, match=r"layer2\.0\.conv1\.weight is not finite after the update at step"):
        train(SPEC, digits, RECIPE, folder=tmp_path)
    assert checkpoint_files(tmp_path)[-1].name == f"step-{at_step + 1 - 20:09d}.pt"
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + (at_step + 1 - 20) // 20


def test_a_loss_that_rises_out_of_bounds_stops_though_it_is_a_number(digits, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=20, optimizer="sgd", momentum=0.0, lr=1000.0, warmup_fraction=0.0)
    plain = dataclasses.replace(SPEC, norm="none", activation="tanh")
    with pytest.raises(TrainingDiverged, match=r"the loss has risen to .* times that of the start, at step") as caught:
        train(plain, digits, recipe, folder=tmp_path)
    assert "--lr 2.5e+02" in str(caught.value)


def test_a_rise_is_judged_by_its_running_mean():
    watch = LossWatch()
    assert [watch.verdict(loss) for loss in [2.3] * 60 + [1000.0, 2.3]] == [None] * 62
    for _ in range(10 * RECENT_STEPS):
        verdict = watch.verdict(2.3 * RISE * 1.2)
        if verdict:
            break
    assert verdict is not None
    half = LossWatch()
    half.restore(watch.to_dict())
    assert half.to_dict() == watch.to_dict()


def test_a_start_from_trained_weights_may_rise():
    watch = LossWatch()
    assert not any(watch.verdict(loss) for loss in [0.001] + [3.0] * 200)
